"""Layers of Inception-v1 in two and three dimensions: convolution with batch norm, pooling, Inception module.

A layer's number of dimensions is the length of its `kernel`. There are two kinds of padding, because published weights
were trained with either:

    same:       TensorFlow's SAME: the output size is ceil(size / stride); if the padding is odd, the end gets one more
                than the beginning (I3D, TF-slim)
    symmetric:  (kernel - 1) // 2 on both sides; poolings with a stride are not padded, but round up (torchvision)
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.layers.onednn_convolution import convolve

Padding = Literal["same", "symmetric"]
TimePadding = Literal["zeros", "replicate"]
Convolve = Callable[[Tensor, Tensor, Tensor | None, Sequence[int], Sequence[int]], Tensor]

EPSILON = 1e-3  # of the batch norms, in TF-slim, Sonnet and torchvision's GoogLeNet


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The padding of TensorFlow's SAME before and after an axis of `size` elements.

    >>> same_padding(224, 7, 2)
    (2, 3)
    """
    windows = (size + stride - 1) // stride
    total = kernel - 1 if stride == 1 else torch.sym_max(0, (windows - 1) * stride + kernel - size)  # type: ignore[no-untyped-call]
    return total // 2, total - total // 2


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU: (N, C, [T,] H, W) to (N, D, [T',] H', W').

    Args:
        inputs: C, number of input channels.
        outputs: D, number of output channels.
        kernel: kernel size along each axis; three numbers for clips, two for images.
        stride: stride along each axis; as many numbers as `kernel`.
        padding: `same` or `symmetric`, see the module's docstring.
        bn_scale: whether the batch norm has a learned scale besides its bias; without, the weight stays 1.
        time_padding: `zeros`, or `replicate`, which repeats the first and last frame.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Padding = "same",
        bn_scale: bool = False,
        time_padding: TimePadding = "zeros",
    ) -> None:
        super().__init__()
        convolution, norm = (nn.Conv3d, nn.BatchNorm3d) if len(kernel) == 3 else (nn.Conv2d, nn.BatchNorm2d)
        self.padding: Padding = padding
        self.time_padding: TimePadding = time_padding
        sizes: tuple[Any, Any] = tuple(kernel), tuple(stride)
        self.conv = convolution(inputs, outputs, *sizes, bias=False)
        self.bn = norm(outputs, eps=EPSILON)
        self.convolve: Convolve = convolve  # `space_to_depth` sets another one
        # A fixed weight of 1 instead of none: synchronized batch norm and folding require a weight.
        self.bn.weight.requires_grad_(bn_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer. The convolution has a bias if the batch norm was folded into it (`batch_norm_folding`)."""
        x, padding = self._pad_input(x)
        x = self.convolve(x, self.conv.weight, self.conv.bias, self.conv.stride, padding)
        return F.relu(self.bn(x), inplace=True)

    def _pad_input(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """The input with asymmetric or replicated padding added, and the symmetric padding left to the convolution."""
        kernel, stride = self.conv.kernel_size, self.conv.stride
        if self.padding == "same":
            axes = zip(x.shape[2:], kernel, stride, strict=True)
            pads = [same_padding(*axis) for axis in axes]
        else:
            pads = [((size - 1) // 2, (size - 1) // 2) for size in kernel]
        if x.ndim == 5 and self.time_padding == "replicate" and any(pads[0]):
            x = torch.cat([*[x[:, :, :1]] * pads[0][0], x, *[x[:, :, -1:]] * pads[0][1]], dim=2)
            pads[0] = (0, 0)
        # A program for any number of frames has one formula of the padding for all of them, without this distinction.
        is_fixed = all(isinstance(amount, int) for pair in pads for amount in pair)
        if is_fixed and all(before == after for before, after in pads):
            return x, [before for before, _ in pads]
        return F.pad(x, [amount for pair in reversed(pads) for amount in pair]), [0] * len(pads)


class MaxPooling(nn.Module):
    """Max pooling: (N, D, [T,] H, W) to (N, D, [T',] H', W'). Padded elements are never the maximum.

    Args:
        kernel: window size along each axis; three numbers for clips, two for images.
        stride: stride along each axis.
        padding: `same` or `symmetric`, see the module's docstring.
    """

    def __init__(self, kernel: Sequence[int], stride: Sequence[int], padding: Padding = "same") -> None:
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)
        self.padding: Padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Applies the pooling."""
        if self.padding == "same":
            axes = zip(x.shape[2:], self.kernel, self.stride, strict=True)
            before = [same_padding(*axis)[0] for axis in axes]
        else:
            before = [(size - 1) // 2 if step == 1 else 0 for size, step in zip(self.kernel, self.stride, strict=True)]
        if not all(isinstance(amount, int) for amount in (*x.shape[2:], *before)):
            return self._pool_any_size(x)
        sizes = zip(x.shape[2:], before, self.kernel, self.stride, strict=True)
        if any(size + 2 * pad + step <= kernel for size, pad, kernel, step in sizes):
            raise ValueError(
                f"nothing is left of {tuple(x.shape[2:])} places by a pooling over {self.kernel}: give longer clips "
                "(num_frames) or larger crops (crop_size)"
            )
        # Rounding up adds the additional element that SAME has at the end.
        pool = F.max_pool3d if x.ndim == 5 else F.max_pool2d
        return pool(x, self.kernel, self.stride, before, ceil_mode=True)

    def _pool_any_size(self, x: Tensor) -> Tensor:
        """The same with explicit padding, which a program for any number of frames can compute."""
        axes = list(zip(x.shape[2:], self.kernel, self.stride, strict=True))
        if self.padding == "same":
            pads = [same_padding(*axis) for axis in axes]
        else:
            pads = [_rounding_up_padding(*axis) for axis in axes]
        x = F.pad(x, [amount for pair in reversed(pads) for amount in pair], value=-torch.inf)
        return (F.max_pool3d if x.ndim == 5 else F.max_pool2d)(x, self.kernel, self.stride)


def _rounding_up_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The symmetric padding of a pooling, and at the end what lets it round its output size up."""
    pad = (kernel - 1) // 2 if stride == 1 else 0
    return pad, pad + (kernel - size - 2 * pad) % stride


class Mixed(nn.Module):
    """An Inception module: four parallel branches (Szegedy et al. 2015, figure 2b; I3D: figure 3, right).

    The branches have the names of the usual PyTorch ports of I3D: b0 is 1x1; b1a, b1b and b2a, b2b are 1x1 and 3x3;
    b3b is 1x1 after a 3x3 pooling. The paper's 5x5 is a 3x3 in TF-slim, I3D and torchvision.

    Args:
        inputs: number of input channels.
        channels: output channels of b0, b1a, b1b, b2a, b2b, b3b.
        dimensions: 2 for images, 3 for clips.
        padding: `same` or `symmetric`, see the module's docstring.
        bn_scale: see `Convolution`.
        time_padding: see `Convolution`.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int],
        dimensions: int,
        padding: Padding = "same",
        bn_scale: bool = False,
        time_padding: TimePadding = "zeros",
    ) -> None:
        super().__init__()
        one, three = (1,) * dimensions, (3,) * dimensions

        def convolution(inputs: int, outputs: int, kernel: Sequence[int]) -> Convolution:
            return Convolution(inputs, outputs, kernel, one, padding, bn_scale, time_padding)

        self.b0 = convolution(inputs, channels[0], one)
        self.b1a = convolution(inputs, channels[1], one)
        self.b1b = convolution(channels[1], channels[2], three)
        self.b2a = convolution(inputs, channels[3], one)
        self.b2b = convolution(channels[3], channels[4], three)
        self.b3a = MaxPooling(three, one, padding)
        self.b3b = convolution(inputs, channels[5], one)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenates the branches' outputs along the channels."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)
