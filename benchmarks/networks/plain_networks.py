"""C3D, I3D and CNN+LSTM written down as plainly as can be: what `benchmarks/networks/model.py` holds ours against.

Eager float32, clips (N, C, T, H, W) with every channel's frames apart, as the usual ports to PyTorch are used. Layers
are made in the order of ours, so that parameters and buffers correspond one to one; sizes are those of the papers that
`lightning_modules` names.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainC3D(nn.Module):
    """Eight convolutions, five poolings, three linear layers, for 16 frames of 112 x 112 unless made for others."""

    def __init__(self, num_classes: int, width: int = 64, crop_size: int = 112) -> None:
        super().__init__()
        widths = tuple(width * multiple for multiple in (1, 2, 4, 4, 8, 8, 8, 8))
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, padding=1) for before, after in zip((3, *widths), widths, strict=False)
        )
        pooled = (crop_size // 16 + 2) // 2  # the last pooling is padded
        hidden = 64 * width
        self.fc6, self.fc7 = nn.Linear(8 * width * pooled**2, hidden), nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Clips to logits."""
        for number, convolution in enumerate(self.convolutions):
            x = F.relu(convolution(x))
            if number == 0:
                x = F.max_pool3d(x, (1, 2, 2), (1, 2, 2))
            elif number in (1, 3, 5):
                x = F.max_pool3d(x, 2, 2)
            elif number == 7:
                x = F.max_pool3d(x, 2, 2, padding=(0, 1, 1))
        return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x.flatten(1))))))


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros on all sides as TensorFlow's SAME has them, one more at the end where they are odd."""
    sides: list[int] = []
    for size, width, step in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(width - (step if size % step == 0 else size % step), 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


class Unit(nn.Module):
    """Padding, convolution without bias, batch norm, rectifier, in two or three dimensions."""

    def __init__(self, inputs: int, outputs: int, width: int, stride: int, dimensions: int) -> None:
        super().__init__()
        self.kernel, self.stride = (width,) * dimensions, (stride,) * dimensions
        convolution, norm = (nn.Conv3d, nn.BatchNorm3d) if dimensions == 3 else (nn.Conv2d, nn.BatchNorm2d)
        self.convolution = convolution(inputs, outputs, self.kernel, self.stride, bias=False)
        self.norm = norm(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.norm(self.convolution(pad_same(x, self.kernel, self.stride))))


class Pooling(nn.Module):
    """Padding with zeros, which never win after a rectifier, and the largest value of each window."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        pool = F.max_pool3d if x.ndim == 5 else F.max_pool2d
        return pool(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Branches(nn.Module):
    """An Inception module: 1x1; 1x1 and 3x3; 1x1 and 3x3; pooling and 1x1."""

    def __init__(self, inputs: int, sizes: tuple[int, ...], dimensions: int) -> None:
        super().__init__()
        one, two, three, four, five, six = sizes

        def unit(before: int, after: int, width: int) -> Unit:
            return Unit(before, after, width, 1, dimensions)

        self.first = unit(inputs, one, 1)
        self.second = nn.Sequential(unit(inputs, two, 1), unit(two, three, 3))
        self.third = nn.Sequential(unit(inputs, four, 1), unit(four, five, 3))
        self.fourth = nn.Sequential(Pooling((3,) * dimensions, (1,) * dimensions), unit(inputs, six, 1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([self.first(x), self.second(x), self.third(x), self.fourth(x)], 1)


def plain_inception(dimensions: int) -> nn.Sequential:
    """Inception-v1 up to its last module: 1024 channels."""

    def pooling(width: int, stride: int, over_time: bool) -> Pooling:
        time = (width, stride) if over_time else (1, 1)
        return Pooling(
            (time[0], width, width)[-dimensions:],
            (time[1], stride, stride)[-dimensions:],
        )

    def layers() -> Iterator[nn.Module]:
        yield Unit(3, 64, 7, 2, dimensions)
        yield pooling(3, 2, over_time=False)
        yield Unit(64, 64, 1, 1, dimensions)
        yield Unit(64, 192, 3, 1, dimensions)
        yield pooling(3, 2, over_time=False)
        yield Branches(192, (64, 96, 128, 16, 32, 32), dimensions)
        yield Branches(256, (128, 128, 192, 32, 96, 64), dimensions)
        yield pooling(3, 2, over_time=True)
        yield Branches(480, (192, 96, 208, 16, 48, 64), dimensions)
        yield Branches(512, (160, 112, 224, 24, 64, 64), dimensions)
        yield Branches(512, (128, 128, 256, 24, 64, 64), dimensions)
        yield Branches(512, (112, 144, 288, 32, 64, 64), dimensions)
        yield Branches(528, (256, 160, 320, 32, 128, 128), dimensions)
        yield pooling(2, 2, over_time=True)
        yield Branches(832, (256, 160, 320, 32, 128, 128), dimensions)
        yield Branches(832, (384, 192, 384, 48, 128, 128), dimensions)

    return nn.Sequential(*layers())


class PlainI3D(nn.Module):
    """Inception-v1 in three dimensions; logits of pairs of time steps are averaged."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = plain_inception(3)
        self.classifier = nn.Conv3d(1024, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Clips to logits."""
        x = self.layers(x)
        x = F.avg_pool3d(x, (min(2, x.shape[2]), x.shape[3], x.shape[4]), stride=1)
        return self.classifier(x).squeeze(4).squeeze(3).mean(2)


class PlainCNNLSTM(nn.Module):
    """Inception-v1 on all frames at once, an LSTM over their features, the mean of its states classified."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = plain_inception(2)
        self.lstm = nn.LSTM(1024, 256, batch_first=True)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Clips to logits."""
        clips, channels, frames, height, width = x.shape
        images = x.transpose(1, 2).reshape(clips * frames, channels, height, width)
        features = self.layers(images).mean((2, 3)).reshape(clips, frames, 1024)
        return self.classifier(self.lstm(features)[0].mean(1))
