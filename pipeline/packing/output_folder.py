"""The output folder of packing: its lock, the recorded options of its first run, and the error of a full disk."""

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.dataset.manifest import MANIFEST_NAME
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.file_lock import Timeout, file_lock
from pipeline.packing.shard_builder import PARTS_FOLDER

RUN_NAME = "run.json"
LIST_OPTIONS = "list_options"  # recorded to explain a difference, not compared
# Recorded as digests: what they are of.
DIGESTS = {"annotations": "other videos, labels, groups or splits in the lists", "classes": "other classes"}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PackError(ValueError):
    """Packing cannot start or finish; the message names the reason and the fix."""


def agree_with_earlier_run(root: Path, options: dict[str, Any], folders: Sequence[Path] = ()) -> None:
    """Record the options of the first run in a folder; compare the options of a later run with them.

    Args:
        root: The folder of the dataset, locked.
        options: Everything that determines the dataset, as plain values.
        folders: The folders of its renditions, which need not exist.

    Raises:
        PackError: The options differ, or a folder contains shards or a manifest without a record of the run.
    """
    path = root / PARTS_FOLDER / RUN_NAME
    if not path.exists():
        for folder in dict.fromkeys((root, *folders)):
            unexpected = sorted(item.name for item in folder.glob("*") if item.suffix == ".tar")
            if unexpected or (folder / MANIFEST_NAME).exists():
                raise PackError(
                    f"out={root}: {folder} holds {(unexpected or [MANIFEST_NAME])[0]}, and there is no record of the "
                    "run that made it; choose another folder"
                )
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
        return
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise PackError(f"out={root}: {PARTS_FOLDER}/{RUN_NAME} is damaged; remove the folder") from None
    changed = [key for key in _differing(earlier, options) if key != LIST_OPTIONS]  # which matter by what they change
    if changed:
        differences = "; ".join(_describe_difference(key, earlier, options) for key in changed)
        raise PackError(
            f"out={root}: was packed otherwise ({differences}); give the same options and lists, another "
            "folder, or remove this one"
        )


def _differing(earlier: dict[str, Any], options: dict[str, Any]) -> list[str]:
    return sorted(key for key in options.keys() | earlier.keys() if options.get(key) != earlier.get(key))


def _describe_difference(key: str, earlier: dict[str, Any], options: dict[str, Any]) -> str:
    """A difference in words: of options the values; of digests what they are of, and the options that changed it."""
    if key not in DIGESTS:
        return f"{key} {earlier.get(key)!r} there, {options.get(key)!r} now"
    there, now = earlier.get(LIST_OPTIONS, {}), options.get(LIST_OPTIONS, {})
    changed = [_describe_difference(name, there, now) for name in _differing(there, now)]
    return f"{DIGESTS[key]}: {', '.join(changed)}" if changed else DIGESTS[key]


@contextmanager
def lock_folder(out: Path) -> Iterator[None]:
    """Lock the folder against a second run; the lock ends with this process, even if it is killed."""
    try:
        (out / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise PackError(f"out={out}: is not a folder; choose another name") from None
    lock = file_lock(out / PARTS_FOLDER / "lock", wait=False)
    try:
        lock.acquire()
    except Timeout:
        raise PackError(f"out={out}: another run of pack works in it; wait for its end or stop it") from None
    with lock:
        yield


@contextmanager
def report_full_disk(out: Path) -> Iterator[None]:
    """Convert the OSError of a write on a full disk, quota or file size limit into a PackError of one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise PackError(
            f"out={out}: no room left to write ({error.strerror}); make room and run the same command again, finished "
            "shards are kept"
        ) from None
