"""Inception-v1 in 2D and in 3D (I3D) from one table of channels.

Szegedy et al.: "Going Deeper with Convolutions", CVPR 2015, table 1, with the batch norms of Ioffe and Szegedy 2015.
Carreira, Zisserman: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, figure 3.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.layers.inception_layers import Convolution, MaxPooling, Mixed, Padding, TimePadding
from lightning_modules.layers.input_channels import channel_normalization
from lightning_modules.tasks.classifier import VideoClassifier

# Name; then filters, kernel and stride of a convolution; or kernel and stride of a pooling, time first; or the
# channels of an Inception module's b0, b1a, b1b, b2a, b2b, b3b. The first two poolings do not pool time (section 2.5
# of I3D); in 2D the time entries are dropped.
_CONVOLUTION, _POOLING, _MIXED = "Conv{d}d_{name}", "MaxPool{dd}_{name}", "Mixed_{name}"
_STAGES: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    (_CONVOLUTION, "1a_7x7", (64, 7, 2)),
    (_POOLING, "2a_3x3", ((1, 3, 3), (1, 2, 2))),
    (_CONVOLUTION, "2b_1x1", (64, 1, 1)),
    (_CONVOLUTION, "2c_3x3", (192, 3, 1)),
    (_POOLING, "3a_3x3", ((1, 3, 3), (1, 2, 2))),
    (_MIXED, "3b", (64, 96, 128, 16, 32, 32)),
    (_MIXED, "3c", (128, 128, 192, 32, 96, 64)),
    (_POOLING, "4a_3x3", ((3, 3, 3), (2, 2, 2))),
    (_MIXED, "4b", (192, 96, 208, 16, 48, 64)),
    (_MIXED, "4c", (160, 112, 224, 24, 64, 64)),
    (_MIXED, "4d", (128, 128, 256, 24, 64, 64)),
    (_MIXED, "4e", (112, 144, 288, 32, 64, 64)),
    (_MIXED, "4f", (256, 160, 320, 32, 128, 128)),
    (_POOLING, "5a_2x2", ((2, 2, 2), (2, 2, 2))),
    (_MIXED, "5b", (256, 160, 320, 32, 128, 128)),
    (_MIXED, "5c", (384, 192, 384, 48, 128, 128)),
)
FEATURE_SIZE = 1024  # channels of Mixed_5c


def inception_stages(
    dimensions: int,
    in_channels: int = 3,
    padding: Padding = "same",
    bn_scale: bool = False,
    time_padding: TimePadding = "zeros",
) -> nn.Sequential:
    """The network up to Mixed_5c, with the published names of the stages.

    Args:
        dimensions: 2 for images (N, C, H, W), 3 for clips (N, C, T, H, W).
        in_channels: C.
        padding: `same` as published, `symmetric` as in torchvision's GoogLeNet.
        bn_scale: whether batch norms have a scale: not in I3D, but in torchvision's GoogLeNet.
        time_padding: padding of convolutions in time: `zeros`, or `replicate`, the first and last frame.

    Returns:
        Conv2d_1a_7x7 or Conv3d_1a_7x7 to Mixed_5c, 1024 channels; initialized for training from scratch.
    """
    stages = nn.Sequential()
    channels = in_channels
    for kind, name, row in _STAGES:
        stage: nn.Module
        if kind == _CONVOLUTION:
            filters, kernel, stride = row
            sizes = (kernel,) * dimensions, (stride,) * dimensions
            stage = Convolution(channels, filters, *sizes, padding, bn_scale, time_padding)
            channels = filters
        elif kind == _POOLING:
            stage = MaxPooling(row[0][-dimensions:], row[1][-dimensions:], padding)
        else:
            stage = Mixed(channels, row, dimensions, padding, bn_scale, time_padding)
            channels = row[0] + row[2] + row[4] + row[5]
        stages.add_module(kind.format(d=dimensions, dd="3d" if dimensions == 3 else "", name=name), stage)
    for module in stages.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return stages


class Logits(nn.Module):
    """Average pooling, dropout, a 1x1 convolution: (N, 1024, [T,] H, W) to (N, K).

    Pools all of space. I3D averages pairs of neighboring time steps, classifies each, and averages their logits
    (section 2.5: "averaging predictions over time"), so that it takes any number of frames.
    """

    def __init__(self, num_classes: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.dropout = nn.Dropout(dropout)
        self.conv = convolution(FEATURE_SIZE, num_classes, kernel_size=1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(torch.as_tensor(self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Applies the head."""
        if x.ndim == 5:
            x = F.avg_pool3d(x, (2 if x.shape[2] > 1 else 1, *x.shape[3:]), stride=1)
        else:
            x = F.avg_pool2d(x, x.shape[2:])
        return self.conv(self.dropout(x)).flatten(2).mean(2)  # type: ignore[no-any-return]


