"""The folder of a run: where it is, what `--ckpt_path last` means in it, and what another run left there."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from pipeline.checkpoints.checkpoint_folder import CHECKPOINTS, DAMAGED_SUFFIX, newest_and_damaged
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
    folder = Path(config.checkpoints.dirpath or Path(run_folder(config)) / CHECKPOINTS)
    found, damaged = newest_and_damaged(folder)
    if found is None and damaged:
        each = "; ".join(f"{path.name}: {damage}" for path, damage in damaged.items())
        raise ValueError(
            f"ckpt_path=last: none of the {len(damaged)} checkpoints in {folder} can be read ({each}); bring one back "
            "there, or begin anew: in another trainer.default_root_dir, or without --ckpt_path, which moves this run "
            f"into {EARLIER}/"
        )
    if found is None:
        rank_zero_info(f"ckpt_path=last: no checkpoint in {folder} yet; the run begins")
        return None
    _set_damaged_aside(damaged, found)
    return str(found)


@rank_zero_only
def _set_damaged_aside(damaged: dict[Path, str], found: Path) -> None:
    """Says which are damaged and renames them, so that nothing takes them for checkpoints or removes them as such."""
    for path, damage in damaged.items():
        say(f"warning: checkpoint {path} is damaged ({damage}); going on from {found}", sys.stderr)
        with suppress(OSError):  # where it cannot be renamed it is passed by again
            path.replace(path.with_name(path.name + DAMAGED_SUFFIX))


def move_old_run(folder: Path, checkpoints: bool) -> Path | None:
    """Moves what another run left in a folder into a folder of its own below it, before a new run begins there.

    Its configuration is copied: the file may be the one that the new run was started with; else that writes over it.

    Args:
        folder: of the run.
        checkpoints: move its checkpoints too; false where others look after them, as in a job on a cluster.

    Returns:
        Where to; None where there was nothing.
    """
    names = (NAME, CHECKPOINTS) if checkpoints else (NAME,)
    found = [path for name in names if (path := folder / name).exists()]
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
