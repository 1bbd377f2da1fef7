"""Options of the data loader: batch size, workers, and the decoder."""

import multiprocessing
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.clip_reader import ClipReader
from datamodules.options import Options
from datamodules.transforms.yuv420 import Pixels
from datamodules.video.decoding import Decoder, describe_decoder, resolve_decoder

DEFAULT_WORKERS = 2
WorkerStart = Literal["fork", "forkserver", "spawn"]


@dataclass(frozen=True, kw_only=True)
class DecoderOptions(Options):
    """Decoding.

    Attributes:
        decoder: `auto` uses torchcodec if it imports, else PyAV, and logs which; `pyav`, `torchcodec`; or `decord`,
            which crashes on some damaged files, so name it only for shards that `pack` encoded. The decoder is recorded
            with the results.
    """

    decoder: Decoder = "auto"


@dataclass(frozen=True, kw_only=True)
class LoaderOptions(DecoderOptions):
    """Loading.

    Attributes:
        batch_size: videos per rank and step; in evaluation at most, bounded by the bytes of their clips.
        num_workers: data loader worker processes per rank; 0 reads in the process itself. Default: 2; in `evaluate`,
            `features` and `classify` its share of the processors, less one; on a CPU 1 or 2.
        worker_start: start method of workers. `fork` is fast but unsafe with threads, which Ray and CUDA have.
        worker_timeout_s: seconds that reading one video may take before its worker counts as stuck, and the run ends
            with the video's key; 0 for no limit.
        prefetch_factor: batches that a worker reads ahead.
        pixels: pixel format of clips sent to the device: `rgb`; or `i420`, planar YUV 4:2:0 as decoded, half the bytes,
            which is converted to the same RGB there, quickly on a GPU. Needs PyAV (`auto` chooses it) and videos stored
            at the size that is cropped; batches with other videos are sent in RGB.
    """

    batch_size: int = 8
    num_workers: int | None = None
    worker_start: WorkerStart = "forkserver"
    worker_timeout_s: int = 300
    prefetch_factor: int = 2
    pixels: Pixels = "rgb"

    def check(self) -> None:
        """Raises ValueError for numbers out of range."""
        self.require_at_least(1, "batch_size", "prefetch_factor")
        self.require_at_least(0, "num_workers", "worker_timeout_s")

    def worker_arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments of `PlannedLoader` for start and timeout of its workers."""
        num_workers = DEFAULT_WORKERS if self.num_workers is None else self.num_workers
        if num_workers == 0:
            return {"num_workers": 0}
        context = multiprocessing.get_context(self.worker_start)
        if self.worker_start == "forkserver":
            # Imported once by the server, before it forks: a worker then starts in milliseconds.
            context.set_forkserver_preload([ClipReader.__module__])
        return {
            "num_workers": num_workers,
            "multiprocessing_context": context,
            "persistent_workers": True,
            "prefetch_factor": self.prefetch_factor,
            "timeout_s": self.worker_timeout_s,
        }


def resolve_logged_decoder(name: Decoder, pixels: Pixels) -> str:
    """Resolves the name of the decoder, and logs the choice of `auto`; `i420` needs PyAV.

    Raises:
        ValueError: the decoder does not exist, or does not import.
    """
    chosen = resolve_decoder("pyav" if pixels == "i420" else name)
    if name == "auto":
        log_once(f"decoder auto: {describe_decoder(chosen)}")
    return chosen


def warn_about_decord(decoder: str, index: DatasetIndex) -> None:
    """Warns if decord, which crashes on some damaged files, is to read videos that `pack` did not encode."""
    if decoder == "decord" and not index.manifest.encoded_by_us:
        rank_zero_warn(
            f"decoder='decord': the videos of {index.name} were not encoded by `pack`, and decord takes its "
            "process down on some damaged files; decoder='pyav' does not"
        )


@cache
def log_once(message: str) -> None:
    """Logs a message once per process, on rank 0 only."""
    rank_zero_info(message)
