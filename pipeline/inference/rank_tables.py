"""`RankTables`: what test and predict steps return, from any number of ranks, as one Parquet file.

Each rank streams its rows to a part of its own beside the file. At the end rank 0 checks that every video is there once
and puts the parts, which are neighboring blocks of the plan, one after the other: the rows of the file are in the order
of the dataset's index whatever the number of ranks. Several nodes need a folder that all of them see.
"""

import contextlib
import shutil
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl

from datamodules.storage.atomic_write import write_atomically
from pipeline.cli.progress import ProgressLines

_ROW_GROUP_BYTES = 2**26
_PATIENCE_S = 30.0  # that a folder which another node has just made may take to appear on a network file system


class RankTables(pl.Callback):
    """Writes the outputs of `trainer.test` or `trainer.predict` to one Parquet file, whole or not at all.

    Args:
        path: of the file.
        schema: of its rows, with its metadata; has a column `key`, and `clip` where a video has several rows.
        to_table: from what a step returned to rows of `schema`.
        keys: the keys of the videos that must be in the file, in order.
        verb: name of the work, for the lines that tell how far it is.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, to_table: Callable[[Any], pa.Table], keys: Sequence[str], verb: str
    ) -> None:
        self.path = path
        self._schema = schema
        self._to_table = to_table
        self._keys = keys
        self._verb = verb
        self._folder = path
        self._made: list[Path] = []
        self._part: pa.RecordBatchFileWriter | None = None
        self._lines: ProgressLines | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Opens this rank's part, in a new folder that all ranks of this run share."""
        missing = [folder for folder in self.path.absolute().parents if not folder.is_dir()]
        token, self._made = trainer.strategy.broadcast((uuid.uuid4().hex[:12], missing))
        self._folder = self.path.with_name(f".{self.path.name}.{token}.parts")
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.parent.glob(f".{self.path.name}.*.parts"):  # of killed runs
                shutil.rmtree(leftover, ignore_errors=True)
            self._folder.mkdir()
        trainer.strategy.barrier()
        wait_until_seen(self._folder, trainer.global_rank)
        self._part = pa.ipc.new_file(self._folder / f"rank-{trainer.global_rank:05d}.arrow", self._schema)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Adds the rows of a step."""
        self._add(outputs, trainer.num_test_batches, trainer)

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Adds the rows of a step."""
        self._add(outputs, trainer.num_predict_batches, trainer)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the parts together."""
        self._finish(trainer)

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the parts together."""
        self._finish(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leaves nothing behind."""
        self._close()
        if self._folder != self.path:
            shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # others have put something there
            for folder in self._made:
                folder.rmdir()

    def _add(self, outputs: Any, num_batches: Sequence[float], trainer: pl.Trainer) -> None:
        assert self._part is not None
        self._part.write_table(self._to_table(outputs))
        if trainer.is_global_zero and not sys.stderr.isatty():  # a terminal has Lightning's bar
            if self._lines is None:
                self._lines = ProgressLines(self._verb, int(sum(num_batches)), "batches")
            self._lines.advance()

    def _finish(self, trainer: pl.Trainer) -> None:
        self._close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            merge_parts(sorted(self._folder.glob("rank-*.arrow")), self.path, self._schema, self._keys)
            shutil.rmtree(self._folder)
        trainer.strategy.barrier()

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None


def wait_until_seen(folder: Path, rank: int) -> None:
    """FileNotFoundError where the folder that rank 0 made does not appear on this rank's node."""
    deadline = time.monotonic() + _PATIENCE_S
    while not folder.is_dir():
        if time.monotonic() > deadline:
            raise FileNotFoundError(
                f"out={str(folder.parent)!r}: rank {rank}, on {socket.gethostname()}, does not see what rank 0 made "
                "there; give a folder of a file system that all nodes share"
            )
        time.sleep(0.2)


def merge_parts(parts: Sequence[Path], path: Path, schema: pa.Schema, keys: Sequence[str]) -> None:
    """Writes the rows of Arrow files to one Parquet file, a bounded number in memory at a time.

    Args:
        parts: Arrow files of `schema`, in the order of their rows.
        path: the Parquet file.
        schema: with the metadata of the file.
        keys: of the videos that must be there, in order, each once (each of its clips once).

    Raises:
        ValueError: videos are missing, double, or others; then no file is written.
    """
    seen: list[tuple[str, int]] = []
    with write_atomically(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            for table in _tables(parts, schema):
                clips = table.column("clip").to_pylist() if "clip" in schema.names else [0] * len(table)
                seen += zip(table.column("key").to_pylist(), clips, strict=True)
                writer.write_table(table)
        _check_every_video_once(seen, keys, path)


def _tables(parts: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of all parts, in tables of about the size of a row group."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for part in parts:
        with pa.memory_map(str(part)) as source, pa.ipc.open_file(source) as reader:
            for number in range(reader.num_record_batches):
                waiting.append(reader.get_batch(number))
                size += waiting[-1].nbytes
                if size >= _ROW_GROUP_BYTES:
                    yield pa.Table.from_batches(waiting, schema)
                    waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


def _check_every_video_once(seen: Sequence[tuple[str, int]], keys: Sequence[str], path: Path) -> None:
    found = list(dict.fromkeys(key for key, _ in seen))
    if len(set(seen)) == len(seen) and found == list(keys):
        return
    wrong = {
        "missing": sorted(set(keys) - set(found)),
        "unexpected": sorted(set(found) - set(keys)),
        "there twice": sorted({row[0] for row, count in Counter(seen).items() if count > 1}),
    }
    text = "; ".join(f"{len(them)} {what} (first {them[0]})" for what, them in wrong.items() if them)
    raise ValueError(f"{path}: not every video of the split exactly once: {text or 'their order differs'}")
