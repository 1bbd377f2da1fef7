"""Convolutions for inference on processors: by oneDNN, also where torch would take a slower way.

In float32, torch 2.13 takes its own `slow_conv3d` for one small clip (C T H up to 20,480), and with one thread for 1x1
filters of up to 15 clips of any size. That lays its output out with channels first, which slows down all that follows:
I3D is 1.5 times as fast without, C3D 1.3 times (benchmarks/README.md).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# On others, such as ARM's, oneDNN need not be quicker.
_HAS_AVX = torch.backends.cpu.get_cpu_capability().startswith("AVX")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """`F.conv2d` or `F.conv3d`, whichever the filters are for: (N, C, [T,] H, W) to (N, D, [T',] H', W').

    Args:
        x: the input.
        weight: filters, (D, C, [T,] H, W).
        bias: (D,).
        stride: along each axis.
        padding: along each axis, the same on both sides.
    """
    if _wants_onednn(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, [1] * len(stride), 1)
    if weight.ndim == 5:
        return F.conv3d(x, weight, bias, tuple(stride), tuple(padding))
    return F.conv2d(x, weight, bias, tuple(stride), tuple(padding))


def _wants_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether this is inference in float32 on such a processor; training, autocast, compilers have their own ways."""
    return bool(
        not torch.compiler.is_compiling()  # first: compilers then look at none of the others
        and _HAS_AVX
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.enabled
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim == weight.ndim
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class Conv3d(nn.Conv3d):
    """torch's, run by `convolve`: (N, C, T, H, W) to (N, D, T', H', W').

    Args:
        inputs: C.
        outputs: D.
        kernel_size: along all axes.
        padding: with zeros, on all sides.
        bias: whether there is one.
    """

    padding: tuple[int, ...]

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        return convolve(input, self.weight, self.bias, self.stride, self.padding)
