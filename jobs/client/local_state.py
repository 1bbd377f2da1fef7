"""State on this machine: the record of the local cluster, its token, and the jobs that were submitted from here.

It is kept in $JOBS_STATE_DIR, else the user's state folder (on Linux $XDG_STATE_HOME/action-recognition-pipeline, else
~/.local/state/action-recognition-pipeline), a folder that only its owner can enter.
"""

import contextlib
import dataclasses
import json
import os
import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.file_lock import file_lock
from datamodules.storage.user_folders import user_state_folder


@dataclass(frozen=True)
class LocalCluster:
    """Record of a cluster that `python -m jobs up` or a submit started on this machine.

    Args:
        address: The address of its job server, such as http://127.0.0.1:43211.
        pid: The process id of `ray start --block`, the parent of the cluster's other processes.
        start_time: The start time of that process in seconds since the epoch, which distinguishes it from a later
            process with the same id.
        mark: The value of CLUSTER_MARK in the environment of all processes of the cluster and of its jobs.
        folder: The folder of Ray's sessions, sockets and logs, which only its owner can enter.
        token_path: The path of the token file, which has mode 0600.
        join_address: The host:port where other nodes can join; empty for a cluster on loopback.
        num_cpus: The number of CPUs that Ray schedules; None: all that Ray found.
        num_gpus: The number of GPUs that Ray schedules; None: all that Ray found.
    """

    address: str
    pid: int
    start_time: float
    mark: str
    folder: str
    token_path: str
    join_address: str = ""
    num_cpus: int | None = None
    num_gpus: int | None = None

    def token(self) -> str:
        """The token that the job server requires."""
        return Path(self.token_path).read_text(encoding="utf-8").strip()

    def join_instructions(self) -> list[str]:
        """The commands to type on other machines, as lines of text; empty for a cluster on loopback."""
        if not self.join_address:
            return []
        variables = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={self.token_path}"
        return [
            "on every other node, with a copy of the token file that only its owner can read (chmod 600):",
            f"  {variables} ray start --address={self.join_address}",
            "to submit from another machine:",
            f"  {variables} RAY_ADDRESS={self.address} python -m jobs submit ...",
        ]


@dataclass(frozen=True)
class SubmissionRecord:
    """Record of a job that was submitted from this machine, by which `resume` finds it after a restart of the cluster.

    Args:
        job_id: The id of the job on the cluster.
        name: The name of its run.
        storage_path: The absolute folder, or the URI, that holds the run's folder.
        address: The address of the job server that accepted it.
        time: The time of its submission in seconds since the epoch.
    """

    job_id: str
    name: str
    storage_path: str
    address: str
    time: float


MAX_SUBMISSIONS = 500  # records of submitted jobs that are kept, the newest
CLUSTER_MARK = "ACTION_RECOGNITION_CLUSTER"


def state_folder() -> Path:
    """The state folder; created with mode 0700 if it is missing."""
    configured = os.environ.get("JOBS_STATE_DIR")
    folder = Path(configured) if configured else user_state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.absolute()


def read_cluster() -> LocalCluster | None:
    """The recorded cluster, alive or not; None if there is no record, or it cannot be read."""
    try:
        return LocalCluster(**json.loads((state_folder() / "cluster.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_cluster(cluster: LocalCluster) -> None:
    """Record a cluster; replaces an earlier record."""
    with write_atomically(state_folder() / "cluster.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(cluster), indent=1), encoding="utf-8")


def remove_cluster_record() -> None:
    """Remove the record and the token."""
    recorded = read_cluster()
    if recorded is not None:
        Path(recorded.token_path).unlink(missing_ok=True)
    (state_folder() / "cluster.json").unlink(missing_ok=True)


def write_token(mark: str) -> Path:
    """Write a new random token to a new file of mode 0600, and return its path."""
    path = state_folder() / f"token-{mark}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    return path


def record_submission(submission: SubmissionRecord) -> None:
    """Add a job to the record of submitted jobs."""
    with lock_state("submissions.lock"):
        lines = [json.dumps(dataclasses.asdict(each)) for each in [*recorded_submissions(), submission]]
        with write_atomically(state_folder() / "submissions.jsonl") as temporary:
            temporary.write_text("\n".join(lines[-MAX_SUBMISSIONS:]) + "\n", encoding="utf-8")


def recorded_submissions() -> list[SubmissionRecord]:
    """The jobs that were submitted from this machine, the newest last; unreadable lines are skipped."""
    records = []
    try:
        lines = (state_folder() / "submissions.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            records.append(SubmissionRecord(**json.loads(line)))
    return records


def lock_state(name: str = "lock") -> AbstractContextManager[object]:
    """A lock of the state folder; held while a cluster is started or stopped, so that two commands do not start two.

    Args:
        name: The file name of the lock.
    """
    return file_lock(state_folder() / name)