class I3D(VideoClassifier):
    """Inception-v1 inflated to 3D: 12.7 M parameters with 400 classes (25 M for the paper's two streams, table 1).

    Takes clips of any number of frames and any size from 32 x 32; the paper trains on 64 frames of 224 x 224 and tests
    on whole videos at 25 frames per second, short side 256, center crop 224 x 224, pixels in [-1, 1] (section 2.5).

    Endpoints, as published: Conv3d_1a_7x7, MaxPool3d_2a_3x3, Conv3d_2b_1x1, Conv3d_2c_3x3, MaxPool3d_3a_3x3, Mixed_3b,
    Mixed_3c, MaxPool3d_4a_3x3, Mixed_4b to Mixed_4f, MaxPool3d_5a_2x2, Mixed_5b, Mixed_5c (N, D, T', H', W'); Logits
    (N, K).

    Args:
        in_channels: 3 for RGB, 2 for optical flow.
        padding: `same` as published; `symmetric` for weights inflated from torchvision's GoogLeNet.
        bn_scale: use batch norms with a scale; the published ones have none, torchvision's GoogLeNet's have one.
        time_padding: `zeros` as published; `replicate` repeats the first and last frame.
        dropout: dropout probability before the classifier.
        **kwargs: arguments of `VideoClassifier`; the default mean and std scale pixels, or flow of 20 pixels,
            to [-1, 1], as published.
    """

    feature_layer = "Mixed_5c"

    def __init__(
        self,
        in_channels: int = 3,
        padding: Padding = "same",
        bn_scale: bool = False,
        time_padding: TimePadding = "zeros",
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.adopt_normalization(*channel_normalization(in_channels))
        self.stages = inception_stages(3, in_channels, padding, bn_scale, time_padding)
        self.stages.add_module("Logits", Logits(self.num_classes, 3, dropout))


class InceptionV1(VideoClassifier):
    """Inception-v1 (GoogLeNet with batch norms) on single frames: 6.6 M parameters with 1000 classes.

    A clip's frames are classified one by one, and its logits are their mean. Trained on clips of one frame, it provides
    the weights that I3D is inflated from, and a baseline without motion.

    Endpoints: Conv2d_1a_7x7, MaxPool_2a_3x3, Conv2d_2b_1x1, Conv2d_2c_3x3, MaxPool_3a_3x3, Mixed_3b, Mixed_3c,
    MaxPool_4a_3x3, Mixed_4b to Mixed_4f, MaxPool_5a_2x2, Mixed_5b, Mixed_5c (N, D, T, H', W'); Logits (N, K).

    Args:
        in_channels: 3 for RGB, 2 for optical flow.
        padding: `same` as in TF-slim; `symmetric` as in torchvision.
        bn_scale: use batch norms with a scale, as in torchvision.
        dropout: dropout probability before the classifier; the paper uses 0.4 (table 1), torchvision 0.2.
        **kwargs: arguments of `VideoClassifier`.
    """

    feature_layer = "Mixed_5c"

    def __init__(
        self,
        in_channels: int = 3,
        padding: Padding = "same",
        bn_scale: bool = False,
        dropout: float = 0.4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.adopt_normalization(*channel_normalization(in_channels))
        self.stages = inception_stages(2, in_channels, padding, bn_scale)
        self.stages.add_module("Logits", Logits(self.num_classes, 2, dropout))

    def named_features(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yields every stage's name and output; the frames are on axis 2, as in I3D."""
        num_clips = x.shape[0]
        for name, feature in super().named_features(x.transpose(1, 2).flatten(0, 1)):
            by_clip = feature.reshape(num_clips, -1, *feature.shape[1:])
            yield name, by_clip.mean(1) if name == "Logits" else by_clip.transpose(1, 2)

    def clip_logits(self, x: Tensor) -> Tensor:
        """Mean logits of the frames of clips: normalized float (N, C, T, H, W) to (N, K)."""
        frames = x.transpose(1, 2).flatten(0, 1)
        return super().clip_logits(frames).view(x.shape[0], -1, self.num_classes).mean(1)
