"""Checks 16-bit gradients of 3D convolutions on this machine against gradients in float32.

The check runs in a child process, as a library that computes wrongly may also crash. The convolutions are computed by
`lightning_modules.layers.onednn_convolution`, as our networks do, and by torch alone, as networks from elsewhere do.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.layers.onednn_convolution import convolve
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung
from pipeline.processes.precision import half_type, slow_half

TOLERANCE = 5e-2  # of the gradient's norm; the rounding of bf16 alone gives 3e-3
_LIMIT_S = 200.0
# cuDNN 9.8 to 9.14 convolves some large clips wrongly in 3D and bf16 (pytorch issue 163539), larger than tried here.
WRONG_CUDNN = range(90800, 91500)
_NUM_REPETITIONS = 2  # repetitions: memory that is left unwritten may be right by chance

# Arguments of `ConvolutionSpec`: layers of C3D and I3D with fewer channels and smaller clips, and two with few frames.
_LAYERS = (
    (3, 32, 16, 20, 7, 2),  # I3D's first
    (3, 32, 16, 14, 3, 1),  # C3D's first
    (32, 32, 8, 14, 3, 1),  # C3D's conv3, I3D's Mixed_3
    (32, 32, 4, 7, 3, 1),  # C3D's conv4, I3D's Mixed_4
    (32, 32, 2, 7, 3, 1),  # C3D's conv5, I3D's Mixed_5 at 16 frames
    (32, 32, 2, 7, 1, 1),  # I3D's 1x1x1
    (32, 32, 1, 7, 3, 1),
    (32, 32, 3, 7, 5, 1),
)


@dataclass(frozen=True)
class ConvolutionSpec:
    """A 3D convolution over clips of `frames` x `size` x `size`, with padding `kernel // 2`.

    Attributes:
        inputs: number of input channels.
        outputs: number of output channels.
        frames: frames of the clip.
        size: height and width of the clip, in pixels.
        kernel: size of the filter along each axis.
        stride: stride along each axis.
    """

    inputs: int
    outputs: int
    frames: int
    size: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        return f"{self.inputs} channels x {self.frames} frames under filters of {self.kernel}"


@dataclass(frozen=True)
class GradientError:
    """Error of the gradients of one layer on one device.

    Attributes:
        device: description of the device.
        is_used: whether the run uses the device.
        is_own: whether `convolve` of our networks computed them, not torch alone.
        layer: description of the layer.
        error: distance of the worst gradient from the one in float32, divided by the norm of the latter; inf where a
            gradient has a NaN or could not be computed.
    """

    device: str
    is_used: bool
    is_own: bool
    layer: str
    error: float

    @property
    def is_accurate(self) -> bool:
        """Whether the error is within `TOLERANCE`, as rounding explains."""
        return self.error < TOLERANCE


def check_precision(precision: str | int | None, gpu: bool | None, is_foreign: bool) -> str:
    """Compares gradients on the processor and on every GPU.

    Args:
        precision: precision of the Trainer; None: unknown, and bf16 is checked without failing the check.
        gpu: whether the run uses GPUs; None: if there are any.
        is_foreign: whether the run's network is not from `lightning_modules`, and convolves by torch alone.

    Raises:
        ValueError: the precision is one of 16 bits, and the run would get wrong results; or the check did not end
            within 200 s.
    """
    is_half = half_type(precision, "cpu") is not None
    if is_half and gpu is not False and torch.cuda.is_available():
        refuse_wrong_cudnn(torch.backends.cudnn.version() or 0)  # type: ignore[no-untyped-call]
    errors: list[GradientError] = []
    crash_message, own = "", True
    deadline = time.monotonic() + _LIMIT_S
    try:
        with KillableProcess() as child:
            # Ours first: if torch's own convolutions crash the child, the results of ours are known.
            for own in (True, False):
                for layer in (ConvolutionSpec(*numbers) for numbers in _LAYERS):
                    remaining_s = max(0.0, deadline - time.monotonic())
                    errors += child.call(compare_devices, layer, precision, gpu, own, timeout=remaining_s)
    except ProcessHung:
        raise ValueError(f"gradients of 3D convolutions: no end within {_LIMIT_S:g} s") from None
    except ProcessDied as error:
        whose = "convolutions" if own else "torch's own convolutions"
        crash_message = f"{whose} take the process down ({error})"
    slow_warning = slow_half(precision if is_half else "bf16-mixed", "cpu")
    return summarize_errors(errors, is_half, is_foreign, crash_message, own, slow_warning)


def refuse_wrong_cudnn(version: int) -> None:
    """Raises ValueError for a cuDNN, such as 91002 for 9.10.2, whose 3D convolutions can be wrong in bf16."""
    if version in WRONG_CUDNN:
        raise ValueError(
            f"cuDNN {version // 10000}.{version // 100 % 100}.{version % 100} convolves some large clips wrongly in 16 "
            "bits: install 9.15 or newer (the one that torch requires is), or set trainer.precision: 32-true"
        )


def summarize_errors(
    errors: Sequence[GradientError],
    is_half: bool,
    is_foreign: bool,
    crash_message: str,
    own_crashed: bool,
    slow_warning: str | None,
) -> str:
    """Summarizes the comparisons in a sentence.

    Args:
        errors: the comparisons of all layers and devices.
        is_half: whether the run's precision has 16 bits.
        is_foreign: whether the run's network is not from `lightning_modules`.
        crash_message: the message of a crash that ended the comparisons; empty where there was none.
        own_crashed: whether the crash was in `convolve` of our networks.
        slow_warning: the warning that this processor has no bf16 units, or None.

    Raises:
        ValueError: the run would get wrong gradients.
    """
    inaccurate = [each for each in errors if not each.is_accurate]
    harmful = _describe_worst([each for each in inaccurate if each.is_used and each.is_own is not is_foreign])
    if crash_message and (is_foreign or own_crashed):
        harmful.append(crash_message)
    if is_half and harmful:
        otherwise = ", or convolve with lightning_modules.layers.onednn_convolution.convolve" if is_foreign else ""
        raise ValueError(
            f"gradients of 3D convolutions are wrong in 16 bits: {'; '.join(harmful)}: "
            f"set trainer.precision: 32-true{otherwise}"
        )
    sentences = [f"16-bit gradients of 3D convolutions are within {_describe_largest(errors)} of float32's"]
    sentences += [
        f"wrong, so keep precision 32-true there: {each}"
        for each in _describe_worst([each for each in inaccurate if each.is_own])
    ]
    sentences += [
        f"torch's own way is wrong, ours avoids it: {each}"
        for each in _describe_worst([each for each in inaccurate if not each.is_own])
    ]
    return "; ".join(filter(None, [*sentences, crash_message, slow_warning]))


def _describe_largest(errors: Sequence[GradientError]) -> str:
    largest: dict[str, float] = {}
    for each in errors:
        if each.is_own and each.is_accurate:
            largest[each.device] = max(largest.get(each.device, 0.0), each.error)
    return ", ".join(f"{error:.1e} ({device})" for device, error in largest.items())


def _describe_worst(inaccurate: Sequence[GradientError]) -> list[str]:
    """A phrase for each device: its worst layer, and the number of wrong layers."""
    texts = []
    for device in dict.fromkeys(each.device for each in inaccurate):
        device_errors = [each for each in inaccurate if each.device == device]
        worst = max(device_errors, key=lambda each: each.error)
        off = f"{worst.error:.1e} off" if math.isfinite(worst.error) else "no numbers"
        texts.append(f"{off} for {worst.layer}, {len(device_errors)} of {len(_LAYERS)} layers, on the {device}")
    return texts


def compute_gradients(layer: ConvolutionSpec, device: str, dtype: torch.dtype | None, own: bool) -> list[Tensor]:
    """The gradients of a layer by weights, bias and input, returned as float32 on the CPU.

    Args:
        layer: the layer; weights and inputs are drawn with a fixed seed.
        device: the device to compute on, such as `cpu` or `cuda:0`.
        dtype: data type of autocast; None: no autocast.
        own: compute by `convolve` of our networks, instead of `F.conv3d`.
    """
    random = torch.Generator().manual_seed(0)
    inputs, filters = (1, layer.inputs, layer.frames, layer.size, layer.size), (layer.outputs, layer.inputs)
    shapes = (filters + (layer.kernel,) * 3, (layer.outputs,), inputs)
    weight, bias, x = (torch.randn(shape, generator=random).to(device).requires_grad_() for shape in shapes)
    stride, padding = (layer.stride,) * 3, (layer.kernel // 2,) * 3
    with torch.autocast(device.partition(":")[0], dtype, enabled=dtype is not None):
        y = convolve(x, weight, bias, stride, padding) if own else F.conv3d(x, weight, bias, stride, padding)
    # The allocator's next memory contains NaN, so that elements which are left unwritten are detected.
    poisoned = [torch.full(shape, math.nan, dtype=y.dtype, device=device) for shape in shapes]
    del poisoned
    results = torch.autograd.grad(y, (weight, bias, x), torch.randn(y.shape, generator=random).to(device, y.dtype))
    return [each.float().cpu() for each in results]


def worst_gradient_error(layer: ConvolutionSpec, device: str, dtype: torch.dtype, own: bool) -> float:
    """The error of the worst gradient against float32 on the CPU, relative to its norm; inf where it has a NaN."""
    expected = compute_gradients(layer, "cpu", None, own=True)
    errors = []
    for _ in range(_NUM_REPETITIONS):
        try:
            found = compute_gradients(layer, device, dtype, own)
        except RuntimeError as error:  # such as a GPU without bf16
            print(error, file=sys.stderr)
            return math.inf
        errors += [float((each - right).norm() / right.norm()) for each, right in zip(found, expected, strict=True)]
    return max(math.inf if math.isnan(error) else error for error in errors)


def _devices(gpu: bool | None) -> dict[str, tuple[str, bool]]:
    """The processor and the GPUs by name: a description of each, and whether the run uses it."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    uses_gpus = count > 0 and gpu is not False
    found = {"cpu": ("processor", not uses_gpus)}
    found |= {
        f"cuda:{number}": (f"GPU {number} ({torch.cuda.get_device_name(number)})", uses_gpus) for number in range(count)
    }
    return found


def compare_devices(
    layer: ConvolutionSpec, precision: str | int | None, gpu: bool | None, own: bool
) -> list[GradientError]:
    """Compares the gradients of one layer on the processor and on every GPU.

    Args:
        layer: the layer.
        precision: precision of the Trainer, whose 16-bit type is taken; bf16 where it has none.
        gpu: whether the run uses GPUs; None: if there are any.
        own: compute by `convolve` of our networks, instead of `F.conv3d`.
    """
    found = []
    for device, (name, is_used) in _devices(gpu).items():
        dtype = half_type(precision, device.partition(":")[0]) or torch.bfloat16
        found.append(GradientError(name, is_used, own, str(layer), worst_gradient_error(layer, device, dtype, own)))
    return found
