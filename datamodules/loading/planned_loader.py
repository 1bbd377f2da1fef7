"""PlannedLoader: data loader that reads the batches of a plan in order.

TrainRequests / EvaluationRequests ─▶ Request(samples, epoch) ─▶ a DataLoader worker:
ClipReader: row ─▶ bytes ─▶ frame numbers ─▶ frames ─▶ windows ─▶ ClipBatch
"""

import logging
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.annotations.refusals import CRASH, HANG
from datamodules.batch import ClipBatch
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.device_transfer import DeviceTransfer, move_one_ahead
from datamodules.loading.clip_reader import ClipReader, ReadFailure, describe_video_location
from datamodules.loading.shared_memory import MemoryPool, return_when_collected
from datamodules.loading.worker_heartbeat import WorkerHeartbeats
from datamodules.loading.worker_watchdog import WorkerFailedError, WorkerWatchdog
from datamodules.sampling.batch_sampler import EvaluationRequests, RequestPrefetcher, TrainRequests
from datamodules.storage.plain_text import printable
from datamodules.video.decoding import DecodeError

_log = logging.getLogger(__name__)
_MAX_LOSSES = 16  # workers lost one after the other without a batch between them: the videos are not to blame
HELD_BATCHES = 3  # batches of a worker that training holds at a time: the step's, and those fetched ahead


class PlannedLoader:
    """Iterable of `ClipBatch` over the requests of one rank.

    It is deliberately not a DataLoader: Lightning would re-create one to insert its own distributed sampler, which
    would undo the plan. Reading starts at the first `next`, not at `iter`, because Lightning creates the iterator
    before it sets the epoch.

    Args:
        reader: dataset that reads a batch.
        requests: batch sampler of this rank.
        max_skipped: videos that may be skipped in one pass before the run ends with DecodeError.
        timeout_s: seconds that reading one video may take in a worker; 0 for no limit.
        device: the device that batches are moved to one ahead; None leaves them on the host.
        options: keyword arguments of the DataLoader, such as `num_workers` and `pin_memory`.
    """

    def __init__(
        self,
        reader: ClipReader,
        requests: TrainRequests | EvaluationRequests,
        max_skipped: int = 0,
        timeout_s: float = 0,
        device: torch.device | None = None,
        **options: Any,
    ) -> None:
        self.sampler = requests  # attributes on which Lightning calls `set_epoch`
        self.batch_sampler = None
        self._reader = reader
        self._max_skipped = max_skipped
        self._timeout_s = timeout_s
        self._device = device
        self._options = options
        self._watchdog: WorkerWatchdog | None = None
        self._memory: MemoryPool | None = None
        self._failed_watchdogs: list[WorkerWatchdog] = []  # which explain signals that arrive late
        self._loader = self._make_loader(start=0)

    def _make_loader(self, start: int) -> DataLoader[Any]:
        """Creates the DataLoader, with new workers and their watchdog, of the requests from number `start` on."""
        reader, requests, options = self._reader, self.sampler, dict(self._options)
        self._start = start
        num_workers = options.get("num_workers", 0)
        # Blocks live as long as the loader: those of validation would be idle during training.
        ahead = options.get("prefetch_factor", 2) if num_workers > 0 else 1
        self._memory = MemoryPool(num_workers, ahead + HELD_BATCHES if isinstance(requests, TrainRequests) else 0)
        reader = replace(reader, memory=self._memory)
        if num_workers > 0:
            heartbeats, index = WorkerHeartbeats(num_workers), reader.index
            reader = replace(reader, heartbeats=heartbeats)
            options["worker_init_fn"] = heartbeats.register_worker
            self._watchdog = WorkerWatchdog(
                heartbeats,
                self._timeout_s,
                lambda row: describe_video_location(index, row),
                lambda row: _quarantine_advice(index, row),
                raises_while_awaited=reader.skips_lost_videos,
            )
        return DataLoader(
            reader,
            sampler=RequestPrefetcher(requests, max(1, num_workers), start),
            batch_size=None,
            collate_fn=_as_read,
            **options,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[ClipBatch]:
        batches = self._checked_batches()
        return batches if self._device is None else move_one_ahead(batches, DeviceTransfer(self._device))

    def _checked_batches(self) -> Iterator[ClipBatch]:
        """Yields the batches; raises what a worker reports, and DecodeError where too many videos were skipped."""
        skipped = 0
        for batch in self._batches():
            if isinstance(batch, ReadFailure):
                raise batch.error(batch.message)
            if batch.lease is not None:  # None if pinning has returned the lease
                return_when_collected(batch.clips.untyped_storage(), batch.lease)
                batch = batch._replace(lease=None)
            skipped += batch.num_skipped
            if skipped > self._max_skipped:
                raise DecodeError(
                    f"{skipped} videos of this epoch could not be decoded, more than the {self._max_skipped} that "
                    "max_skipped_fraction allows; the log names them: verify the shards, or pack again"
                )
            yield batch

    def _batches(self) -> Iterator[Any]:
        """Yields what the workers return; where lost videos are skipped, new workers go on from the last batch."""
        if self._start > 0:  # of an earlier pass
            self._loader = self._make_loader(start=0)
        num_batches = num_losses = 0
        while True:
            try:
                for batch in self._loader if self._watchdog is None else self._watchdog.batches(self._loader):
                    num_batches, num_losses = num_batches + 1, 0
                    yield batch
                return
            except WorkerFailedError as failure:
                num_losses += 1
                if not self._reader.skips_lost_videos or num_losses > _MAX_LOSSES:
                    raise
                self._leave_out(failure)
            self._loader = self._make_loader(num_batches)

    def _leave_out(self, failure: WorkerFailedError) -> None:
        """Takes the video that a lost worker was reading out of what the next workers read."""
        assert self._watchdog is not None
        self._failed_watchdogs.append(self._watchdog)
        if failure.row is None:
            _log.warning("%s; its batches are read again", failure)
            return
        reason, detail = HANG if failure.is_stuck else CRASH, f"its DataLoader worker {failure.cause}"
        _log.warning("left out: %s: %s", describe_video_location(self._reader.index, failure.row), detail)
        self._reader = replace(self._reader, lost={**self._reader.lost, failure.row: (reason, detail)})

    # Lightning warns that a loader without these two cannot resume within an epoch. This one can: its state is global,
    # not per rank, and part of the data module's state.

    def state_dict(self) -> dict[str, Any]:
        """Empty: the state is in `ShardedVideoDataModule.state_dict`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing: the state is restored by `ShardedVideoDataModule.load_state_dict`."""


def _as_read(batch: Any) -> Any:
    """A batch as its worker returns it: torch would look for arrays in every list of it."""
    return batch


def _quarantine_advice(index: DatasetIndex, row: int) -> str:
    key = index.entry(row).key
    if not index.has_shards:
        file = printable(index.quarantine_file)
        return f"if that video is to blame, write {printable(key)} below a line `key` in {file} and run again"
    if isinstance(index.root, str):
        return f"if that video is to blame, add {printable(key)} to {index.root}/quarantine.csv and resume"
    command = ["python", "-m", "pipeline", "quarantine", str(index.root)]
    if key.startswith("-"):  # as in some YouTube ids
        command.append("--")
    return f"if that video is to blame, leave it out and resume: {shlex.join(command)} {_quoted(key)}"


def _quoted(word: str) -> str:
    """Quotes a word for a shell; with bash's $'..' if it contains terminal control characters."""
    if printable(word) == word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(escaped)}'"
