"""C3D, a network of 3x3x3 convolutions.

Tran, Bourdev, Fergus, Torresani, Paluri: "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015.
"""

from typing import Any

import torch
from torch import nn

from lightning_modules.classifier import VideoClassifier
from lightning_modules.convolving import Conv3d

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


class C3D(VideoClassifier):
    """Eight 3x3x3 convolutions, five poolings, fc6, fc7 and the classifier: 78.4 M parameters with 101 classes.

    Endpoints: conv1a, pool1, conv2a, pool2, conv3a, conv3b, pool3, conv4a, conv4b, pool4, conv5a, conv5b, pool5, fc6,
    fc7, logits. Convolutions are given after their rectifier, (N, D, T', H', W'); fc6 and fc7 after theirs, (N, D).

    Args:
        width: filters of conv1a; the paper's network has 64, every other layer is in proportion (fc6 and fc7: 4096).
        num_frames: frames of a clip, T; fc6 has weights for every place, so it must be known. The paper's is 16.
        crop_size: height and width of a clip. The paper's is 112.
        batch_norm: a batch norm after every convolution, for training from scratch; the paper has none.
        dropout: after fc6 and fc7.
        **kwargs: of `VideoClassifier`.

    Raises:
        ValueError: a clip too small for the five poolings.
    """

    feature_layer = "fc6"  # what the paper exports (section 4)

    def __init__(
        self,
        width: int = 64,
        num_frames: int = 16,
        crop_size: int = 112,
        batch_norm: bool = False,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        self.stages = nn.Sequential()
        channels, shape = 3, torch.tensor([num_frames, crop_size, crop_size])
        for name, multiple, pooling in _CONVOLUTIONS:
            self.stages.add_module(name, _convolution(channels, width * multiple, batch_norm))
            channels = width * multiple
            if pooling:
                # pool5 is padded in space: 7 x 7 become 4 x 4, as in the released network.
                padding = (0, 1, 1) if name == "conv5b" else (0, 0, 0)
                self.stages.add_module(f"pool{name[4]}", nn.MaxPool3d(pooling, padding=padding))
                shape = (shape + 2 * torch.tensor(padding)) // torch.tensor(pooling)
        if (shape < 1).any():
            raise ValueError(
                f"num_frames={num_frames}, crop_size={crop_size}: too small for five poolings, 16 frames of 16 x 16 "
                "pixels are the least"
            )
        hidden = width * 64
        self.stages.add_module("fc6", _hidden(int(shape.prod()) * channels, hidden, dropout, flatten=True))
        self.stages.add_module("fc7", _hidden(hidden, hidden, dropout))
        logits = nn.Linear(hidden, self.num_classes)
        self.stages.add_module("logits", logits)
        for module in self.modules():
            if isinstance(module, (nn.Conv3d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(logits.weight, std=0.01)


def _convolution(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [Conv3d(inputs, outputs, kernel_size=3, padding=1, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm3d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _hidden(inputs: int, outputs: int, dropout: float, flatten: bool = False) -> nn.Sequential:
    first: list[nn.Module] = [nn.Flatten()] if flatten else []
    return nn.Sequential(*first, nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout))
