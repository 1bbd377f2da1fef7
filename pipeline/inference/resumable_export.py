"""`ExportParts`: what predict steps return, from any number of ranks, kept in finished parts until all is there.

Beside the file OUT, the folder OUT.parts holds what is done: each rank puts its rows there in files of some videos,
written aside and renamed, so that a part is whole or not there. Whoever runs the same export again, on any number of
ranks, takes the videos that are in no part; when none is left, the rows are put together in the order of the dataset's
index, and the folder goes. Several nodes need a folder that all of them see.
"""

import glob
import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch.distributed
from numpy.typing import NDArray

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.storage.atomic_write import PARTIAL_SUFFIX, remove_partial_files, write_atomically
from datamodules.storage.file_lock import FileLock, Timeout, file_lock
from pipeline.cli.progress import ProgressLines
from pipeline.cli.terminal import say
from pipeline.inference.part_rows import ROW, PartRows, forget_parts, rows_of_part
from pipeline.inference.rank_tables import wait_until_seen

_SETTINGS = "settings.json"
_PART_BYTES = 2**26


class ExportParts(pl.Callback):
    """Keeps the outputs of `trainer.predict` in parts and hands them to `finish` when every video is there.

    Args:
        path: of the file that is to come of it.
        settings: plain data, all that the rows depend on; parts of other settings are never mixed.
        schema: of the rows.
        to_table: from what a step returned to the rows of `schema` and, for each, its row in the dataset's index.
        rows: of the videos that must be there, ascending, int64.
        finish: is given the temporary path and the rows of the parts, and writes the file.
        save_every: videos of a rank between two parts: what is lost, at most, when it is killed.
        verb: name of the work, for the lines that tell how far it is.
        overwrite: begin anew where there are parts of other settings.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        schema: pa.Schema,
        to_table: Callable[[Any], tuple[pa.Table, NDArray[np.int64]]],
        rows: NDArray[np.int64],
        finish: Callable[[Path, PartRows], None],
        save_every: int,
        verb: str,
        overwrite: bool = False,
    ) -> None:
        self.path, self.folder = path, parts_folder(path)
        self._settings = dict(settings)
        self._schema = schema.append(pa.field(ROW, pa.int64())).remove_metadata()
        self._to_table, self._rows, self._finish = to_table, rows, finish
        self._save_every, self._verb, self._overwrite = save_every, verb, overwrite
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._saved: list[str] = []
        self._lock: FileLock | None = None
        self._lines: ProgressLines | None = None
        if not overwrite:
            refuse_other_settings(self.folder, self._settings)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds what is done, and has the data module leave it out, on every rank alike."""
        done = np.empty(0, np.int64)
        if trainer.is_global_zero:
            self._open_folder()
            done = np.intersect1d(self._rows, PartRows(self._parts(), self._schema).videos)
            if len(done):
                print(
                    f"{self._verb}: {len(done)} of {len(self._rows)} videos are done, from an earlier run", flush=True
                )
        done = trainer.strategy.broadcast(done)
        wait_until_seen(self.folder, trainer.global_rank)
        data: ShardedVideoDataModule = trainer.datamodule  # type: ignore[attr-defined] # set by the trainer
        data.already_predicted = done

    def on_predict_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        """Adds the rows of a step; every now and then makes a part of them."""
        table, rows = self._to_table(outputs)
        if table.num_rows:
            self._waiting.append(table.append_column(ROW, pa.array(rows)).replace_schema_metadata(None))
            self._num_waiting += len(np.unique(rows))
        size = sum(waiting.nbytes for waiting in self._waiting)
        if self._num_waiting >= self._save_every or size >= _PART_BYTES:
            self._save()
        if trainer.is_global_zero and not sys.stderr.isatty():  # a terminal has Lightning's bar
            if self._lines is None:
                self._lines = ProgressLines(self._verb, int(sum(trainer.num_predict_batches)), "batches")
            self._lines.advance()

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the parts of all ranks together."""
        self._save()
        names: list[list[str]] = [self._saved]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            names = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(names, self._saved)
        if trainer.is_global_zero:
            parts = PartRows(self._parts(name for of_rank in names for name in of_rank), self._schema)
            with write_atomically(self.path) as temporary:
                self._finish(temporary, parts.only(self._rows, self.path))
            forget_parts()
            shutil.rmtree(self.folder)
        trainer.strategy.barrier()
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keeps what is done for the next run."""
        if self.folder.is_dir():
            self._save()
        self._close()

    def _open_folder(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._overwrite and not _are_of(self.folder, self._settings):
            shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        self._lock = file_lock(self.folder / "lock", wait=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"out={str(self.path)!r}: another export writes there; wait for its end") from None
        remove_partial_files(self.folder)
        for leftover in self.path.parent.glob(f".{glob.escape(self.path.name)}.*{PARTIAL_SUFFIX}"):
            leftover.unlink()  # of a run that was killed while it put the parts together
        refuse_other_settings(self.folder, self._settings)
        if not (self.folder / _SETTINGS).exists():
            with write_atomically(self.folder / _SETTINGS) as temporary:
                temporary.write_text(json.dumps(self._settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _parts(self, known: Iterable[str] = ()) -> list[Path]:
        """The finished parts; one that cannot be read, which no run of ours leaves, counts as not there.

        Args:
            known: names of parts that a network file system may not list yet.
        """
        found = []
        for path in sorted({*self.folder.glob("part-*.arrow"), *(self.folder / name for name in known)}):
            try:
                rows_of_part(path)
                found.append(path)
            except (pa.ArrowInvalid, OSError):
                say(f"{path}: damaged, its videos are exported again", sys.stderr)
        return found

    def _save(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).cast(self._schema)
            path = self.folder / f"part-{table.column(ROW)[0].as_py():010d}-{uuid.uuid4().hex[:8]}.arrow"
            with write_atomically(path) as temporary, pa.ipc.new_file(temporary, self._schema) as writer:
                writer.write_table(table)
            self._saved.append(path.name)
        self._waiting, self._num_waiting = [], 0

    def _close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def parts_folder(path: Path) -> Path:
    """Where the parts of an unfinished export to `path` are."""
    return path.with_name(f"{path.name}.parts")


def _are_of(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the parts in a folder, if there are any, are of these settings."""
    try:
        refuse_other_settings(folder, settings)
    except ValueError:
        return False
    return True


def refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raises ValueError where a folder holds parts of an export with other settings."""
    try:
        found = dict(json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError:
        raise ValueError(f"{folder}: its {_SETTINGS} is damaged; remove the folder") from None
    plain = json.loads(json.dumps(dict(settings)))
    differ = sorted(name for name in plain.keys() | found.keys() if plain.get(name) != found.get(name))
    if differ:
        raise ValueError(
            f"{folder}: holds an unfinished export with another {', '.join(differ)}; finish that one, choose another "
            "name, or say --overwrite"
        )
