"""Ray Train's torch backend, with a SIGTERM handler in the train workers."""

from dataclasses import dataclass
from typing import Any

from ray.train.torch import TorchConfig

from jobs.ray_internals import torch_backend
from jobs.training.heartbeat import take_sigterm


class _Backend(torch_backend()):  # type: ignore[misc] # known when it runs
    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        """Called in the controller after the process group is set up; `execute` runs in the workers' main threads."""
        super().on_training_start(worker_group, backend_config)
        worker_group.execute(take_sigterm)


@dataclass
class SigtermTorchConfig(TorchConfig):
    """TorchConfig that installs a SIGTERM handler in each worker: training, in another thread, saves and leaves."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """The class of the backend."""
        return _Backend
