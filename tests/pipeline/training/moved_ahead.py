"""A data module whose loaders move batches one ahead, as on a GPU, with a CPU in its place."""

from dataclasses import replace

import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.split_loaders import SplitLoaders


class AheadShardedVideoDataModule(ShardedVideoDataModule):
    """As its base class, on the CPU."""

    @property
    def _loaders(self) -> SplitLoaders:
        return replace(super()._loaders, device=torch.device("cpu"))
