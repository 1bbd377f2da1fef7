"""`python -m pipeline describe`: captions of video files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from datamodules.loading.loader_options import DecoderOptions
from datamodules.storage.plain_text import printable
from datamodules.video.decoding import Source
from lightning_modules import VideoDescriber
from pipeline.classify.packed_videos import find_inputs
from pipeline.classify.video_input import (
    VideoClips,
    VideoFileOptions,
    choose_clips,
    preprocessing_of,
    process_videos,
)
from pipeline.inference.inference_options import CheckpointOptions
from pipeline.inference.trained_checkpoint import open_checkpoint


@dataclass(frozen=True)
class DescribeOptions(CheckpointOptions, DecoderOptions, VideoFileOptions):  # the fields of the last base come first
    """Options of `describe`.

    Attributes:
        checkpoint: file that `fit` wrote.
        beam_size: hypotheses that beam search keeps, 1 is greedy; default: the checkpoint's.
        json: print one JSON object per line instead: video, caption and log_probability, or error.
    """

    checkpoint: Path
    beam_size: int | None = None
    json: bool = False

    def check(self) -> None:
        """Raises ValueError if beam_size is less than 1."""
        self.require_at_least(1, "beam_size")


def describe(options: DescribeOptions) -> None:
    """Caption video files with a checkpoint of a VideoDescriber.

    The network encodes `num_clips` clips spread over a video, as in its training, and decodes their mean.

    Args:
        options: videos, network and output.

    Raises:
        FileNotFoundError: a video or the checkpoint does not exist.
        ValueError: a checkpoint of another network; or some videos could not be decoded, raised after all others were
            described.
    """
    paths = list(find_inputs(options.videos))
    trained = open_checkpoint(options.checkpoint, options.allow, VideoDescriber)
    model = cast(VideoDescriber, trained.model)
    preprocessing = preprocessing_of(trained, options.num_clips, options.decoder)

    def caption_video(source: Source) -> dict[str, Any]:
        with torch.inference_mode():
            [caption], scores = model.generate(
                _mean_encoder_states(model, choose_clips(preprocessing, source)), options.beam_size
            )
        return {"caption": caption, "log_probability": round(float(scores[0]), 6)}

    process_videos(paths, preprocessing, caption_video, None if options.json else _format_caption)


def _mean_encoder_states(model: VideoDescriber, clips: VideoClips) -> tuple[Tensor, ...]:
    """Computes the encoder states of a video, averaged over its clips, which are read in pieces."""
    sums: list[Tensor] = []
    for piece in clips.pieces():
        parts = [len(piece) * part.double() for part in model.video_states(ClipBatch.from_clips(piece))]
        sums = [sum_ + part for sum_, part in zip(sums, parts, strict=True)] if sums else parts
    return tuple((sum_ / len(clips.frame_numbers)).to(model.mean.dtype) for sum_ in sums)


def _format_caption(result: dict[str, Any]) -> str:
    return f"{printable(result['video'])}\n  {result.get('caption', 'cannot be decoded')}"
