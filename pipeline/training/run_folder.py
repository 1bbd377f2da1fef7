"""The folder of a run: where it is, what `--ckpt_path last` means in it, and what another run left there.

    config.yaml, metrics.csv    what was asked for, and a row a logged step
    last.ckpt, best.ckpt        the newest checkpoint and the best
    checkpoints/                those that are kept, and checkpoints.json
    earlier/N/                  the same of runs that were in this folder before

A job's has besides what it takes to resume it (`jobs.storage`).
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from pipeline.checkpoints.checkpoint_store import BEST, FOLDER, LAST, CheckpointStore, NoWholeCheckpointError
from pipeline.checkpoints.storage import open_storage
from pipeline.cli.terminal import say
from pipeline.training.metrics_csv import NAME

RUNS = "runs"
EARLIER = "earlier"
CONFIGURATION = "config.yaml"


def run_folder(config: Any) -> str:
    """`trainer.default_root_dir` of a fit's parsed options, else `runs/NAME` after its last config file."""
    given = config.trainer.default_root_dir
    if given is not None:
        return str(given)
    files = config.get("config") or []
    return f"{RUNS}/{Path(str(files[-1])).stem if files else 'fit'}"


def resolve_last(config: Any) -> str | None:
    """The checkpoint that `--ckpt_path last` stands for: the newest whole one of the run's folder, or None.

    A damaged one is passed by, with a warning, and renamed. Where there is none yet the run begins, so that one command
    line serves for every start of a run.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    folder = run_folder(config)
    store = CheckpointStore(open_storage(folder))
    try:
        found, damaged = store.newest_whole()
    except FileNotFoundError:  # no run was here
        found = None
    except NoWholeCheckpointError as error:
        raise ValueError(
            f"ckpt_path=last: {error}; bring one back there, or begin anew: in another trainer.default_root_dir, or "
            f"without --ckpt_path, which moves this run into {EARLIER}/"
        ) from None
    if found is None:
        rank_zero_info(f"ckpt_path=last: no checkpoint in {folder}/{FOLDER} yet; the run begins")
        return None
    rank_zero_only(store.set_aside)(damaged, found, lambda line: say(f"warning: {line}", sys.stderr))
    return str(store.fetch(found))


def move_old_run(folder: Path, checkpoints: bool) -> Path | None:
    """Moves what another run left in a folder into a folder of its own below it, before a new run begins there.

    Its configuration is copied: the file may be the one that the new run was started with; else that writes over it.

    Args:
        folder: of the run.
        checkpoints: move its checkpoints too; false where others look after them, as in a job on a cluster.

    Returns:
        Where to; None where there was nothing.
    """
    names = (NAME, FOLDER, LAST, BEST) if checkpoints else (NAME,)
    found = [path for name in names if os.path.lexists(path := folder / name)]  # links move behind what they name
    if not found:
        return None
    numbers = [int(path.name) for path in (folder / EARLIER).glob("*") if path.name.isdecimal()]
    place = folder / EARLIER / str(max(numbers, default=0) + 1)
    place.mkdir(parents=True)
    for path in found:
        path.rename(place / path.name)
    if (folder / CONFIGURATION).is_file():
        shutil.copy2(folder / CONFIGURATION, place / CONFIGURATION)
    return place
