"""RayFullyShardedStrategy: the strategy `fsdp2` of `pipeline fit` under Ray Train."""

import json
from collections.abc import Sequence
from typing import Any

import ray.train.torch
import torch

from pipeline.cli.config_files import given_value
from pipeline.processes.fully_sharded_strategy import NAME, FullyShardedStrategy


class RayFullyShardedStrategy(FullyShardedStrategy):
    """`FullyShardedStrategy` on the device and in the process group that Ray Train has made, as RayDDPStrategy is."""

    @property
    def root_device(self) -> torch.device:
        """The device of this train worker."""
        device: torch.device = ray.train.torch.get_device()
        return device


def strategy_arguments(args: Sequence[str]) -> list[str]:
    """The arguments, to be added after the Ray overlay, with which a command that asks for `fsdp2` gets it under Ray.

    Args:
        args: The user's command line.
    """
    given: Any = given_value(args, ("trainer", "strategy"))
    name = str(given.get("class_path") if isinstance(given, dict) else given).rpartition(".")[2]
    if name not in (NAME, FullyShardedStrategy.__name__, RayFullyShardedStrategy.__name__):
        return []
    class_path = f"{RayFullyShardedStrategy.__module__}.{RayFullyShardedStrategy.__name__}"
    return [f"--config={json.dumps({'trainer': {'strategy': {'class_path': class_path}}})}"]
