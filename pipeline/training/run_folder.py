"""Run folder: its path, the checkpoints that `--ckpt_path last` and `best` name, and moving earlier files away.

    config.yaml, metrics.csv    the configuration, and one row per logged step
    last.ckpt, best.ckpt        the newest and the best checkpoint
    checkpoints/                the kept checkpoints, and checkpoints.json
    earlier/N/                  the same files of earlier runs in this folder

The folder of a job also holds what is needed to resume the job (`jobs.storage`).
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from pipeline.checkpoints.checkpoint_record import FOLDER
from pipeline.checkpoints.checkpoint_store import BEST, LAST, CheckpointStore, NoIntactCheckpointError
from pipeline.checkpoints.storage import open_storage
from pipeline.cli.terminal import print_text
from pipeline.training.metrics_csv import METRICS_NAME

RUNS = "runs"
EARLIER = "earlier"
CONFIGURATION = "config.yaml"


def run_folder(config: Any) -> str:
    """Returns `trainer.default_root_dir` of a fit's parsed options; by default `runs/NAME` after its last config."""
    configured = config.trainer.default_root_dir
    if configured is not None:
        return str(configured)
    files = config.get("config") or []
    return f"{RUNS}/{Path(str(files[-1])).stem if files else 'fit'}"


def resolve_last(config: Any) -> str | None:
    """Returns the checkpoint that `--ckpt_path last` names: the newest whole one in the run's folder, or None.

    Damaged checkpoints are skipped with a warning and renamed. Without a checkpoint the run starts from the beginning,
    so that the same command line serves for every start of a run.

    Raises:
        ValueError: all checkpoints are damaged.
    """
    folder = run_folder(config)
    store = CheckpointStore(open_storage(folder))
    try:
        found, damaged = store.find_newest_intact()
    except FileNotFoundError:  # no earlier run
        found = None
    except NoIntactCheckpointError as error:
        raise ValueError(
            f"ckpt_path=last: {error}; bring one back there, or begin anew: in another trainer.default_root_dir, or "
            f"without --ckpt_path, which moves this run into {EARLIER}/"
        ) from None
    if found is None:
        rank_zero_info(f"ckpt_path=last: no checkpoint in {folder}/{FOLDER} yet; the run begins")
        return None
    rank_zero_only(store.rename_damaged)(damaged, found, lambda line: print_text(f"warning: {line}", sys.stderr))
    return str(store.fetch(found))


def resolve_best(config: Any) -> str:
    """Returns the checkpoint that `--ckpt_path best` names: the best undamaged one in the run's folder.

    Raises:
        ValueError: the run has no checkpoint, or all are damaged.
    """
    folder = run_folder(config)
    store = CheckpointStore(open_storage(folder))
    try:
        best = store.find_best_intact()
    except FileNotFoundError:  # no earlier run
        best = None
    if best is None:
        raise ValueError(
            f"ckpt_path=best: there is no undamaged checkpoint in {folder}/{FOLDER}; give a file, or the "
            "trainer.default_root_dir of a run that has one"
        )
    return str(store.fetch(best))


def move_old_run(folder: Path, checkpoints: bool) -> Path | None:
    """Moves the files of an earlier run into `earlier/N/` before a new run begins in the same folder.

    config.yaml is copied, because the new run may have been started with that file; otherwise it is overwritten.

    Args:
        folder: the run's folder.
        checkpoints: whether to move the checkpoints too; false in a cluster job, which manages them itself.

    Returns:
        The folder that the files were moved to; None if there were none.
    """
    names = (METRICS_NAME, FOLDER, LAST, BEST) if checkpoints else (METRICS_NAME,)
    paths = [path for name in names if os.path.lexists(path := folder / name)]  # links are moved after their targets
    if not paths:
        return None
    numbers = [int(path.name) for path in (folder / EARLIER).glob("*") if path.name.isdecimal()]
    destination = folder / EARLIER / str(max(numbers, default=0) + 1)
    destination.mkdir(parents=True)
    for path in paths:
        path.rename(destination / path.name)
    if (folder / CONFIGURATION).is_file():
        shutil.copy2(folder / CONFIGURATION, destination / CONFIGURATION)
    return destination
