"""`convolve`, by which our networks convolve: it avoids what torch computes slowly or wrongly on processors.

Inference in float32: torch 2.13 takes its own `slow_conv3d` for one small clip (C T H up to 20,480), and with one
thread for 1x1 filters of up to 15 clips of any size. That lays its output out with channels first, which slows down all
that follows: I3D is 1.5 times as fast by oneDNN, C3D 1.3 times (benchmarks/README.md).

Gradients in bf16: on processors with AVX-512 and without bf16 units, oneDNN 3.12 leaves gradients of filters unwritten
where the convolution itself pads so few frames that no window lies wholly within them (2 frames under a filter of 3):
garbage, another each time, for C3D's conv5a and conv5b at the published 16 x 112 x 112 and for I3D's Mixed_5 at 16
frames. With those axes padded beforehand they are right.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# On others, such as ARM's, oneDNN need not be quicker.
_HAS_AVX = torch.backends.cpu.get_cpu_capability().startswith("AVX")


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d` or `F.conv3d`, whichever the filters are for: (N, C, [T,] H, W) to (N, D, [T',] H', W').

    Args:
        x: the input.
        weight: filters, (D, C / groups, [T,] H, W).
        bias: (D,).
        stride: along each axis.
        padding: with zeros along each axis, the same on both sides.
        dilation: places from one weight of a filter to the next, along each axis; default: 1.
        groups: of channels that do not see each other.
    """
    dilation = dilation or [1] * len(stride)
    if _wants_onednn(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    if _takes_gradients_in_half(x):
        x, padding = _pad_short_axes(x, weight.shape[2:], stride, padding, dilation)
    convolution = F.conv3d if weight.ndim == 5 else F.conv2d
    return convolution(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


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


def _takes_gradients_in_half(x: Tensor) -> bool:
    """Whether this is computed on the processor in bf16 or fp16, by its own type or under autocast, with gradients."""
    half = x.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and torch.is_grad_enabled() and half


def _pad_short_axes(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Pads those axes along which no window lies wholly within the input: that input, and the padding that is left.

    Not every axis: oneDNN skips weights that meet nothing but its own padding. With time always padded beforehand,
    convolutions of 4 to 16 frames took up to 1.4 times as long, those of 2 frames 1.04 times.
    """
    amounts, left = [], []
    for size, taps, step, amount, spread in zip(
        x.shape[-len(kernel) :], kernel, stride, padding, dilation, strict=True
    ):
        window = spread * (taps - 1) + 1
        first = -amount % step  # where the first window begins that needs no padding before it
        short = amount > 0 and first + window > size
        amounts.append(amount if short else 0)
        left.append(0 if short else amount)
    if any(amounts):
        x = F.pad(x, [amount for each in reversed(amounts) for amount in (each, each)])
    return x, left


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
