"""`python -m pipeline evaluate`: checkpoints on a split they have not seen, several views a video, every video once."""

from pathlib import Path
from typing import Any, Literal

from datamodules.dataset.open_dataset import open_manifest
from datamodules.dataset.renditions import WantedRendition
from datamodules.sampling.clip_sampling import ShortVideos
from datamodules.transforms.yuv420 import Pixels
from datamodules.video.decoding import Decoder
from pipeline.evaluation.many_checkpoints import evaluate_folds, evaluate_many
from pipeline.evaluation.score_checkpoint import score_checkpoint
from pipeline.evaluation.score_export import Average, Scoring
from pipeline.inference.output_paths import default_folder
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.protocols import ProtocolName, with_protocol
from pipeline.inference.split_runner import Precision
from pipeline.inference.trained_checkpoint import view_settings
from pipeline.metrics.predictions import PREDICTIONS_NAME

ALL_FOLDS = "all"


def evaluate(
    checkpoint: Path | list[Path],
    data: Path,
    split: str = "test",
    fold: str | None = None,
    protocol: ProtocolName | None = None,
    num_clips: int | None = None,
    clip_step: int | None = None,
    whole: bool | None = None,
    max_frames: int = 512,
    num_crops: Literal[1, 3] | None = None,
    average: Average | None = None,
    views_at_once: int | None = None,
    out: Path | None = None,
    save_every: int = 64,
    batch_size: int = 8,
    num_workers: int = 2,
    decoder: Decoder = "auto",
    pixels: Pixels = "rgb",
    accelerator: str = "auto",
    devices: int = 1,
    precision: Precision = "32-true",
    allow: list[str] | None = None,
    allow_overlap: bool = False,
    allow_missing: bool = False,
    seed: int = 0,
    num_frames: int | None = None,
    frame_interval: int | None = None,
    fps: float | None = None,
    crop_size: int | None = None,
    resize: int | tuple[int, int] | None = None,
    rendition: WantedRendition | None = None,
    short_videos: ShortVideos | None = None,
    still: bool | None = None,
) -> None:
    """Score checkpoints on a held-out split of a packed dataset, several views a video.

    Clips are like those of the training unless options say otherwise. Written to `out`: report.html, a page to read;
    report.json; per_class.csv; and predictions.parquet, a row a video with all its scores. Several checkpoints get a
    folder each, and are compared with the first; so do the folds of `--fold all`, with mean and spread over them. An
    evaluation that was stopped goes on where it stood when the same command is run again, with the same result.

    Args:
        checkpoint: files that `fit` wrote, or names that `python -m pipeline weights list` prints. With `--fold all`:
            one a fold, or one path with {fold} in it.
        data: folder of the packed dataset; its classes must be the checkpoint's.
        split: videos to score.
        fold: for datasets with folds; default: the fold the checkpoint was trained in; all: every one.
        protocol: take the views of a paper: lrcn, c3d, i3d or 10x3; options given beside it win.
        num_clips: clips a video, spread evenly; default: 10.
        clip_step: take clips this many source frames apart instead.
        whole: take all of a video as one clip instead, for networks that take any number of frames.
        max_frames: of a clip of a whole video; a longer video gives several, evenly.
        num_crops: crops a clip: 1 (the center, the default) or 3 (along the longer side).
        average: probabilities (the default) or logits, what is averaged over a video's views.
        views_at_once: views in one forward pass, which bounds memory; default: as many as fit in 32 MB of float clips
            on a processor, in 256 MB on a GPU. Whole videos go one by one.
        out: folder for the results; default: {checkpoint's name}-{split}, beside the checkpoint.
        save_every: videos of a process between two saves of what is done, which are at most 30 seconds apart: what is
            lost, at most, when it is killed.
        batch_size: videos in a step of one process, at most.
        num_workers: processes that decode, for each process that computes.
        decoder: auto, pyav, decord or torchcodec; which one it was is recorded.
        pixels: how clips travel to the device: rgb; or i420, half the bytes, converted to the same RGB there.
        accelerator: Lightning's: auto, cpu, gpu, ...
        devices: processes or GPUs that compute; the result is the same with any number.
        precision: 32-true, or bf16-mixed, which is several times faster where the processor or GPU has bfloat16 units
            (AMX, tensor cores), slower where it has none, and moves scores in the third digit; recorded with them.
        allow: modules that the checkpoint's model class may come from, besides lightning_modules.
        allow_overlap: score videos that the checkpoint was trained on, or of the same groups, all the same.
        allow_missing: go on where a video cannot be decoded: it is listed and counts as wrong.
        seed: of the samples that the intervals come from.
        num_frames: frames of a clip, in place of the training's.
        frame_interval: source frames from one frame of a clip to the next, in place of the training's.
        fps: take frames at this rate, in place of the training's.
        crop_size: pixels of height and width, in place of the training's.
        resize: short side, or [height, width], before cropping, in place of the training's.
        rendition: short side of the rendition to read, or auto, for a dataset packed in several sizes; default: the one
            trained on, on the same dataset, else auto: the smallest that is as large as `resize` asks for.
        short_videos: loop, repeat_last or error, in place of the training's.
        still: repeat one frame in every clip: what can be told without motion; default: as in training.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint, dataset, split, fold or clips do not go together, or the checkpoint has seen the
            videos.
        DecodeError: a video cannot be decoded; what is done is kept in OUT/predictions.parquet.parts.
    """
    if views_at_once is not None and views_at_once < 1:
        raise ValueError(f"views_at_once={views_at_once}: must be at least 1")
    given: dict[str, Any] = {"num_clips": num_clips, "clip_step": clip_step, "whole": whole, "num_crops": num_crops}
    given |= {"average": average, "fps": fps, "frame_interval": frame_interval}
    chosen = with_protocol(protocol, "evaluate", given)
    clips = {
        "num_frames": num_frames,
        "frame_interval": chosen["frame_interval"],
        "fps": chosen["fps"],
        "crop_size": crop_size,
        "resize": resize,
        "rendition": rendition,
        "short_videos": short_videos,
        "still": still,
    }
    how = Scoring(
        views=view_settings(
            chosen["num_clips"], chosen["clip_step"], bool(chosen["whole"]), max_frames, chosen["num_crops"] or 1
        ),
        clips=clips,
        protocol=protocol,
        average=chosen["average"] or "probabilities",
        views_at_once=views_at_once,
        batch_size=batch_size,
        num_workers=num_workers,
        decoder=decoder,
        pixels=pixels,
        accelerator=accelerator,
        devices=devices,
        precision=precision,
        allow=allow,
        allow_overlap=allow_overlap,
        allow_missing=allow_missing,
        seed=seed,
        save_every=save_every,
    )
    checkpoints = [checkpoint] if isinstance(checkpoint, Path) else checkpoint
    if fold == ALL_FOLDS and open_manifest(data).folds:
        folders = evaluate_folds(checkpoints, data, split, out, how)
    elif len(checkpoints) == 1:
        folder = out or default_folder(checkpoints[0], split, fold)
        folders = [folder] if score_checkpoint(checkpoints[0], data, split, fold, folder, how) else []
    else:
        folders = evaluate_many(checkpoints, data, split, fold, out, how)
    for folder in folders:  # not before the whole command is done, which would else begin anew
        remove_parts(folder / PREDICTIONS_NAME)
