"""Selection of the code files of a folder, which are uploaded with a job."""

import fnmatch
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.spec.secret_scan import is_secret_file

PACKAGES = ("jobs", "pipeline", "lightning_modules", "datamodules")
CODE_SUFFIXES = frozenset({".py", ".yaml", ".yml", ".json", ".toml", ".txt", ".csv"})
MAX_CODE_FILE_BYTES = 2**20  # bytes; a longer list of videos is data
MAX_ENTRIES = 100_000  # files and folders, above which the search ends: someone submits from their home folder
SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "build", "checkpoints", "data", "datasets", "demo", "dist", "lightning_logs", "logs"}
    | {"node_modules", "outputs", "runs", "shards", "site-packages", "venv", "videos", "wandb"}
)


def code_files(origin: Path, exclude: Sequence[str]) -> Iterator[Path]:
    """Yield the relative paths of the code files of a folder that are uploaded.

    Args:
        origin: The folder to search.
        exclude: Patterns of files and folders to leave out, relative to `origin`.

    Raises:
        ValueError: there are more than MAX_ENTRIES files and folders.
    """
    num_entries = 0
    for folder, names, files in os.walk(origin):
        relative = Path(folder).relative_to(origin)
        names[:] = sorted(name for name in names if _is_searched(relative / name, origin, exclude))
        num_entries += len(names) + len(files)
        if num_entries > MAX_ENTRIES:
            raise ValueError(
                f"{origin} has more than {MAX_ENTRIES:,} files to look through for code: submit from the folder "
                "of your project, or name the folders of data under `exclude`"
            )
        for name in sorted(files):
            if _is_uploaded(relative / name, origin, exclude):
                yield relative / name


def _is_searched(relative: Path, origin: Path, exclude: Sequence[str]) -> bool:
    """Whether a folder is searched for code."""
    folder = origin / relative
    if relative.name.startswith(".") or folder.is_symlink() or is_excluded(relative, exclude):
        return False
    if relative.as_posix() in PACKAGES or (folder / "pyvenv.cfg").exists() or (folder / "index.parquet").exists():
        return False  # ours are copied from where they are imported
    return relative.name not in SKIPPED_FOLDERS or (folder / "__init__.py").exists()


def _is_uploaded(relative: Path, origin: Path, exclude: Sequence[str]) -> bool:
    name = relative.name.lower()
    if name.startswith(".") or relative.suffix.lower() not in CODE_SUFFIXES or is_excluded(relative, exclude):
        return False
    if is_secret_file(relative):
        return False
    path = origin / relative
    return path.is_file() and path.stat().st_size <= MAX_CODE_FILE_BYTES


def is_excluded(relative: Path, exclude: Sequence[str]) -> bool:
    """Whether a pattern matches the relative path, one of its parent folders, or the file name alone."""
    candidates = [relative.as_posix(), *(parent.as_posix() for parent in relative.parents), relative.name]
    return any(fnmatch.fnmatchcase(candidate, pattern.rstrip("/")) for pattern in exclude for candidate in candidates)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file without its times and mode, so that equal content gives an equal upload."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
