"""Ray task of a packing job: `pack_part` makes one shard, after checking that its node sees the shared folders."""

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
from pipeline.packing.shard_builder import PARTS_FOLDER, PackProgress, PartResult, run_part
from pipeline.packing.shard_plan import PackSettings, ShardPart, encoder_versions
from pipeline.processes.killable_process import KillableProcess, ProcessUnavailable


@functools.cache
def _decoding_process() -> KillableProcess:
    """The decoding process of this Ray worker process, shared by its tasks, which run one after the other."""
    return KillableProcess()


class RequirementError(PackError):
    """Raised if a node lacks a folder or a library version that the others have; the message names the node."""


@dataclass(frozen=True, slots=True)
class NodeRequirements:
    """The folders and library versions that all nodes of a packing job must share; plain data.

    Attributes:
        job: The job; relative paths start from its folder of submit.
        settings: The settings of packing, with the folders of input and output.
        token_name: The name of a file in `out`/.parts that the driver wrote for this job; its content is its name.
        reference_video: The path of a video that the driver sees.
        versions: The versions of the libraries that determine the bytes of a shard.
        timeout_s: Seconds until a file that another node has just written must be visible on a network file system.
    """

    job: Job
    settings: PackSettings
    token_name: str
    reference_video: str
    versions: dict[str, str]
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PartFailure:
    """Result of a part that cannot be made on this node in any attempt.

    Attributes:
        message: One sentence for the user, which names the node.
    """

    message: str


def pack_part(
    part_number: int, part: ShardPart, requirements: NodeRequirements, progress_actor: Any = None
) -> PartResult | PartFailure:
    """Make one shard on this node, or reuse the finished one.

    Args:
        part_number: The number of the part, for progress reports.
        part: The shard to make.
        requirements: The folders and versions that this node must have.
        progress_actor: Handle of a `PackProgressActor`; None: no progress is reported.

    Returns:
        The result, or the reason why no attempt can succeed here: a missing folder, a full disk, other versions.
    """
    enter_working_directory(requirements.job)
    report_progress = make_progress_reporter(part_number, progress_actor)
    report_progress(PackProgress(0, 0, 0))

    def check_and_report(progress: PackProgress) -> None:
        if progress.refused and not progress.reused:
            # Without this check, a lost file system would make all further videos absent.
            check_requirements(requirements, timeout_s=0)
        report_progress(progress)

    try:
        check_requirements(requirements, requirements.timeout_s)
        with report_full_disk(requirements.settings.root):
            return run_part(part, requirements.settings, check_and_report, _decoding_process())
    except RequirementError as error:
        return PartFailure(str(error))
    except PackError as error:
        return PartFailure(f"node {node_name()}: {error}")
    except (ProcessUnavailable, ImportError) as error:
        return PartFailure(f"node {node_name()}: decoding processes do not run: {error}")
    except (OSError, ValueError) as error:
        return PartFailure(f"node {node_name()}: {part.shard} cannot be made: {error}")


def check_requirements(requirements: NodeRequirements, timeout_s: float) -> None:
    """Check that this node has the same folders and libraries as the driver.

    Args:
        requirements: The folders and versions of the driver.
        timeout_s: Seconds to wait for files that are missing.

    Raises:
        RequirementError: A folder is not seen, or a library has another version.
    """
    out, videos = requirements.settings.root, requirements.settings.videos
    remedy = "give a folder of a file system that all nodes share"
    token, reference_video = requirements.token_name, requirements.reference_video
    if not _wait_until(lambda: _read_text(out / PARTS_FOLDER / token) == token, timeout_s):
        reason = _explain_relative_path(requirements.job, out)
        raise RequirementError(
            f"node {node_name()} does not see the folder out={out} that the others see{reason}; {remedy}"
        )
    if not _wait_until(Path(reference_video).exists, timeout_s):
        reason = _explain_relative_path(requirements.job, Path(reference_video))
        raise RequirementError(
            f"node {node_name()} does not see the videos in {videos} that the others see (such as {reference_video})"
            f"{reason}; {remedy}"
        )
    own = encoder_versions(requirements.settings.flow)
    required = requirements.versions
    other = [f"{name} {own[name]}, not {version}" for name, version in required.items() if own[name] != version]
    if other:
        versions = "; ".join(other)
        raise RequirementError(
            f"node {node_name()} has other libraries than the driver's node ({versions}); install the same everywhere"
        )


def node_name() -> str:
    """Host name and address of this node."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{socket.gethostname()} ({address})"


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _explain_relative_path(job: Job, path: Path) -> str:
    """The part of a message that explains a missing relative path by the missing folder of submit; else empty."""
    if path.is_absolute() or Path.cwd() == Path(job.origin):
        return ""
    return f", because it has no folder {job.origin} to take that path from"
