"""C3D, a network of 3x3x3 convolutions.

Tran, Bourdev, Fergus, Torresani, Paluri: "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from torch import Tensor, nn

from lightning_modules.layers.input_channels import channel_normalization
from lightning_modules.layers.onednn_convolution import Conv3d
from lightning_modules.tasks.classifier import VideoClassifier

# Filters of the eight convolutions in units of `width`, and the pooling that follows (figure 3; pool1 keeps time).
_CONVOLUTIONS = (
    ("conv1a", 1, (1, 2, 2)),
    ("conv2a", 2, (2, 2, 2)),
    ("conv3a", 4, None),
    ("conv3b", 4, (2, 2, 2)),
    ("conv4a", 8, None),
    ("conv4b", 8, (2, 2, 2)),
    ("conv5a", 8, None),
    ("conv5b", 8, (2, 2, 2)),
)
_MINIMUM_CLIP = "16 frames of 16 x 16 pixels are the least"


class C3D(VideoClassifier):
    """Eight 3x3x3 convolutions, five poolings, fc6, fc7 and the classifier: 78.4 M parameters with 101 classes.

    Endpoints: conv1a, pool1, conv2a, pool2, conv3a, conv3b, pool3, conv4a, conv4b, pool4, conv5a, conv5b, pool5, fc6,
    fc7, logits. Outputs of convolutions, (N, D, T', H', W'), and of fc6 and fc7, (N, D), are after their ReLU.

    Args:
        width: filters of conv1a; all other layers are scaled in proportion (the paper: 64, fc6 and fc7 4096).
        num_frames: frames of a clip, T, which determines the size of fc6 (the paper: 16).
        crop_size: height and width of a clip, which determine the size of fc6 (the paper: 112).
        batch_norm: add a batch norm after every convolution, for training from scratch; the paper has none.
        dropout: dropout probability after fc6 and fc7.
        in_channels: 3 for RGB, 2 for optical flow.
        **kwargs: arguments of `VideoClassifier`.

    Raises:
        ValueError: a clip too small for the five poolings; in the forward pass, clips of another length or size.
    """

    feature_layer = "fc6"  # as in the paper (section 4)

    def __init__(
        self,
        width: int = 64,
        num_frames: int = 16,
        crop_size: int = 112,
        batch_norm: bool = False,
        dropout: float = 0.5,
        in_channels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.adopt_normalization(*channel_normalization(in_channels))
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        self._clip_arguments = f"num_frames={num_frames}, crop_size={crop_size}"
        self._pooled_size = _pooling_sizes((num_frames, crop_size, crop_size))["pool5"]
        if 0 in self._pooled_size:
            raise ValueError(f"{self._clip_arguments}: too small for five poolings, {_MINIMUM_CLIP}")
        self.stages = nn.Sequential()
        channels = in_channels
        for name, multiple, pooling in _CONVOLUTIONS:
            self.stages.add_module(name, _convolution(channels, width * multiple, batch_norm))
            channels = width * multiple
            if pooling:
                pool = nn.MaxPool3d(pooling, padding=_padding(name))
                self.stages.add_module(_pool_after(name), pool)
        hidden = width * 64
        self.stages.add_module(
            "fc6", _fully_connected(math.prod(self._pooled_size) * channels, hidden, dropout, flatten=True)
        )
        self.stages.add_module("fc7", _fully_connected(hidden, hidden, dropout))
        logits = nn.Linear(hidden, self.num_classes)
        self.stages.add_module("logits", logits)
        for module in self.modules():
            if isinstance(module, (nn.Conv3d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(logits.weight, std=0.01)

    def named_features(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yields every stage's name and output; up to pool5, clips may have other lengths and sizes.

        Raises:
            ValueError: clips too small for a pooling, or of another size than fc6 was built for.
        """
        pooled = _pooling_sizes(x.shape[2:])
        clips = x
        for name, stage in self.stages.named_children():
            if 0 in pooled.get(name, ()) or (name == "fc6" and pooled["pool5"] != self._pooled_size):
                self._raise_clip_size_error(clips)
            x = stage(x)
            yield name, x

    def clip_logits(self, x: Tensor) -> Tensor:
        """Logits of clips: normalized float (N, C, T, H, W) to (N, K).

        Raises:
            ValueError: clips of another length or size than fc6 was built for.
        """
        if _pooling_sizes(x.shape[2:])["pool5"] != self._pooled_size:
            self._raise_clip_size_error(x)
        return super().clip_logits(x)

    def _raise_clip_size_error(self, clips: Tensor) -> NoReturn:
        frames, height, width = clips.shape[2:]
        raise ValueError(
            f"clips of {frames} frames of {height} x {width} pixels: this C3D takes {self._clip_arguments}, as its "
            "fc6 has weights for every place; set those of the data so, or build a C3D for such clips "
            f"({_MINIMUM_CLIP})"
        )


def _pooling_sizes(clip: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Output size (T, H, W) of each pooling by its name, for a clip of this (T, H, W); 0 if nothing is left."""
    shape, sizes_by_name = tuple(clip), {}
    for name, _, pooling in _CONVOLUTIONS:
        if pooling:
            sizes = zip(shape, _padding(name), pooling, strict=True)
            shape = tuple((size + 2 * pad) // window if size else 0 for size, pad, window in sizes)
            sizes_by_name[_pool_after(name)] = shape
    return sizes_by_name


def _pool_after(convolution: str) -> str:
    return f"pool{convolution[4]}"


def _padding(convolution: str) -> tuple[int, int, int]:
    """pool5 is padded in space: 7 x 7 become 4 x 4, as in the released network."""
    return (0, 1, 1) if convolution == "conv5b" else (0, 0, 0)


def _convolution(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [Conv3d(inputs, outputs, kernel_size=3, padding=1, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm3d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _fully_connected(inputs: int, outputs: int, dropout: float, flatten: bool = False) -> nn.Sequential:
    first: list[nn.Module] = [nn.Flatten()] if flatten else []
    return nn.Sequential(*first, nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout))
