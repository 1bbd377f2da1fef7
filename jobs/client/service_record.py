"""The record of the service that runs on this machine, by which `serve --status`, `--stop` and `--replace` find it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from datamodules.storage.atomic_write import write_atomically
from jobs.client.local_state import state_folder

_NAME = "service.json"


@dataclass(frozen=True)
class ServiceRecord:
    """Record of a service that `python -m jobs serve` started on this machine.

    Args:
        url: where it answers.
        pid: the process id of the command, which holds the port.
        start_time: the start time of that process in seconds since the epoch, which distinguishes it from a later
            process with the same id.
        token_path: the file of the token that requests must carry; empty for none.
        address: the address of the Ray cluster that was given; empty for the local cluster.
        replicas: the options of the replicas, as plain data.
        started_cluster: whether the command started the local cluster, which ends with it.
    """

    url: str
    pid: int
    start_time: float
    token_path: str
    address: str
    replicas: dict[str, Any]
    started_cluster: bool

    def is_alive(self) -> bool:
        """Whether the process of the command is there."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.start_time) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def headers(self) -> dict[str, str]:
        """The HTTP headers with the token; none where none is asked for."""
        if not self.token_path:
            return {}
        return {"Authorization": f"Bearer {Path(self.token_path).read_text(encoding='utf-8').strip()}"}


def read_service() -> ServiceRecord | None:
    """The recorded service, alive or not; None if there is no record, or it cannot be read."""
    try:
        return ServiceRecord(**json.loads((state_folder() / _NAME).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_service(service: ServiceRecord) -> None:
    """Records a service; replaces an earlier record."""
    with write_atomically(state_folder() / _NAME) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(service), indent=1), encoding="utf-8")


def remove_service_record() -> None:
    """Removes the record."""
    (state_folder() / _NAME).unlink(missing_ok=True)
