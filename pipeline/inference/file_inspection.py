"""Inspection of video files: size, digest and properties of each, read once and kept in the user's cache folder.

Every file is probed in a process that is killed when it hangs: its header or packets and one frame are read, and its
bytes digested. Nothing is decoded in full. The results of a folder are lines of JSON in the cache folder
(`datamodules.storage.user_folders`), appended while the inspection goes on; a file is inspected again if its size or
modification time has changed.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations.refusals import CRASH, ERROR, HANG
from datamodules.annotations.video_files import check_video_file
from datamodules.dataset.quarantine import one_line
from datamodules.storage.file_lock import file_lock
from datamodules.storage.user_folders import user_cache_folder
from datamodules.video.probing import ProbedVideo, VideoInfo, probe_file
from datamodules.video.video_container import UNREADABLE, DecodeError
from pipeline.cli.progress import count_progress
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import ProcessDied, ProcessHung
from pipeline.processes.machine import num_processors

_FORMAT = 1  # of the lines
_TIMEOUT_S = 60.0  # without progress
_FILES_PER_PROCESS = 64  # between two times that results are saved
_MAX_UNUSED_S = 30 * 24 * 3600  # results that were not used for this long are removed


class InspectedFile(NamedTuple):
    """A video file after its inspection.

    Attributes:
        size: bytes; 0 if there is no such file.
        modified_ns: time of the last modification, in nanoseconds since 1970.
        probed: digest and properties; None if it cannot be used.
        reason: category of the reason why it cannot be used, as in quarantine.csv; "" if it can.
        detail: description of the reason, one line.
    """

    size: int
    modified_ns: int
    probed: ProbedVideo | None = None
    reason: str = ""
    detail: str = ""


def inspect_files(
    root: Path, names: Sequence[str], retry: bool = False, processes: int | None = None
) -> list[InspectedFile]:
    """Inspects video files, except those whose results are in the cache folder.

    Args:
        root: folder of the files.
        names: paths of the files, relative to it.
        retry: whether to inspect files again that could not be used.
        processes: number of processes; None: one for each processor.

    Returns:
        The result of each file, in order.
    """
    with _open_results(root) as results:
        found = [_stat(root / name) for name in names]
        for number, (name, file) in enumerate(zip(names, found, strict=True)):
            earlier = results.known.get(name)
            is_known = earlier is not None and earlier[:2] == file[:2] and not (retry and earlier.reason)
            if not file.reason and earlier is not None and is_known:
                found[number] = earlier
        pending = [number for number, file in enumerate(found) if file.probed is None and not file.reason]
        if not pending:
            return found
        processes = min(processes or num_processors(), len(pending))
        step = _FILES_PER_PROCESS * processes
        with (
            count_progress("inspect", len(pending), "videos") as advance,
            KillablePool(processes, _TIMEOUT_S, by_progress=True) as pool,
        ):
            for start in range(0, len(pending), step):
                block = pending[start : start + step]
                outcomes = pool.map(probe_file, [(str(root / names[number]),) for number in block], advance)
                for number, outcome in zip(block, outcomes, strict=True):
                    found[number] = _with_outcome(found[number], outcome)
                results.append((names[number], found[number]) for number in block)
    return found


def _stat(path: Path) -> InspectedFile:
    try:
        check_video_file(path)
        status = path.stat()
    except DecodeError as error:
        return InspectedFile(0, 0, None, error.reason, one_line(str(error)))
    except OSError as error:
        return InspectedFile(0, 0, None, UNREADABLE, one_line(str(error)))
    return InspectedFile(status.st_size, status.st_mtime_ns)


def _with_outcome(file: InspectedFile, outcome: ProbedVideo | Exception) -> InspectedFile:
    if isinstance(outcome, ProbedVideo):
        return file._replace(probed=outcome)
    return file._replace(reason=refusal_reason(outcome), detail=one_line(str(outcome)))


def refusal_reason(error: Exception) -> str:
    """Category of the reason why a video could not be probed."""
    if isinstance(error, DecodeError):
        return error.reason
    if isinstance(error, OSError) and not isinstance(error, ProcessHung | ProcessDied):
        return UNREADABLE
    return HANG if isinstance(error, ProcessHung) else CRASH if isinstance(error, ProcessDied) else ERROR


class _Results:
    """Results of earlier inspections by name; `append` adds to the file, if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.known: dict[str, InspectedFile] = {}
        self._path = path
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                self._read(path)

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError, TypeError, KeyError):  # a line that a kill cut off
                    name, result = _from_line(line)
                    self.known[name] = result

    def append(self, files: Iterator[tuple[str, InspectedFile]]) -> None:
        if self._path is None:
            return
        lines = [json.dumps({"name": name, **_as_json(file)}) for name, file in files]
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + "\n".join(lines) + "\n")  # the first line feed ends a line that a kill cut off


def _as_json(file: InspectedFile) -> dict[str, Any]:
    probed = None if file.probed is None else [file.probed.content_sha256, file.probed.info._asdict()]
    return file._asdict() | {"probed": probed}


def _from_line(line: str) -> tuple[str, InspectedFile]:
    content = json.loads(line)
    name, probed = content.pop("name"), content.pop("probed")
    if probed is not None:
        probed = ProbedVideo(probed[0], VideoInfo(**probed[1]))
    return name, InspectedFile(probed=probed, **content)


@contextlib.contextmanager
def _open_results(root: Path) -> Iterator[_Results]:
    """The results of a folder, locked: another process waits, and then finds what this one did.

    Without a cache folder that can be written, all files are inspected, and nothing is kept.
    """
    folder = user_cache_folder() / "inspected"
    digest = hashlib.sha256(os.fsencode(f"{_FORMAT} {version('av')} {root.absolute()}")).hexdigest()[:32]
    path = folder / f"{digest}.jsonl"
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(path.with_suffix(".lock")))
            path.touch()
        except OSError:
            yield _Results(None)
            return
        _remove_unused(folder)
        yield _Results(path)


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _MAX_UNUSED_S:
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)
