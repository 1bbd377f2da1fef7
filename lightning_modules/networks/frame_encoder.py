"""`FrameEncoder`: base class of the 2D networks that turn a frame into a vector."""

from collections.abc import Mapping
from typing import Any

from torch import nn

CENTERED = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # pixels of R, G and B in [0, 1]


class FrameEncoder(nn.Module):
    """Base class of frame encoders: frames float (M, 3, H, W) to features (M, D).

    Attributes:
        output_size: D.
        mean: mean of the pixels of R, G and B, as values in [0, 1], that the encoder is made for.
        std: their standard deviation.
        clip_settings: size of the frames that the encoder is made for, as the data module's options `resize` and
            `crop_size`; empty if any size does.
    """

    output_size: int
    mean: tuple[float, ...] = CENTERED
    std: tuple[float, ...] = CENTERED
    clip_settings: Mapping[str, Any] = {}
