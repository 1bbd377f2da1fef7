"""EfficientNet-Lite 0, 1 and 2 as frame encoders.

Tan, Le: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, table 1, as the authors'
EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite): ReLU6, no squeeze-and-excitation, and a stem and
a head that are not scaled.
"""

import math
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.frame_encoder import FrameEncoder
from lightning_modules.networks.mobilenet_v2 import FEATURE_SIZE, ConvolutionNorm, InvertedResidual

_STEM_SIZE = 32
# Table 1: expansion factor, output channels, number of blocks, stride of the first of them, side of the filters.
_ROWS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_DIVISOR = 8  # of the numbers of channels
_MARGIN = 32  # pixels that the center crop leaves out of the short side


class Scaling(NamedTuple):
    """Factors of channels and of blocks, and side of the frames, in efficientnet_lite_builder.py."""

    width: float
    depth: float
    side: int

    @property
    def clip_settings(self) -> dict[str, Any]:
        """Options of the data module for frames as in the authors' preprocessing.py."""
        return {"resize": self.side + _MARGIN, "crop_size": self.side}


SCALINGS = {
    "efficientnet_lite0": Scaling(1.0, 1.0, 224),
    "efficientnet_lite1": Scaling(1.0, 1.1, 240),
    "efficientnet_lite2": Scaling(1.1, 1.2, 260),
}


class EfficientNetLite(FrameEncoder):
    """EfficientNet-Lite without its classifier, average pooled to a grid: D is 1280 times `grid` squared.

    Parameters: 3.4, 4.1 and 4.8 M. Takes frames of any size; the authors train on 224, 240 and 260. Pixels from 0 to
    255 are normalized by 127 and 128, as in efficientnet_lite_builder.py.

    Args:
        name: a name of `SCALINGS`.
        grid: number of cells in height and in width; 1 averages over the whole frame, which discards positions.
    """

    mean, std = (127 / 255,) * 3, (128 / 255,) * 3

    def __init__(self, name: str, grid: int = 1, in_channels: int = 3) -> None:
        super().__init__()
        scaling = SCALINGS[name]
        self.clip_settings = scaling.clip_settings
        self.stages = nn.Sequential()
        self.stages.add_module("stem", ConvolutionNorm(in_channels, _STEM_SIZE, 3, stride=2, same=True))
        channels, number = _STEM_SIZE, 0
        for row, (expansion, outputs, count, first_stride, kernel) in enumerate(_ROWS):
            is_end = row in (0, len(_ROWS) - 1)
            outputs = _round_channels(outputs * scaling.width)
            for repetition in range(count if is_end else math.ceil(count * scaling.depth)):
                stride = first_stride if repetition == 0 else 1
                block = InvertedResidual(channels, outputs, stride, expansion, kernel, same=True)
                self.stages.add_module(f"block{number}", block)
                channels, number = outputs, number + 1
        self.stages.add_module("last", ConvolutionNorm(channels, FEATURE_SIZE, 1, same=True))
        self.grid = grid
        self.output_size = FEATURE_SIZE * grid**2

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        features: Tensor = self.stages(frames)
        return F.adaptive_avg_pool2d(features, self.grid).flatten(1)


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is at most a tenth below."""
    rounded = max(_DIVISOR, int(channels + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return rounded + _DIVISOR if rounded < 0.9 * channels else rounded
