"""`upload:PATH` in the arguments of a job: a path below the upload, resolved on each node."""

import os
from collections.abc import Sequence
from pathlib import Path

import jobs
from jobs.spec.job import Job

UPLOAD_PREFIX = "upload:"


def resolve_upload_paths(args: Sequence[str], root: Path) -> list[str]:
    """Replace every `upload:RELATIVE` in the arguments by its path below `root`, the folder of the upload."""
    resolved = []
    for arg in args:
        flag, equals, value = arg.partition("=")
        if arg.startswith(UPLOAD_PREFIX):
            arg = str(root / arg.removeprefix(UPLOAD_PREFIX))
        elif equals and value.startswith(UPLOAD_PREFIX):
            arg = f"{flag}={root / value.removeprefix(UPLOAD_PREFIX)}"
        resolved.append(arg)
    return resolved


def upload_root() -> Path:
    """The folder of the upload on this node: the parent of the imported package `jobs`."""
    return Path(jobs.__file__).resolve().parent.parent


def enter_working_directory(job: Job) -> None:
    """Change to the folder of submit if this node has it, else to the folder of the upload."""
    root = upload_root()
    origin = Path(job.origin)
    os.chdir(origin if origin.is_dir() else root)
