"""Comparison of an exported model with the checkpoint that it was exported from, on the same clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import FLOW_ZERO_LEVEL, STREAM_CHANNELS, ClipBatch, Stream
from datamodules.encoding.synthetic_scenes import MOTIONS, draw_scene, render_scene
from lightning_modules import VideoClassifier
from pipeline.classify.linear_head import LinearHead
from pipeline.classify.packed_videos import find_inputs
from pipeline.classify.video_input import FORWARD_BYTES, Preprocessing, choose_clips
from pipeline.exported_models.exported_classifier import ExportedClassifier
from pipeline.exported_models.model_folder import ModelDescription, ProgramPrecision

TOLERANCE: dict[ProgramPrecision, float] = {"float32": 1e-4, "float16": 1e-2}  # of probabilities
_RELATIVE_TOLERANCE = 10  # times those, of the second output
_NUM_VIDEOS = 4  # evenly spaced among those given
_CLIPS_PER_VIDEO = 2


class VerificationClips(NamedTuple):
    """Clips to compare on.

    Attributes:
        clips: uint8 (N, T, H, W, C).
        source: where they are from, in words.
    """

    clips: Tensor
    source: str


class Verification(NamedTuple):
    """Result of a comparison.

    Attributes:
        num_clips: number of clips.
        source: where they are from, in words.
        largest_difference: of the probabilities of all classes and clips.
        relative_difference: the largest of the second output (logits or features), as a fraction of its largest value:
            what probabilities that hardly differ between classes do not show.
    """

    num_clips: int
    source: str
    largest_difference: float
    relative_difference: float


def read_clips(videos: Sequence[str], preprocessing: Preprocessing) -> VerificationClips:
    """Reads clips of videos, which are video files, folders of them, or folders of packed datasets.

    Raises:
        DecodeError: a video cannot be decoded.
        FileNotFoundError: there are no such files.
    """
    inputs = list(find_inputs(videos))
    chosen = [inputs[place] for place in np.unique(np.linspace(0, len(inputs) - 1, _NUM_VIDEOS).round().astype(int))]
    clips = []
    for video in chosen:
        of_video = choose_clips(preprocessing, preprocessing.open_frames(video))
        places = np.unique(np.linspace(0, len(of_video.frame_numbers) - 1, _CLIPS_PER_VIDEO).round().astype(int))
        clips.append(of_video._replace(frame_numbers=of_video.frame_numbers[places]).decode_all())
    names = " ".join(Path(path).name for path in videos)  # where they lie is nobody else's business
    return VerificationClips(torch.cat(clips), f"{len(chosen)} of the videos in {names}")


def draw_clips(num_frames: int, crop_size: int, stream: Stream = "rgb") -> VerificationClips:
    """Draws synthetic clips of moving patches, four of them, where no videos are given; of flow its zero and noise."""
    generator = np.random.default_rng(0)
    clips = [
        np.stack(list(render_scene(draw_scene(motion, generator, 1.0), num_frames, crop_size, crop_size)))
        for motion in list(MOTIONS)[:_NUM_VIDEOS]
    ]
    drawn = np.stack(clips)
    if stream != "rgb":
        levels = generator.normal(FLOW_ZERO_LEVEL, 10, (*drawn.shape[:-1], STREAM_CHANNELS["flow"]))
        flow = levels.clip(1, 255).astype(np.uint8)
        drawn = flow if stream == "flow" else np.concatenate([drawn, flow], axis=-1)
    return VerificationClips(torch.from_numpy(drawn), "synthetic clips")


def compare_with_checkpoint(
    exported: ExportedClassifier, reference: VideoClassifier | LinearHead, clips: VerificationClips
) -> Verification:
    """Compares probabilities: of all clips together, of one alone, and of a longer one where length is variable.

    Each clip counts as a video. The probabilities of the program itself are compared, and those that `classify` and
    `evaluate` compute with it.

    Args:
        exported: the exported model, opened.
        reference: the network of the checkpoint, or the linear classifier on it.
        clips: the clips.
    """
    batches = [clips.clips, clips.clips[:1]]
    if exported.description.variable_frames:
        batches.append(clips.clips[:1].repeat(1, 2, 1, 1, 1))
    differences, relative = [], []
    for group in batches:
        batch = ClipBatch.from_clips_of_videos([clip[None] for clip in group])
        for model in (exported, reference):
            model.views_at_once = max(1, FORWARD_BYTES // (4 * group[0].numel()))
        with torch.inference_mode():
            expected = reference.video_scores(batch).cpu()
            averaged = reference.view_means(batch) if isinstance(reference, LinearHead) else reference(batch)
            direct, found = exported.run(batch)
            differences += [_largest(scores - expected) for scores in (exported.video_scores(batch), direct)]
        relative.append(_largest(found - averaged) / max(_largest(averaged), 1e-6))
    return Verification(len(clips.clips), clips.source, _largest(differences), _largest(relative))


def _largest(values: Tensor | Sequence[float]) -> float:
    """The largest absolute value; infinite if one is not a number."""
    return float(torch.as_tensor(values).abs().nan_to_num(nan=torch.inf).max())


def refuse_difference(found: Verification, description: ModelDescription, checkpoint: Path) -> None:
    """Raises ValueError if the outputs differ by more than the precision explains."""
    tolerance = TOLERANCE[description.precision]
    if found.largest_difference > tolerance:
        difference = f"probabilities differ from those of {checkpoint} by {found.largest_difference:.1e}"
        allowed = f"{tolerance:.0e}"
    elif found.relative_difference > _RELATIVE_TOLERANCE * tolerance:
        difference = f"{description.averaged} differ from those of {checkpoint} by {found.relative_difference:.1e} "
        difference += "of the largest"
        allowed = f"{_RELATIVE_TOLERANCE * tolerance:.0e}"
    else:
        return
    raise ValueError(
        f"the program's {difference} on {found.num_clips} clips ({found.source}), and {allowed} is allowed in "
        f"{description.precision}; nothing was written"
    )
