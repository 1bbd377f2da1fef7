"""Frame encoders: 2D networks that turn a frame into a vector, a wrapper that applies them to clips, and scaling."""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.layers.inception_layers import Padding
from lightning_modules.networks.efficientnet_lite import SCALINGS, EfficientNetLite
from lightning_modules.networks.encoder_description import LIBRARIES, EncoderDescription, describe_encoder
from lightning_modules.networks.frame_encoder import FrameEncoder
from lightning_modules.networks.inception_i3d import FEATURE_SIZE, inception_stages
from lightning_modules.networks.library_encoders import LibraryEncoder, TransformersEncoder
from lightning_modules.networks.mobilenet_v2 import MobileNetV2

# Published weights of encoders of ours, and what they were trained on.
ENCODER_WEIGHTS = {
    "mobilenet_v2": ("mobilenetv2-imagenet", "ImageNet"),
    "inception_v1": ("i3d-kinetics400-rgb", "Kinetics-400"),
    **{name: (f"{name.replace('_', '-')}-imagenet", "ImageNet") for name in SCALINGS},
}
_WITH_GRID = ("small", "inception_v1", "mobilenet_v2", *SCALINGS, "transformers")


def make_encoder(
    name: str,
    channels: Sequence[int] = (32, 64, 128, 256),
    padding: Padding = "same",
    bn_scale: bool = False,
    grid: int | None = None,
    description: EncoderDescription | None = None,
    in_channels: int = 3,
) -> FrameEncoder:
    """Constructs a frame encoder by name.

    Args:
        name: `small`; `pixels:SIDE`; `inception_v1`; `mobilenet_v2`; `efficientnet_lite0`, 1 or 2;
            `transformers:NAME_OR_FOLDER`, `timm:NAME` or `torchvision:NAME`, if those packages are installed.
        channels: filters of the blocks of `small`.
        padding: padding of `inception_v1`.
        bn_scale: whether the batch norms of `inception_v1` have a scale.
        grid: cells in height and in width of the pooled output of `small`, `inception_v1`, `mobilenet_v2`,
            `efficientnet_lite0` to 2 and transformers; None: their default.
        description: description of a network of transformers, timm or torchvision; None reads it.
        in_channels: 3 for RGB, 2 for optical flow, for encoders of ours.

    Raises:
        ValueError: unknown name, or a grid or channels for another encoder.
        ImportError: the package is not installed.
    """
    if grid is not None and (grid < 1 or name.partition(":")[0] not in _WITH_GRID):
        raise ValueError(f"grid={grid}, encoder={name!r}: must be at least 1, and only for {', '.join(_WITH_GRID)}")
    if name == "small":
        return SmallCNN(channels, 4 if grid is None else grid, in_channels)
    if name == "inception_v1":
        return InceptionEncoder(padding, bn_scale, grid or 1, in_channels)
    if name == "mobilenet_v2":
        return MobileNetV2(grid or 1, in_channels)
    if name in SCALINGS:
        return EfficientNetLite(name, grid or 1, in_channels)
    package, colon, network = name.partition(":")
    if package == "pixels" and network.isdecimal() and int(network):
        return PixelPatch(int(network))
    if not colon or not network or package not in LIBRARIES:
        _refuse_name_of_weights(name)
        raise ValueError(
            f"encoder={name!r}: must be small, pixels:SIDE, inception_v1, mobilenet_v2, efficientnet_lite0 to 2, "
            "transformers:NAME_OR_FOLDER, timm:NAME or torchvision:NAME"
        )
    if in_channels != 3:
        raise ValueError(f"encoder={name!r}, in_channels={in_channels}: takes RGB; choose an encoder of ours for flow")
    description = description or describe_encoder(name)
    return TransformersEncoder(description, grid) if package == "transformers" else LibraryEncoder(description)


def _refuse_name_of_weights(name: str) -> None:
    for encoder, (weights, _) in ENCODER_WEIGHTS.items():
        if name == weights:
            raise ValueError(
                f"encoder={name!r}: is a name of weights; give encoder: {encoder} with encoder_weights: {weights}"
            )


