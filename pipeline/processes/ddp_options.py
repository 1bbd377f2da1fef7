"""DDP with less to copy and to send: gradients as views of its buckets, buffers sent before validation alone."""

from collections.abc import Collection

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from lightning_modules.layers.parameter_sharding import is_sharded
from lightning_modules.tasks.lightning_internals import ddp_options

_BUFFER_OPTIONS = ("forward_sync_buffers", "broadcast_buffers")  # the second is the old name of the first


def choose_ddp_options(strategy: Strategy, given: Collection[str]) -> None:
    """Sets options of DDP that the user leaves open.

    `gradient_as_bucket_view`: gradients are not copied into the buckets that are reduced. `forward_sync_buffers`: not
    before each forward pass, which would wait for rank 0; training normalizes by the statistics of its batches, and
    `BufferBroadcast` sends those of rank 0 before they are used.

    Args:
        strategy: the Trainer's strategy; others than DDP are left alone.
        given: names of the options that the user sets.
    """
    if not isinstance(strategy, DDPStrategy):
        return
    options = ddp_options(strategy)
    if "gradient_as_bucket_view" not in given:
        options["gradient_as_bucket_view"] = True
    if not any(name in given for name in _BUFFER_OPTIONS):
        options["forward_sync_buffers"] = False


class BufferBroadcast(pl.Callback):
    """Callback that gives all ranks the buffers of rank 0 before validation, if nothing does before each forward pass.

    Those of rank 0 are in checkpoints, too, so that a run that resumes validates like one that was not interrupted.
    """

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Broadcasts the buffers; after callbacks that exchange weights, such as EMA, and before precise statistics."""
        wrapper = trainer.strategy.model
        is_ddp = isinstance(wrapper, DistributedDataParallel) and not wrapper.broadcast_buffers
        if is_ddp or is_sharded(pl_module):
            for buffer in pl_module.buffers():
                dist.broadcast(buffer, src=0)
