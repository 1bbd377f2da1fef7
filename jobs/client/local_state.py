"""What is remembered on this machine: the cluster that was started here, its token, the jobs that were submitted.

Kept under $JOBS_STATE_DIR, else the user's state folder (on Linux $XDG_STATE_HOME/action-recognition-pipeline, else
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
    """A cluster that `python -m jobs up` or a submit started on this machine.

    Args:
        address: Its job server, such as http://127.0.0.1:43211.
        pid: Process id of `ray start --block`, which watches over the others.
        started: That process's start time, seconds since the epoch: tells it from a later process with the same id.
        mark: Value of CLUSTER_MARK in the environment of each of its processes, those of its jobs included.
        folder: Ray's sessions, sockets and logs, entered by the owner alone.
        token_path: The token file, mode 0600.
        joins_at: host:port where other nodes may join; empty for a cluster that keeps to loopback.
        num_cpus: CPUs that it shares out; None: those that Ray found.
        num_gpus: GPUs, likewise.
    """

    address: str
    pid: int
    started: float
    mark: str
    folder: str
    token_path: str
    joins_at: str = ""
    num_cpus: int | None = None
    num_gpus: int | None = None

    def token(self) -> str:
        """The secret that its job server asks for."""
        return Path(self.token_path).read_text(encoding="utf-8").strip()

    def how_to_join(self) -> list[str]:
        """What to type on other machines, in lines; none for a cluster that keeps to loopback."""
        if not self.joins_at:
            return []
        given = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={self.token_path}"
        return [
            "on every other node, with a copy of the token file that only its owner can read (chmod 600):",
            f"  {given} ray start --address={self.joins_at}",
            "to submit from another machine:",
            f"  {given} RAY_ADDRESS={self.address} python -m jobs submit ...",
        ]


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted from this machine, so that `resume` finds it when the cluster has forgotten it.

    Args:
        job_id: Its id on the cluster.
        name: Its run's name.
        storage_path: An absolute folder, or a URI.
        address: The job server that took it.
        time: When, in seconds since the epoch.
    """

    job_id: str
    name: str
    storage_path: str
    address: str
    time: float


MOST_SUBMISSIONS = 500  # that are remembered
CLUSTER_MARK = "ACTION_RECOGNITION_CLUSTER"


def state_folder() -> Path:
    """The folder, made where it is missing, of mode 0700."""
    chosen = os.environ.get("JOBS_STATE_DIR")
    folder = Path(chosen) if chosen else user_state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.absolute()


def read_cluster() -> LocalCluster | None:
    """What was recorded, alive or not; None where nothing was, or where the record cannot be read."""
    try:
        return LocalCluster(**json.loads((state_folder() / "cluster.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_cluster(cluster: LocalCluster) -> None:
    """Record a cluster in place of an earlier one."""
    with write_atomically(state_folder() / "cluster.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(cluster), indent=1), encoding="utf-8")


def forget_cluster() -> None:
    """Remove the record and the token."""
    recorded = read_cluster()
    if recorded is not None:
        Path(recorded.token_path).unlink(missing_ok=True)
    (state_folder() / "cluster.json").unlink(missing_ok=True)


def write_token(mark: str) -> Path:
    """A new secret in a new file of mode 0600."""
    path = state_folder() / f"token-{mark}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    return path


def remember_submission(submitted: Submitted) -> None:
    """Add a job to those that were submitted from here."""
    with lock_state("submissions.lock"):
        lines = [json.dumps(dataclasses.asdict(each)) for each in [*read_submissions(), submitted]]
        with write_atomically(state_folder() / "submissions.jsonl") as temporary:
            temporary.write_text("\n".join(lines[-MOST_SUBMISSIONS:]) + "\n", encoding="utf-8")


def read_submissions() -> list[Submitted]:
    """The jobs that were submitted from here, the newest last; lines that cannot be read are left out."""
    found = []
    try:
        lines = (state_folder() / "submissions.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            found.append(Submitted(**json.loads(line)))
    return found


def lock_state(name: str = "lock") -> AbstractContextManager[object]:
    """Held while a cluster is started or stopped, so that two commands at once do not start two.

    Args:
        name: Of the lock's file.
    """
    return file_lock(state_folder() / name)