class SmallCNN(FrameEncoder):
    """Blocks of convolution, batch norm and ReLU with stride 2, average pooled to a grid: (M, 3, H, W) to (M, D).

    A grid, because averaging over the whole frame would discard positions and thereby motion. D is the number of the
    last block's filters times `grid` squared.

    Args:
        channels: filters of the blocks.
        grid: number of cells in height and in width.
        in_channels: 3 for RGB, 2 for optical flow.
    """

    def __init__(self, channels: Sequence[int], grid: int = 4, in_channels: int = 3) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels=[]: give at least one block")
        blocks: list[nn.Module] = []
        for inputs, outputs in zip((in_channels, *channels), channels, strict=False):
            blocks += [
                nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.blocks = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        self.output_size = channels[-1] * grid**2

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        features: Tensor = self.blocks(frames)
        return features


class PixelPatch(FrameEncoder):
    """The frame in gray, average pooled to a small grid: (M, 3, H, W) to (M, side^2). It has no parameters.

    One of the two inputs of Srivastava et al. 2015, section 3 ("patches of image pixels").

    Args:
        side: number of cells in height and in width.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.output_size = side**2

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        return F.adaptive_avg_pool2d(frames.mean(dim=1, keepdim=True), self.side).flatten(1)


class InceptionEncoder(FrameEncoder):
    """Inception-v1 up to its last module, average pooled to a grid: D is 1024 times `grid` squared.

    Args:
        padding: `same`, or `symmetric` as required by torchvision's weights.
        bn_scale: whether batch norms have a scale, as required by torchvision's weights.
        grid: number of cells in height and in width; 1 averages over the whole frame, which discards positions.
        in_channels: 3 for RGB, 2 for optical flow.
    """

    def __init__(self, padding: Padding = "same", bn_scale: bool = False, grid: int = 1, in_channels: int = 3) -> None:
        super().__init__()
        self.stages = inception_stages(2, in_channels, padding, bn_scale)
        self.grid = grid
        self.output_size = FEATURE_SIZE * grid**2

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        features: Tensor = self.stages(frames)
        return F.adaptive_avg_pool2d(features, self.grid).flatten(1)


class PerFrame(nn.Module):
    """Applies a 2D network to every frame of clips: (N, C, T, H, W) to (N, T, D).

    Args:
        network: maps (M, C, H, W) to (M, D).
        frames_at_once: maximum M; default: N * T.
        frozen: freeze the network: no gradients, batch norms with their running statistics also in training.
    """

    def __init__(self, network: nn.Module, frames_at_once: int | None = None, frozen: bool = False) -> None:
        super().__init__()
        if frames_at_once is not None and frames_at_once < 1:
            raise ValueError(f"frames_at_once={frames_at_once}: must be at least 1")
        self.network = network.requires_grad_(False) if frozen else network  # not True: it may have fixed scales
        self.frames_at_once = frames_at_once
        self.frozen = frozen
        if frozen:
            network.eval()  # `fit` trains in the mode that it finds

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen network stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) to frame features (N, T, D)."""
        num_clips, num_frames = clips.shape[0], clips.shape[2]
        frames = clips.transpose(1, 2).flatten(0, 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self._frame_features(frames)
        return features.view(num_clips, num_frames, -1)

    def _frame_features(self, frames: Tensor) -> Tensor:
        """Frames (M, C, H, W) to features (M, D)."""
        if self.frames_at_once is None or torch.compiler.is_exporting():  # the number of pieces would be fixed
            features: Tensor = self.network(frames)
            return features
        return torch.cat([self.network(chunk) for chunk in torch.split(frames, self.frames_at_once)])


class Standardize(nn.Module):
    """Scales every feature to mean 0 and standard deviation 1 over clips and time: (N, T, D) to (N, T, D).

    In training by the batch's statistics, in evaluation by running statistics; a constant feature becomes 0.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.statistics = nn.BatchNorm1d(size, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, T, D), standardized."""
        standardized: Tensor = self.statistics(x.flatten(0, 1))
        return standardized.view_as(x)
