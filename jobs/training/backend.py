"""Ray Train's torch backend, whose train workers also note SIGTERM."""

from dataclasses import dataclass
from typing import Any

from ray.train.torch import TorchConfig

from jobs.ray_internals import torch_backend
from jobs.training.heartbeat import take_sigterm


class _Backend(torch_backend()):  # type: ignore[misc] # known when it runs
    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        """Called in the controller when the process group stands; `execute` runs in the workers' main threads."""
        super().on_training_start(worker_group, backend_config)
        worker_group.execute(take_sigterm)


@dataclass
class SigtermTorchConfig(TorchConfig):
    """TorchConfig, and SIGTERM to a train worker is noted: training, in another thread, saves and leaves."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """The backend."""
        return _Backend
