"""One part of a packing job, as a Ray task: `pack_part` runs it on a node that is known to see what the others see."""

import functools
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from jobs.spec.job import Job
from jobs.spec.upload_paths import enter_working_directory
from jobs.verbs.pack_progress import make_progress_reporter
from pipeline.packing.output_folder import PackError, report_full_disk
from pipeline.packing.shard_builder import PARTS_FOLDER, Outcome, PartResult, run_part
from pipeline.packing.shard_plan import PackSettings, ShardPart, encoder_versions
from pipeline.processes.killable_process import KillableProcess, ProcessUnavailable


@functools.cache
def _decoding_process() -> KillableProcess:
    """The child of this Ray worker process, which runs one task after the other."""
    return KillableProcess()


class ViewError(PackError):
    """A node lacks what the others have; the message names it."""


@dataclass(frozen=True, slots=True)
class SharedView:
    """What every node of a packing job must have alike; plain data.

    Attributes:
        job: Its folder of submit is what relative paths start from.
        settings: How to pack, and where to.
        token_name: A file in `out`/.parts that the driver made for this job; its content is its name.
        witness: A video that the driver sees.
        versions: Of the libraries that determine the bytes of a shard.
        patience_s: Seconds that a file which another node has just made may take to appear on a network file system.
    """

    job: Job
    settings: PackSettings
    token_name: str
    witness: str
    versions: dict[str, str]
    patience_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PartFailure:
    """Returned for a part that cannot be made here, whoever tries: the sentence for the person names the node."""

    message: str


def pack_part(number: int, part: ShardPart, view: SharedView, tally: Any = None) -> PartResult | PartFailure:
    """Make one shard, or find it made, on this node.

    Args:
        number: Of the part, for `tally`.
        part: The shard to make.
        view: What this node must see.
        tally: Handle of a `PackProgressActor` actor.

    Returns:
        The result, or why no attempt can succeed here: a folder that is not seen, a full disk, other versions.
    """
    enter_working_directory(view.job)
    tell = make_progress_reporter(number, tally)
    tell(Outcome(0, 0, 0))

    def report(outcome: Outcome) -> None:
        if outcome.refused and not outcome.reused:
            check_view(view, patience_s=0)  # or a file system that went away would make the rest absent
        tell(outcome)

    try:
        check_view(view, view.patience_s)
        with report_full_disk(view.settings.root):
            return run_part(part, view.settings, report, _decoding_process())
    except ViewError as error:
        return PartFailure(str(error))
    except PackError as error:
        return PartFailure(f"node {node_name()}: {error}")
    except (ProcessUnavailable, ImportError) as error:
        return PartFailure(f"node {node_name()}: decoding processes do not run: {error}")
    except (OSError, ValueError) as error:
        return PartFailure(f"node {node_name()}: {part.shard} cannot be made: {error}")


def check_view(view: SharedView, patience_s: float) -> None:
    """See that this node has the same folders and libraries as the driver.

    Args:
        view: What the driver has.
        patience_s: Seconds to wait for files that are not there.

    Raises:
        ViewError: It has not.
    """
    out, videos = view.settings.root, view.settings.videos
    remedy = "give a folder of a file system that all nodes share"
    if not _appears(lambda: _content(out / PARTS_FOLDER / view.token_name) == view.token_name, patience_s):
        why = _taken_from(view.job, out)
        raise ViewError(f"node {node_name()} does not see the folder out={out} that the others see{why}; {remedy}")
    if not _appears(Path(view.witness).is_file, patience_s):
        why = _taken_from(view.job, Path(view.witness))
        raise ViewError(
            f"node {node_name()} does not see the videos in {videos} that the others see (such as {view.witness})"
            f"{why}; {remedy}"
        )
    here = encoder_versions()
    other = [f"{name} {here[name]}, not {version}" for name, version in view.versions.items() if here[name] != version]
    if other:
        versions = "; ".join(other)
        raise ViewError(
            f"node {node_name()} has other libraries than the driver's node ({versions}); install the same everywhere"
        )


def node_name() -> str:
    """Host name and address of this node."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{socket.gethostname()} ({address})"


def _appears(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _taken_from(job: Job, path: Path) -> str:
    """What a relative path was taken from, where that explains why it is not there."""
    if path.is_absolute() or Path.cwd() == Path(job.origin):
        return ""
    return f", because it has no folder {job.origin} to take that path from"
