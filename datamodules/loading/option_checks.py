"""What is refused of the data module's options before any data is looked at."""

from collections.abc import Mapping
from typing import Any

from datamodules.transforms.yuv420 import check_yuv420_options

_LEAST = {
    **dict.fromkeys(("batch_size", "clips_per_video", "val_num_clips", "num_clips", "crop_size"), 1),
    **dict.fromkeys(("cache_bytes", "remote_reads", "remote_read_bytes"), 1),
    **dict.fromkeys(("num_workers", "worker_timeout_s"), 0),
}


def check_options(hparams: Mapping[str, Any]) -> None:
    """Holds the options of `ShardedVideoDataModule`, by name, against their ranges and against each other.

    Raises:
        ValueError: a number is too small, or options do not go together.
    """
    for name, least in _LEAST.items():
        if hparams[name] < least:
            raise ValueError(f"{name}={hparams[name]}: must be at least {least}")
    if hparams["clip_step"] is not None and hparams["clip_step"] < 1:
        raise ValueError(f"clip_step={hparams['clip_step']}: must be at least 1, or null")
    names = ("test_sampling", "clip_step", "segments", "num_frames", "max_frames")
    _refuse_unlike_samplings(**{name: hparams[name] for name in names})
    check_yuv420_options(hparams["pixels"], hparams["decoder"], hparams["random_resized_crop"])


def _refuse_unlike_samplings(
    test_sampling: str, clip_step: int | None, segments: bool, num_frames: int, max_frames: int
) -> None:
    if test_sampling == "dense" and clip_step is None:
        raise ValueError("test_sampling='dense': set clip_step, the source frames from clip to clip")
    if test_sampling == "whole" and clip_step is not None:
        raise ValueError(f"test_sampling='whole', clip_step={clip_step}: give one of them")
    if test_sampling == "whole" and max_frames < num_frames:
        raise ValueError(f"max_frames={max_frames}: must be at least num_frames={num_frames}")
    if segments and (test_sampling != "uniform" or clip_step is not None):
        raise ValueError("segments=true: its clips span the whole video; use test_sampling='uniform' and no clip_step")
