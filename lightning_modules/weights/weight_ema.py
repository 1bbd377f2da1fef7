"""`WeightEMA`: an exponential moving average of the weights, updated without a wait, in a few kernels for all."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EMANetwork(AveragedModel):
    """A copy of a network whose parameters and buffers are averages of the network's; whole numbers are the latest.

    The number of updates stays in memory of the host, where reading it waits for no GPU.

    Args:
        network: the network.
        decay: share of the average that an update keeps, in [0, 1].
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Moves the averages towards the tensors of a network; at the first call they become these."""
        is_first = bool(self.n_averaged == 0)
        pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for own, current in zip(_tensors(self.module), _tensors(model), strict=True):
            if is_first or not own.is_floating_point():
                own.copy_(current)
            else:
                averages, values = pairs.setdefault(own.dtype, ([], []))
                averages.append(own)
                values.append(current)
        for averages, values in pairs.values():
            self._average(averages, values, self.n_averaged)
        self.n_averaged += 1

    def lay_out_like(self, network: nn.Module) -> None:
        """Moves the averages to the device of a network, and into the memory format of each of its tensors."""
        for own, current in zip(_tensors(self.module), _tensors(network), strict=True):
            own.data = torch.empty_like(current).copy_(own)


class WeightEMA(EMAWeightAveraging):
    """Callback that keeps an exponential moving average of the weights; validation and checkpoints have the average.

    Lightning's `EMAWeightAveraging` makes its copy before the network is on its device, so that it stays on the CPU and
    each update copies all weights there, tensor by tensor. This one has it where the weights are, and in their layout.

    Args:
        decay: share of the average that an update keeps, in [0, 1].
        update_every_n_steps: optimizer steps between two updates; 10 with a decay of 0.99 average about the same steps
            as 1 with 0.999.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, decay: float = 0.999, update_every_n_steps: int = 1) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay={decay}: must be from 0 to 1")
        if update_every_n_steps < 1:
            raise ValueError(f"update_every_n_steps={update_every_n_steps}: must be at least 1")
        super().__init__(decay=decay, update_every_n_steps=update_every_n_steps)
        self._decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copies the network before its layers are changed for execution; a checkpoint fills the copy afterwards."""
        if stage == "fit":
            self._average_model = EMANetwork(pl_module, self._decay)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Moves the average to where the weights are, which are on the device by now."""
        assert isinstance(self._average_model, EMANetwork)
        self._average_model.lay_out_like(pl_module)


def _tensors(network: nn.Module) -> list[Any]:
    return [*network.parameters(), *network.buffers()]
