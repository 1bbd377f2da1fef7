"""From the bytes of clips to the numbers that a network takes."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.batch import STREAM_CHANNELS, ClipBatch
from lightning_modules.layers.input_channels import refuse_other_channels


class InputNormalization(pl.LightningModule):
    """Base class of `VideoNetwork`: mean and standard deviation of the channels, and the mean of optical flow.

    Attributes:
        mean: (C,), mean of each channel, as values in [0, 1].
        std: (C,), their standard deviations.
    """

    mean: Tensor
    std: Tensor
    _given_normalization: tuple[Sequence[float] | None, Sequence[float] | None] = (None, None)

    def adopt_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Takes the mean and standard deviation that the network was made for, where the arguments are not given.

        Args:
            mean: mean of the pixels of R, G and B, as values in [0, 1].
            std: their standard deviation.
        """
        for name, given, own in zip(("mean", "std"), self._given_normalization, (mean, std), strict=True):
            numbers = tuple(own if given is None else given)
            self.hparams[name] = numbers
            self.register_buffer(name, torch.tensor(numbers), persistent=False)

    @property
    def num_channels(self) -> int:
        """C, the number of channels of the clips that the network takes."""
        return self.mean.numel()

    @property
    def subtracts_mean_flow(self) -> bool:
        """Whether the mean displacement of each frame is subtracted: the argument `subtract_mean_flow`."""
        return bool(self.hparams.get("subtract_mean_flow"))

    def refuse_mean_of_rgb(self) -> None:
        """Refuses `subtract_mean_flow` for a network whose clips have no flow.

        Raises:
            ValueError: the clips are of RGB.
        """
        if self.subtracts_mean_flow and self.num_channels == STREAM_CHANNELS["rgb"]:
            raise ValueError("subtract_mean_flow=true: is for optical flow, and the clips of this network are RGB")

    def normalize(self, batch: ClipBatch) -> Tensor:
        """Normalizes the clips of a batch: uint8 to float (N, C, T, H, W)."""
        refuse_unfinished_clips(batch)
        refuse_other_channels(batch, self.num_channels)
        # (x / 255 - mean) / std as one multiplication and one addition, over the innermost axis in memory.
        clips = batch.clips.to(self.mean.dtype).mul_(1 / (255 * self.std)).sub_(self.mean / self.std)
        if self.subtracts_mean_flow:
            flow = clips[..., -STREAM_CHANNELS["flow"] :]  # the last channels, with RGB or without
            flow -= flow.mean(dim=(2, 3), keepdim=True)
        return clips.permute(0, 4, 1, 2, 3)


def refuse_unfinished_clips(batch: ClipBatch) -> None:
    """Refuses clips that the data module still has to convert or crop on the device.

    Raises:
        ValueError: the clips are not RGB, or still hold several crops each.
    """
    if batch.pixel_format != "rgb":
        raise ValueError(
            f"the clips are still {batch.pixel_format}, not rgb: give the trainer the data module instead of its "
            "loader, or call the data module's on_after_batch_transfer"
        )
    if batch.crops_to_cut > 1:
        raise ValueError(
            f"the clips still hold {batch.crops_to_cut} crops each: give the trainer the data module instead of "
            "its loader, or call the data module's on_after_batch_transfer"
        )
