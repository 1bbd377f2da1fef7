"""MobileNetV2 as a frame encoder.

Sandler, Howard, Zhu, Zhmoginov, Chen: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.layers.inception_layers import EPSILON, same_padding
from lightning_modules.networks.frame_encoder import IMAGENET_MEAN, IMAGENET_STD, FrameEncoder

FEATURE_SIZE = 1280  # channels of the last convolution
_STEM_SIZE = 32
# Table 2: expansion factor t, output channels c, number of blocks n, stride s of the first of them.
_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_MAX_ACTIVATION = 6.0  # ReLU6, section 4


class SamePadding(nn.Module):
    """Zeros as TensorFlow's SAME has them for a convolution: (M, C, H, W) to (M, C, H + h, W + w).

    Args:
        kernel: side of the filters.
        stride: stride.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, H, W) to (M, C, H + h, W + w)."""
        height, width = (same_padding(size, self.kernel, self.stride) for size in x.shape[2:])
        return F.pad(x, (*width, *height))


class ConvolutionNorm(nn.Sequential):
    """Convolution without bias, batch norm, and ReLU6 unless `linear`: (M, C, H, W) to (M, D, H / stride, W / stride).

    Args:
        inputs: C.
        outputs: D.
        kernel: side of the filters.
        stride: stride.
        groups: groups of channels; C for a depthwise convolution.
        linear: leave out the activation.
        same: TensorFlow's padding and batch norm, whose epsilon is 1e-3 and whose statistics move by 0.01 a step.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
        same: bool = False,
    ) -> None:
        super().__init__()
        if same and stride > 1:
            self.padding = SamePadding(kernel, stride)
        padding = 0 if same and stride > 1 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.01) if same else nn.BatchNorm2d(outputs)
        if not linear:
            self.activation = nn.Hardtanh(0.0, _MAX_ACTIVATION, inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")


class InvertedResidual(nn.Module):
    """Bottleneck block (table 1): 1x1 expansion, depthwise convolution, linear 1x1 projection.

    Its input is added to its output where both have the same shape (figure 4).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: stride of the depthwise convolution.
        expansion: factor of the channels in between; with 1 there is no expansion.
        kernel: side of the depthwise filters.
        same: as for `ConvolutionNorm`.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int = 3, same: bool = False
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.layers = nn.Sequential()
        if expansion > 1:
            self.layers.add_module("expand", ConvolutionNorm(inputs, hidden, 1, same=same))
        self.layers.add_module("depthwise", ConvolutionNorm(hidden, hidden, kernel, stride, groups=hidden, same=same))
        self.layers.add_module("project", ConvolutionNorm(hidden, outputs, 1, linear=True, same=same))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, H, W) to (M, D, H / stride, W / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.is_residual else out


class MobileNetV2(FrameEncoder):
    """MobileNetV2 without its classifier, average pooled to a grid: D is 1280 times `grid` squared; 2.2 M parameters.

    Takes frames of any size from 32 x 32; the paper trains on 224 x 224. Mean and standard deviation are ImageNet's.

    Args:
        grid: number of cells in height and in width; 1 averages over the whole frame, which discards positions.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    clip_settings = {"resize": [224, 224], "crop_size": 224}  # noqa: RUF012 - read only, and plain data

    def __init__(self, grid: int = 1, in_channels: int = 3) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        self.stages.add_module("stem", ConvolutionNorm(in_channels, _STEM_SIZE, 3, stride=2))
        channels, number = _STEM_SIZE, 0
        for expansion, outputs, count, first_stride in _ROWS:
            for repetition in range(count):
                number += 1
                stride = first_stride if repetition == 0 else 1
                self.stages.add_module(f"block{number}", InvertedResidual(channels, outputs, stride, expansion))
                channels = outputs
        self.stages.add_module("last", ConvolutionNorm(channels, FEATURE_SIZE, 1))
        self.grid = grid
        self.output_size = FEATURE_SIZE * grid**2

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        features: Tensor = self.stages(frames)
        return F.adaptive_avg_pool2d(features, self.grid).flatten(1)
