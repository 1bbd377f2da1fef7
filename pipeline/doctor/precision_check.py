"""Whether 16-bit gradients of 3D convolutions are right on this machine: they are held against those in float32.

In a child process, as a library that computes wrongly may also crash. The convolutions are computed as our networks do,
by `lightning_modules.layers.onednn_convolution`, and as torch does by itself, which is what a network of somebody
else's would get.
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

TOLERANCE = 5e-2  # of the gradients' norm; bf16 itself is 3e-3 off
_LIMIT_S = 200.0
_TURNS = 2  # what is left unwritten may be right by chance

# As `Layer` has them: like those of C3D and I3D, with fewer channels and places, and two shorter ones.
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
class Layer:
    """A convolution of `inputs` to `outputs` channels over clips of `frames` x `size` x `size`, padded to its middle.

    Attributes:
        inputs: channels that come in.
        outputs: channels that go out.
        frames: of the clip.
        size: height and width of the clip.
        kernel: places of a filter along each axis.
        stride: along each axis.
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
class Compared:
    """The gradients of one layer on one device.

    Attributes:
        device: in words.
        run: whether it is the device that the run is to take.
        ours: computed as our networks do, not as torch does by itself.
        layer: in words.
        error: distance of the worst gradient from float32's, of its norm; inf where it has a NaN or was not computed.
    """

    device: str
    run: bool
    ours: bool
    layer: str
    error: float

    @property
    def right(self) -> bool:
        """Whether the gradients are as near as rounding explains."""
        return self.error < TOLERANCE


def check_precision(precision: str | int | None, gpu: bool | None, foreign: bool) -> str:
    """Compares gradients on the processor and on every GPU.

    Args:
        precision: the Trainer's; None where nothing is known of it: bf16 is then looked at, and nothing asks for it.
        gpu: whether the run takes GPUs; None: if there are any.
        foreign: whether the run's network is not ours, and convolves as torch does by itself.

    Raises:
        ValueError: the precision asks for 16 bits, and the run would get wrong gradients.
    """
    asked = half_type(precision, "cpu") is not None
    compared: list[Compared] = []
    crash, ours = "", True
    end = time.monotonic() + _LIMIT_S
    try:
        with KillableProcess() as child:
            # Ours first: where torch's own way takes the process down, they are known.
            for ours in (True, False):
                for layer in (Layer(*numbers) for numbers in _LAYERS):
                    left = max(0.0, end - time.monotonic())
                    compared += child.call(compare_devices, layer, precision, gpu, ours, timeout=left)
    except ProcessHung:
        raise ValueError(f"gradients of 3D convolutions: no end within {_LIMIT_S:g} s") from None
    except ProcessDied as error:
        whose = "convolutions" if ours else "torch's own convolutions"
        crash = f"{whose} take the process down ({error})"
    slow = slow_half(precision if asked else "bf16-mixed", "cpu")
    return judge(compared, asked, foreign, crash, ours, slow)


def judge(
    compared: Sequence[Compared], asked: bool, foreign: bool, crash: str, ours_crash: bool, slow: str | None
) -> str:
    """Puts what was compared into words.

    Args:
        compared: gradients.
        asked: whether the run's precision has 16 bits.
        foreign: see `check_precision`.
        crash: what to say where the comparison did not come to its end; empty where it did.
        ours_crash: whether that was while it computed as our networks do.
        slow: what to say of this processor's speed.

    Raises:
        ValueError: the run would get wrong gradients.
    """
    wrong = [each for each in compared if not each.right]
    harmful = _worst([each for each in wrong if each.run and each.ours is not foreign])
    if crash and (foreign or ours_crash):
        harmful.append(crash)
    if asked and harmful:
        otherwise = ", or convolve with lightning_modules.layers.onednn_convolution.convolve" if foreign else ""
        raise ValueError(
            f"gradients of 3D convolutions are wrong in 16 bits: {'; '.join(harmful)}: "
            f"set trainer.precision: 32-true{otherwise}"
        )
    told = [f"16-bit gradients of 3D convolutions are within {_largest(compared)} of float32's"]
    told += [f"wrong, so keep precision 32-true there: {each}" for each in _worst([w for w in wrong if w.ours])]
    told += [f"torch's own way is wrong, ours avoids it: {each}" for each in _worst([w for w in wrong if not w.ours])]
    return "; ".join(filter(None, [*told, crash, slow]))


