"""Precise batch norm: recomputes batch norm statistics from the latest training batches of all ranks."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from datamodules.batch import ClipBatch
from lightning_modules.layers.torch_internals import BatchNorm


def training_norms(network: nn.Module) -> list[BatchNorm]:
    """The batch norms that currently normalize by batch statistics and keep running statistics."""
    return [
        module
        for module in network.modules()
        if isinstance(module, BatchNorm) and module.training and module.track_running_stats
    ]


def has_synchronized_norms(network: nn.Module) -> bool:
    """Whether a network has synchronized batch norms, which wait for the other ranks."""
    return any(isinstance(norm, nn.SyncBatchNorm) for norm in training_norms(network))


def refuse_synchronized_norms(device: torch.device, is_compiled: bool) -> None:
    """Raises ValueError if synchronized batch norms cannot be had: on the CPU, or in a compiled network."""
    if device.type == "cpu":
        raise ValueError("trainer.sync_batchnorm=true: torch has it for GPUs alone; leave it out on the CPU")
    if is_compiled:
        raise ValueError(
            "trainer.sync_batchnorm=true, compile=true: synchronized batch norms break the graph at each of them; "
            "leave one of the two out"
        )


class PreciseBatchNorm:
    """Keeps the latest training batches, and recomputes batch norm statistics from them before evaluation.

    Wu and Johnson: "Rethinking 'Batch' in BatchNorm", 2021, section 3: moving averages lag behind the weights. With the
    current weights, every batch is normalized by its own statistics, and evaluation uses the mean and variance over all
    of them, weighted by size, on all ranks. Nothing else changes: no weights, no random numbers, and training does not
    use these statistics.

    Args:
        num_batches: number of batches to keep; 0 disables the recomputation.
    """

    def __init__(self, num_batches: int) -> None:
        if num_batches < 0:
            raise ValueError(f"precise_bn_batches={num_batches}: must be at least 0")
        self._batches: deque[ClipBatch] = deque(maxlen=num_batches)
        self._norms: list[str] = []
        self._step = -1

    @property
    def is_enabled(self) -> bool:
        """Whether statistics are recomputed."""
        return bool(self._batches.maxlen)

    def add_batch(self, batch: ClipBatch, network: pl.LightningModule) -> None:
        """Keeps a training batch, and records which batch norms are not frozen."""
        if self._batches.maxlen:
            # A copy, because the batch may lie in memory shared with a data loader worker.
            self._batches.append(batch._replace(clips=batch.clips.clone()))
            training = set(training_norms(network))
            self._norms = [name for name, module in network.named_modules() if module in training]

    @torch.no_grad()
    def compute(self, network: pl.LightningModule, forward: Callable[[ClipBatch], object]) -> None:
        """Recomputes the statistics, unless done since the last training step; a collective that all ranks must call.

        Args:
            network: the network whose batch norm statistics are recomputed.
            forward: runs the network on a batch, up to its last layer.
        """
        if not self._batches or not self._norms or self._step == network.global_step:
            return
        self._step = network.global_step
        norms = [cast(BatchNorm, network.get_submodule(name)) for name in self._norms]
        sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64, device=network.device) for norm in norms}
        original_statistics = [
            (_not_none(norm.running_mean).clone(), _not_none(norm.running_var).clone()) for norm in norms
        ]
        strategy = network.trainer.strategy
        with strategy.precision_plugin.val_step_context(), evaluation_mode(network), _batch_statistics(sums):
            for batch in self._batches:
                if batch.num_videos > 0:
                    forward(batch)
        reduced = cast(Tensor, strategy.reduce(torch.cat(list(sums.values()), dim=1), reduce_op="sum"))
        parts = torch.split(reduced, [norm.num_features for norm in norms], dim=1)
        for norm, (count, total, squares), (mean, variance) in zip(norms, parts, original_statistics, strict=True):
            if count[0] > 1:
                mean = total / count
                variance = (squares / count - mean.square()).clamp_min(0) * count / (count - 1)
            _not_none(norm.running_mean).copy_(mean)
            _not_none(norm.running_var).copy_(variance)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Context in which all modules are in evaluation mode; their modes are restored afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _batch_statistics(sums: dict[BatchNorm, Tensor]) -> Iterator[None]:
    """Context in which batch norms in evaluation mode use each input's own statistics, and add these to `sums`.

    `sums` has the count, the sum and the sum of squares of each batch norm's inputs. Not in training mode, in which
    synchronized batch norms would wait for ranks that may have no batch.
    """

    def record_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, BatchNorm)
        x = inputs[0].float()
        if x.numel() == 0:
            return
        variance, mean = torch.var_mean(x, [axis for axis in range(x.ndim) if axis != 1], correction=0)
        _not_none(norm.running_mean).copy_(mean)
        _not_none(norm.running_var).copy_(variance)
        mean, variance, count = mean.double(), variance.double(), x.numel() // x.shape[1]
        sums[norm] += torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * count

    handles = [norm.register_forward_pre_hook(record_statistics) for norm in sums]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _not_none(buffer: Tensor | None) -> Tensor:
    assert buffer is not None  # these norms track their statistics
    return buffer
