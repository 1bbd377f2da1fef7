"""Options of the data module that are refused or resolved before any data is read: sampling, workers, decoder."""

import multiprocessing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.clip_reader import ClipReader
from datamodules.transforms.yuv420 import Pixels, check_yuv420_options
from datamodules.video.decoding import Decoder, describe_decoder, resolve_decoder

WorkerStart = Literal["fork", "forkserver", "spawn"]

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


def worker_options(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `PlannedLoader` that say so.

    Args:
        hparams: of the data module, by name: `num_workers`, `worker_start`, `worker_timeout_s`, `prefetch_factor`.
    """
    if hparams["num_workers"] == 0:
        return {"num_workers": 0}
    context = multiprocessing.get_context(hparams["worker_start"])
    if hparams["worker_start"] == "forkserver":
        # Imported once by the server, before it forks: a worker then starts in milliseconds.
        context.set_forkserver_preload([ClipReader.__module__])
    return {
        "num_workers": hparams["num_workers"],
        "multiprocessing_context": context,
        "persistent_workers": True,
        "prefetch_factor": hparams["prefetch_factor"],
        "timeout_s": hparams["worker_timeout_s"],
    }


def choose_decoder(wanted: Decoder, pixels: Pixels) -> str:
    """The name of the decoder that reads, and says so where nobody named it: PyAV for planes, which only it gives.

    Raises:
        ValueError: there is no such decoder, or it does not import.
    """
    chosen = resolve_decoder("pyav" if pixels == "i420" else wanted)
    if wanted == "auto":
        log_once(f"decoder auto: {describe_decoder(chosen)}")
    return chosen


def warn_of_decord(decoder: str, index: DatasetIndex) -> None:
    """Says that decord is a risk, where it is to read videos that `pack` did not encode."""
    if decoder == "decord" and not index.manifest.encoded_by_us:
        rank_zero_warn(
            f"decoder='decord': the videos of {index.name} were not encoded by `pack`, and decord takes its "
            "process down on some damaged files; decoder='pyav' does not"
        )


@cache
def log_once(message: str) -> None:
    """Once in each process, and only on the first rank."""
    rank_zero_info(message)