def _largest(compared: Sequence[Compared]) -> str:
    of_device: dict[str, float] = {}
    for each in compared:
        if each.ours and each.right:
            of_device[each.device] = max(of_device.get(each.device, 0.0), each.error)
    return ", ".join(f"{error:.1e} ({device})" for device, error in of_device.items())


def _worst(wrong: Sequence[Compared]) -> list[str]:
    """One text a device: its worst layer, and how many there are."""
    texts = []
    for device in dict.fromkeys(each.device for each in wrong):
        there = [each for each in wrong if each.device == device]
        worst = max(there, key=lambda each: each.error)
        off = f"{worst.error:.1e} off" if math.isfinite(worst.error) else "no numbers"
        texts.append(f"{off} for {worst.layer}, {len(there)} of {len(_LAYERS)} layers, on the {device}")
    return texts


def gradients(layer: Layer, device: str, dtype: torch.dtype | None, ours: bool) -> list[Tensor]:
    """By weights, bias and input, in float32 on the CPU.

    Args:
        layer: of what shape; its numbers are the same each time.
        device: where to compute.
        dtype: of autocast; None: none.
        ours: whether by our `convolve` or by torch's.
    """
    random = torch.Generator().manual_seed(0)
    inputs, filters = (1, layer.inputs, layer.frames, layer.size, layer.size), (layer.outputs, layer.inputs)
    shapes = (filters + (layer.kernel,) * 3, (layer.outputs,), inputs)
    weight, bias, x = (torch.randn(shape, generator=random).to(device).requires_grad_() for shape in shapes)
    stride, padding = (layer.stride,) * 3, (layer.kernel // 2,) * 3
    with torch.autocast(device.partition(":")[0], dtype, enabled=dtype is not None):
        y = convolve(x, weight, bias, stride, padding) if ours else F.conv3d(x, weight, bias, stride, padding)
    # The next memory that is given out has NaN in it: what is left unwritten is to be seen.
    given_back = [torch.full(shape, math.nan, dtype=y.dtype, device=device) for shape in shapes]
    del given_back
    found = torch.autograd.grad(y, (weight, bias, x), torch.randn(y.shape, generator=random).to(device, y.dtype))
    return [each.float().cpu() for each in found]


def worst_gradient_error(layer: Layer, device: str, dtype: torch.dtype, ours: bool) -> float:
    """Distance of the worst gradient from float32's on the CPU, of its norm; inf where it is no number."""
    expected = gradients(layer, "cpu", None, ours=True)
    errors = []
    for _ in range(_TURNS):
        try:
            found = gradients(layer, device, dtype, ours)
        except RuntimeError as error:  # such as a GPU without bf16
            print(error, file=sys.stderr)
            return math.inf
        errors += [float((each - right).norm() / right.norm()) for each, right in zip(found, expected, strict=True)]
    return max(math.inf if math.isnan(error) else error for error in errors)


def _devices(gpu: bool | None) -> dict[str, tuple[str, bool]]:
    """The processor and the GPUs: each in words, and whether the run takes it."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    runs = count > 0 and gpu is not False
    found = {"cpu": ("processor", not runs)}
    found |= {
        f"cuda:{number}": (f"GPU {number} ({torch.cuda.get_device_name(number)})", runs) for number in range(count)
    }
    return found


def compare_devices(layer: Layer, precision: str | int | None, gpu: bool | None, ours: bool) -> list[Compared]:
    """Compares the gradients of one layer on the processor and on every GPU.

    Args:
        layer: of what shape.
        precision: the Trainer's, whose 16-bit type is taken; bf16 where it has none.
        gpu: whether the run takes GPUs; None: if there are any.
        ours: whether by our `convolve` or by torch's.
    """
    found = []
    for device, (name, run) in _devices(gpu).items():
        dtype = half_type(precision, device.partition(":")[0]) or torch.bfloat16
        found.append(Compared(name, run, ours, str(layer), worst_gradient_error(layer, device, dtype, ours)))
    return found
