"""Output paths of results: defaults, names, and checks that they can be written."""

import os
import re
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from lightning_modules.weights.hub import HubAddress

_RUN_CHECKPOINT_NAME = re.compile(r"(last|best|step[-=]\d+)\.ckpt")


def default_folder(checkpoint: Path, split: str, fold: str | None) -> Path:
    """Default folder of results: {stem}-{split}, or {stem}-{split}-fold{fold}, beside the checkpoint."""
    checkpoint = _local_path(checkpoint)
    return checkpoint.with_name("-".join([checkpoint.stem, split, *([] if fold is None else [f"fold{fold}"])]))


def _local_path(checkpoint: Path) -> Path:
    """The path of a checkpoint; for one on the hub a name in this folder."""
    address = HubAddress.parse(checkpoint)
    return checkpoint if address is None else Path(address.file_name)


def default_folds_folder(checkpoint: Path, split: str) -> Path:
    """Default folder for the results of all folds: above the path component with {fold}, else beside the checkpoint."""
    above = [part for part in checkpoint.parents if "{fold}" not in str(part)]
    parent = above[0] if "{fold}" in str(checkpoint) else checkpoint.parent
    return parent / f"{checkpoint.stem.replace('{fold}', '').strip('-_') or 'checkpoint'}-{split}-folds"


def checkpoint_title(checkpoint: Path) -> str:
    """Title of a checkpoint in a report: its file name, with its run's folder if every run has a file of that name."""
    name = _local_path(checkpoint).name
    return f"{_run_folder(checkpoint)}/{name}" if _RUN_CHECKPOINT_NAME.fullmatch(name) else name


def _run_folder(checkpoint: Path) -> str:
    folder = checkpoint.absolute().parent
    return (folder.parent if folder.name == "checkpoints" else folder).name


def distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """Distinct folder name for each checkpoint: its stem, else with its run's name, else with a number too."""
    checkpoints = [_local_path(path) for path in checkpoints]
    stems = [path.stem for path in checkpoints]
    if len(set(stems)) == len(stems):
        return stems
    longer = [f"{_run_folder(path)}-{path.stem}" for path in checkpoints]
    return longer if len(set(longer)) == len(longer) else [f"{n}-{name}" for n, name in enumerate(longer, 1)]


def refuse_unwritable_folder(folder: Path, option: str = "out") -> None:
    """Raises ValueError if results cannot be written to a folder, existing or not; called before the work starts."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{option}={str(folder)!r}: is a file; give a folder for the results")
    _refuse_unwritable(folder, folder, option)


def refuse_other_files(folder: Path, names: Collection[str], overwrite: bool) -> None:
    """Raises ValueError if a folder that is written as a whole cannot be, or has something in it already.

    Args:
        folder: the folder, existing or not.
        names: names of what is written to it.
        overwrite: whether to accept a folder that has nothing else in it.
    """
    refuse_unwritable_folder(folder)
    found = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if found and not (overwrite and found <= set(names)):
        what = "was written before; give --overwrite to replace it" if found <= set(names) else "is not empty"
        raise ValueError(f"out={str(folder)!r}: {what}, or choose another folder")


def refuse_unwritable_file(path: Path, option: str = "out") -> None:
    """Raises ValueError if a file cannot be written, existing or not; called before the work starts."""
    if path.is_dir():
        raise ValueError(f"{option}={str(path)!r}: is a folder; give the name of a file in it")
    _refuse_unwritable(path, path.parent, option)


def nearest_folder(path: Path) -> Path:
    """Returns the folder itself if it exists, else its nearest existing parent."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _refuse_unwritable(path: Path, folder: Path, option: str) -> None:
    """Writes a temporary file in the nearest existing folder; creates no folder, as the work may still be refused."""
    existing = next(ancestor for ancestor in (folder, *folder.absolute().parents) if os.path.lexists(ancestor))
    if not existing.is_dir():
        raise ValueError(f"{option}={str(path)!r}: {existing} is no folder, so nothing can be in it; give another path")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"{option}={str(path)!r}: nothing can be written in {existing} ({reason}); give another path"
        ) from error
