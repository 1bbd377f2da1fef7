"""`ResumableExport`: callback that saves the outputs of `trainer.predict` in parts and merges them into one file.

Each rank writes its rows to parts of some videos (`PartFolder`). Running the same export again, on any number of ranks,
processes the videos that are in no part; when none is left, the rows are merged in the order of the dataset's index.
With several nodes, the folder must be on a shared file system.
"""

import hashlib
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch.distributed
from numpy.typing import NDArray
from pytorch_lightning.utilities.exceptions import SIGTERMException

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.storage.atomic_write import write_atomically
from pipeline.cli.progress import ProgressLines
from pipeline.inference.part_folder import Failure, PartFolder, remove_parts
from pipeline.inference.part_rows import ROW, PartRows
from pipeline.processes.outcome import ProcessOutcome, attach_outcome

Value = TypeVar("Value")

_PART_BYTES = 2**26
_SAVE_INTERVAL_S = 30.0
_SIGTERM_STATUS = 128 + signal.SIGTERM  # exit status after SIGTERM


class StepRows(NamedTuple):
    """Rows that a predict step produces; the rows of a video are contiguous.

    Attributes:
        table: M rows.
        rows: int64 (M,), row number of each row's video in the dataset's index.
        failed: bool (M,), placeholder rows of videos that failed, which another run tries again; None for none.
        left_out: row number, reason and description of videos that failed and have no rows.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    failed: NDArray[np.bool_] | None = None
    left_out: Sequence[Failure] = ()


class ResumableExport(pl.Callback):
    """Callback that saves the outputs of `trainer.predict` in parts, and calls `finish` when all videos are done.

    Args:
        path: the file to write.
        settings: all settings that the rows depend on, as plain data; parts of other settings are refused.
        schema: schema of the rows.
        to_rows: function that converts the output of a predict step to rows of `schema`.
        rows: row numbers in the dataset's index of the videos to export, ascending, int64.
        finish: function that writes the file, given a temporary path and the rows of all parts.
        save_every: videos of a rank between two parts: the most that is lost when it is killed. A part is also written
            every 30 seconds.
        verb: name of the work in progress messages.
        overwrite: whether to remove parts of other settings and start again.
        keep_parts: whether to keep the parts after the file is written; the caller then calls `remove_parts`.
        remedy: advice for the message about parts of other settings.
        report_left_out: function called on rank 0, before `finish`, with the row number, reason and description of all
            videos that failed and have no rows; None if there can be none.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        schema: pa.Schema,
        to_rows: Callable[[Any], StepRows],
        rows: NDArray[np.int64],
        finish: Callable[[Path, PartRows], None],
        save_every: int,
        verb: str,
        overwrite: bool = False,
        keep_parts: bool = False,
        remedy: str = "give --overwrite",
        report_left_out: Callable[[list[Failure]], None] | None = None,
    ) -> None:
        if save_every < 1:
            raise ValueError(f"save_every={save_every}: must be at least 1")
        self.path, self.parts = path, PartFolder(path, settings, overwrite, remedy)
        self._schema = schema.append(pa.field(ROW, pa.int64())).remove_metadata()
        self._to_rows, self._rows, self._finish = to_rows, rows, finish
        self._save_every, self._verb, self._keep_parts = save_every, verb, keep_parts
        self._pending: list[pa.Table] = []
        self._failed: list[pa.Table] = []
        self._left_out: list[Failure] = []
        self._num_left_out_saved = 0
        self._report_left_out = report_left_out
        self._digest = hashlib.sha256(json.dumps([settings, rows.tolist()], sort_keys=True).encode()).hexdigest()
        self._num_pending = 0
        self._saved: list[str] = []
        self._last_save = time.monotonic()
        self._is_terminated = False
        self._lines: ProgressLines | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the videos that earlier runs have done and excludes them from the data module, on all ranks.

        Raises:
            ValueError: the ranks have different settings, or see different videos; or another export writes there.
        """
        ranks = _gather((self._digest, f"{len(self._rows)} videos on node {socket.gethostname()}"))
        if len({digest for digest, _ in ranks}) > 1:
            seen = ", ".join(sorted({text for _, text in ranks}))
            raise ValueError(
                f"out={str(self.path)!r}: the processes have different settings or see different videos ({seen}); give "
                "all the same command line and the same files, and change no video meanwhile"
            )
        done = np.empty(0, np.int64)
        if trainer.is_global_zero:
            self.parts.open()
            done = np.intersect1d(self._rows, PartRows(self.parts.parts(), self._schema).videos)
            self._take_over_failures(done)
            if len(done):
                print(
                    f"{self._verb}: {len(done)} of {len(self._rows)} videos are done, from an earlier run", flush=True
                )
            done = np.union1d(done, np.array([row for row, *_ in self._left_out], dtype=np.int64))
        done = trainer.strategy.broadcast(done)
        self.parts.wait_until_visible(trainer.global_rank)
        data: ShardedVideoDataModule = trainer.datamodule  # type: ignore[attr-defined] # set by the trainer
        data.already_predicted = done

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replaces Lightning's handler of SIGTERM, which lets prediction run to its end; the trainer restores it."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handle_sigterm)

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Adds the rows of a step, and writes a part if due.

        Raises:
            SIGTERMException: the process received SIGTERM.
        """
        self._add(self._to_rows(outputs))
        num_bytes = sum(table.nbytes for table in self._pending)
        is_overdue = time.monotonic() - self._last_save > _SAVE_INTERVAL_S
        if self._num_pending >= self._save_every or num_bytes >= _PART_BYTES or is_overdue:
            self._save()
        if trainer.is_global_zero and not sys.stderr.isatty():  # on a terminal Lightning shows its progress bar
            if self._lines is None:
                self._lines = ProgressLines(self._verb, int(sum(trainer.num_predict_batches)), "batches")
            self._lines.advance()
        if self._is_terminated:
            exit_ = SIGTERMException(_SIGTERM_STATUS)
            message = f"SIGTERM: what is done is in {self.parts.path}; the same command goes on from there"
            attach_outcome(exit_, ProcessOutcome("stopped", message, _SIGTERM_STATUS))
            raise exit_

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merges the parts of all ranks into the file."""
        self._save()
        if self._failed:
            self._saved.append(self.parts.save(pa.concat_tables(self._failed).cast(self._schema), prefix="failed"))
        names = [name for of_rank in _gather(self._saved) for name in of_rank]
        left_out = sorted({video[0]: video for of_rank in _gather(self._left_out) for video in of_rank}.values())
        if trainer.is_global_zero:
            if self._report_left_out is not None:
                self._report_left_out(left_out)
            parts = PartRows(self.parts.parts(names), self._schema)
            rows = np.setdiff1d(self._rows, np.array([row for row, *_ in left_out], dtype=np.int64))
            with write_atomically(self.path) as temporary:
                self._finish(temporary, parts.restrict(rows, self.path))
            if not self._keep_parts:
                remove_parts(self.path)
        trainer.strategy.barrier()
        self.parts.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Saves the finished rows for the next run."""
        if self.parts.path.is_dir():
            self._save()
        self.parts.close()

    def _take_over_failures(self, done: NDArray[np.int64]) -> None:
        """Takes over the videos that failed in earlier runs, other than those that a later one has done."""
        pending = set(np.setdiff1d(self._rows, done).tolist())
        self._left_out = [failure for failure in self.parts.failures() if failure[0] in pending]
        self._num_left_out_saved = len(self._left_out)

    def _handle_sigterm(self, *_: Any) -> None:
        self._is_terminated = True

    def _add(self, step_rows: StepRows) -> None:
        self._left_out += step_rows.left_out
        if not step_rows.table.num_rows:
            return
        table = step_rows.table.append_column(ROW, pa.array(step_rows.rows)).replace_schema_metadata(None)
        rows = step_rows.rows
        if step_rows.failed is not None and step_rows.failed.any():
            self._failed.append(table.filter(step_rows.failed))
            table, rows = table.filter(~step_rows.failed), rows[~step_rows.failed]
        if len(rows):
            self._pending.append(table)
            self._num_pending += len(np.unique(rows))

    def _save(self) -> None:
        if self._pending:
            self._saved.append(self.parts.save(pa.concat_tables(self._pending).cast(self._schema)))
        if failures := self._left_out[self._num_left_out_saved :]:
            self.parts.save_failures(failures)
            self._num_left_out_saved = len(self._left_out)
        self._pending, self._num_pending = [], 0
        self._last_save = time.monotonic()


def _gather(value: Value) -> list[Value]:
    """The value of each rank, in order."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
