"""`convolve`: convolution that works around slow and wrong implementations in PyTorch on CPUs.

Inference in float32: torch 2.13 uses its own `slow_conv3d` for one small clip (C T H up to 20,480), and, with one
thread, for 1x1 filters and up to 15 clips of any size. Its output is in channels-first layout, which slows down all
following layers: I3D is 1.5 times as fast with oneDNN, C3D 1.3 times (benchmarks/README.md).

Gradients in bf16: on processors with AVX-512 and without bf16 units, oneDNN 3.12 leaves filter gradients unwritten if
the convolution itself pads so few frames that no window lies entirely within the input (2 frames under a filter of 3).
The result is garbage, different each time, for C3D's conv5a and conv5b at the published 16 x 112 x 112 and for I3D's
Mixed_5 at 16 frames. With those axes padded beforehand the gradients are correct.

Dilated filters in bf16: on processors with AMX (avx512_fp16, Sapphire Rapids), the same oneDNN crashes the process
where all of the input lies between the taps, such as one frame under a filter of 2 taps with dilation 2 and padding 1,
with and without gradients. Padded beforehand it does not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# On other processors, such as ARM's, oneDNN is not always faster.
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
    """`F.conv2d` or `F.conv3d`, by the filters' dimensions: (N, C, [T,] H, W) to (N, D, [T',] H', W').

    Args:
        x: the input.
        weight: filters, (D, C / groups, [T,] H, W).
        bias: (D,).
        stride: stride along each axis.
        padding: zeros on both sides of each axis.
        dilation: spacing between filter elements along each axis; default: 1.
        groups: number of groups of channels that are convolved separately.
    """
    dilation = dilation or [1] * len(stride)
    if _uses_onednn(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    if _is_half_precision(x) and (torch.is_grad_enabled() or max(dilation) > 1):
        x, padding = _pad_short_axes(x, weight.shape[2:], stride, padding, dilation)
    convolution = F.conv3d if weight.ndim == 5 else F.conv2d
    return convolution(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def _uses_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether to call oneDNN: float32 inference on such a processor; not in training, autocast or compilation."""
    return bool(
        not torch.compiler.is_compiling()  # first, so that compilers do not trace the others
        and _HAS_AVX
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.enabled
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim == weight.ndim
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _is_half_precision(x: Tensor) -> bool:
    """Whether this runs on the CPU in bf16 or fp16, by dtype or under autocast."""
    half = x.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and half


def _pad_short_axes(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Pads the axes along which no window lies entirely within the input; returns that input and the remaining padding.

    Other axes are not padded, because oneDNN skips weights that meet only its own padding. With time always padded
    beforehand, convolutions of 4 to 16 frames took up to 1.4 times as long, those of 2 frames 1.04 times.
    """
    amounts, remaining = [], []
    for size, taps, step, amount, spread in zip(
        x.shape[-len(kernel) :], kernel, stride, padding, dilation, strict=True
    ):
        window = spread * (taps - 1) + 1
        first = -amount % step  # start of the first window that needs no padding before it
        is_short = amount > 0 and first + window > size
        amounts.append(amount if is_short else 0)
        remaining.append(0 if is_short else amount)
    if any(amounts):
        x = F.pad(x, [amount for each in reversed(amounts) for amount in (each, each)])
    return x, remaining


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` computed by `convolve`: (N, C, T, H, W) to (N, D, T', H', W').

    Args:
        inputs: C, number of input channels.
        outputs: D, number of output channels.
        kernel_size: kernel size along all axes.
        padding: zeros on all sides.
        bias: whether the layer has a bias.
    """

    padding: tuple[int, ...]

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int, bias: bool) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Applies the convolution."""
        return convolve(input, self.weight, self.bias, self.stride, self.padding)
