"""From the plan to batches: the loader that asks for planned batches, in order.

TrainRequests / EvaluationRequests ─▶ Request(samples, epoch) ─▶ a DataLoader worker:
ClipReader: row ─▶ bytes ─▶ frame numbers ─▶ frames ─▶ windows ─▶ ClipBatch
"""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.batch import ClipBatch
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.clip_reader import ClipReader, ReadFailure, name_video
from datamodules.loading.shared_memory import SharedMemoryPool, give_back_when_dropped
from datamodules.loading.worker_heartbeat import WorkerHeartbeats
from datamodules.loading.worker_watchdog import WorkerWatchdog
from datamodules.sampling.batch_sampler import EvaluationRequests, LookAhead, TrainRequests
from datamodules.storage.plain_text import printable
from datamodules.video.decoding import DecodeError

_HELD = 3  # batches of a worker that training holds at a time: that of the step, and what is fetched ahead


class PlannedLoader:
    """An iterable of `ClipBatch`, with a length, an epoch and nothing for Lightning to replace.

    A plain iterable on purpose: Lightning re-creates a DataLoader to put its own distributed sampler in, which would
    undo the plan. Reading starts at the first `next`, not at `iter`: Lightning makes the iterator before it tells the
    epoch.

    Args:
        reader: reads a batch.
        requests: this rank's batches.
        max_skipped: videos that may be left out of one pass before the run ends with DecodeError.
        timeout_s: seconds that reading one video may take in a worker; 0 for no limit.
        options: the DataLoader's, such as `num_workers`.
    """

    def __init__(
        self,
        reader: ClipReader,
        requests: TrainRequests | EvaluationRequests,
        max_skipped: int = 0,
        timeout_s: float = 0,
        **options: Any,
    ) -> None:
        self.sampler = requests  # the names under which Lightning looks for `set_epoch`
        self.batch_sampler = None
        self._max_skipped = max_skipped
        self._watch: WorkerWatchdog | None = None
        self._memory: SharedMemoryPool | None = None
        if options.get("num_workers", 0) > 0:
            board, index = WorkerHeartbeats(options["num_workers"]), reader.index
            # Blocks are kept as long as the workers: those of validation would lie idle for all of training.
            blocks = options.get("prefetch_factor", 2) + _HELD if isinstance(requests, TrainRequests) else 0
            self._memory = SharedMemoryPool(options["num_workers"], blocks)
            reader = replace(reader, board=board, memory=self._memory)
            options["worker_init_fn"] = board.enter
            self._watch = WorkerWatchdog(
                board, timeout_s, lambda row: name_video(index, row), lambda row: _how_to_leave_out(index, row)
            )
        self._loader: DataLoader[Any] = DataLoader(
            reader,
            sampler=LookAhead(requests, max(1, options.get("num_workers", 0))),
            batch_size=None,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[ClipBatch]:
        skipped = 0
        for batch in self._loader if self._watch is None else self._watch.batches(self._loader):
            if isinstance(batch, ReadFailure):
                raise batch.error(batch.message)
            if batch.loan is not None:  # where batches are pinned, that gave it back
                give_back_when_dropped(batch.clips.untyped_storage(), batch.loan)
                batch = batch._replace(loan=None)
            skipped += batch.num_skipped
            if skipped > self._max_skipped:
                raise DecodeError(
                    f"{skipped} videos of this epoch could not be decoded, more than the {self._max_skipped} that "
                    "max_skipped_fraction allows; the log names them: verify the shards, or pack again"
                )
            yield batch

    # Lightning warns that a loader without these two cannot resume in the middle of an epoch. This one can: what it
    # needs is in the state of its data module, where it is global, and not one rank's.

    def state_dict(self) -> dict[str, Any]:
        """Nothing: see `ShardedVideoDataModule.state_dict`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: see `ShardedVideoDataModule.load_state_dict`."""


def _how_to_leave_out(index: DatasetIndex, row: int) -> str:
    key = index.entry(row).key
    if isinstance(index.root, str):
        return f"if that video is to blame, add {printable(key)} to {index.root}/quarantine.csv and resume"
    command = ["python", "-m", "pipeline", "quarantine", str(index.root)]
    if key.startswith("-"):  # as YouTube's ids may
        command.append("--")
    return f"if that video is to blame, leave it out and resume: {shlex.join(command)} {_quoted(key)}"


def _quoted(word: str) -> str:
    """A word for a shell; bash's $'..' where it holds what a terminal would obey."""
    if printable(word) == word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(escaped)}'"
