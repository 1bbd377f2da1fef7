"""Gradients of convolutions in bf16 on the CPU: near float32's for every layer of C3D and I3D, whatever the processor.

On processors with AVX-512 and without bf16 units, oneDNN's are garbage unless axes are padded before the convolution:
there the numbers tell. On all others the padding tells that torch was asked for.
"""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lightning_modules import C3D, I3D
from lightning_modules.layers.execution_options import recompute_activations
from lightning_modules.layers.inception_layers import Convolution
from lightning_modules.layers.onednn_convolution import Conv3d, convolve
from lightning_modules.weights.inflation import inflate_network

TOLERANCE = 5e-2
PUBLISHED = {
    "C3D, 16 x 112": (lambda **options: C3D(num_classes=2, **options), 16, 112),
    "I3D, 64 x 224": (lambda **options: I3D(num_classes=2, **options), 64, 224),
    "I3D, 16 x 224": (lambda **options: I3D(num_classes=2, **options), 16, 224),
    "I3D, symmetric, 64 x 224": (lambda **options: I3D(num_classes=2, padding="symmetric", **options), 64, 224),
    "I3D, symmetric, 16 x 224": (lambda **options: I3D(num_classes=2, padding="symmetric", **options), 16, 224),
    "I3D, replicate, 16 x 224": (lambda **options: I3D(num_classes=2, time_padding="replicate", **options), 16, 224),
}


def relative_errors(layer, x):
    """How far gradients by weights, bias and input are from float32's, of their norm, under autocast to bf16."""
    found = []
    for autocast in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        layer.zero_grad(set_to_none=True)
        x = x.detach().requires_grad_()
        torch.manual_seed(1)
        with autocast:
            y = layer(x)
        # What is left unwritten should be seen: memory that was just given back holds NaN.
        for size in (weight.numel() for weight in layer.parameters()):
            del_me = [torch.full((size,), float("nan"), dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
            del del_me
        y.backward(torch.randn(y.shape).to(y.dtype))
        found.append([x.grad, *(weight.grad for weight in layer.parameters() if weight.grad is not None)])
    names = ["input", *(name for name, weight in layer.named_parameters() if weight.grad is not None)]
    pairs = zip(names, *found, strict=True)
    return {name: float((half.float() - full).norm() / full.norm()) for name, full, half in pairs}


def convolutions_of(name):
    """Every convolution of a network, and the shape of its input at the published size; nothing is computed."""
    make, frames, size = PUBLISHED[name]
    found = []
    with torch.device("meta"), torch.no_grad():
        model = make().eval()
        for module in model.modules():
            if isinstance(module, (Convolution, Conv3d)):
                module.register_forward_pre_hook(lambda module, inputs: found.append((module, inputs[0].shape)))
        model.clip_logits(torch.empty(1, 3, frames, size, size))
    return found


def rebuilt(module, channels):
    """The same layer with real weights, few channels, a bias, and a rectifier that lets everything pass."""
    convolution = module.conv if isinstance(module, Convolution) else module
    inputs, outputs = (min(count, channels) for count in (convolution.in_channels, convolution.out_channels))
    if isinstance(module, Conv3d):
        return Conv3d(inputs, outputs, convolution.kernel_size[0], convolution.padding[0], bias=True)
    layer = Convolution(
        inputs, outputs, convolution.kernel_size, convolution.stride, module.padding, time_padding=module.time_padding
    )
    layer.bn = nn.Identity()
    layer.conv.bias = nn.Parameter(torch.full((outputs,), 1e3))  # else rounding would open or close it for some places
    return layer


def examine(name, channels, space):
    """The worst error of any gradient of any convolution; layers that are the same after reduction are taken once."""
    torch.manual_seed(0)
    seen = {}
    for module, (_, inputs, frames, height, width) in convolutions_of(name):
        shape = (1, min(inputs, channels), frames, min(height, space), min(width, space))
        layer = rebuilt(module, channels)
        key = (*shape, str(layer))
        if key not in seen:
            seen[key] = max(relative_errors(layer, torch.randn(shape)).values())
    return seen


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layers_gradients_in_bf16_are_near_those_in_float32(name):
    """At all their published numbers of frames; of 16 channels and 7 x 7 places, of which the fault does not depend."""
    errors = examine(name, channels=16, space=7)
    assert len(errors) >= 5
    assert {layer: error for layer, error in errors.items() if not error < TOLERANCE} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_same_with_more_channels_and_places(name):
    """Not in full: with neither units for bf16 nor AVX-512 that takes half an hour."""
    errors = examine(name, channels=64, space=14)
    assert {layer: error for layer, error in errors.items() if not error < TOLERANCE} == {}


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("filter_frames", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("space", [1, 2, 8])
def test_short_clips_under_long_filters(frames, filter_frames, stride, space):
    torch.manual_seed(0)
    for channels in (3, 16, 40):
        flat = nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1))
        layer = inflate_network(flat, lambda *_: filter_frames, time_stride=lambda *_: stride)
        errors = relative_errors(layer, torch.randn(2, channels, frames, space, space))
        assert max(errors.values()) < TOLERANCE, errors


class ConvolutionsBackward(TorchDispatchMode):
    """Notes the convolutions in bf16 or fp16 whose gradients are computed within."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default and args[1].dtype != torch.float32:
            self.note(*args[1:8])
        return func(*args, **(kwargs or {}))

    def note(self, x, weight, bias_sizes, stride, padding, dilation, transposed):
        sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        self.seen.append(
            (tuple(x.shape), tuple(weight.shape), list(padding), any(starts_beyond(*each) for each in sizes))
        )

    @property
    def wrong(self):
        return [(x, weight, padding) for x, weight, padding, short in self.seen if short]


def starts_beyond(size, taps, stride, padding, dilation):
    """Whether an axis is padded by the convolution and none of its windows lies wholly within the input."""
    window = dilation * (taps - 1) + 1
    starts = range(-padding, size + padding - window + 1, stride)
    return padding > 0 and not any(start >= 0 and start + window <= size for start in starts)


@pytest.mark.parametrize(
    ("name", "half"),
    [
        *((name, None) for name in PUBLISHED if "64" not in name),  # all layers of 64 frames keep 8
        ("C3D, 16 x 112", torch.bfloat16),
        ("C3D, 16 x 112", torch.float16),
    ],
)
def test_no_convolution_pads_an_axis_that_is_shorter_than_its_filter(name, half):
    """Whole networks at their published sizes, in training; nothing is computed. None: autocast to bf16."""
    make, frames, size = PUBLISHED[name]
    with torch.device("meta"):
        model = make().train().to(half or torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, x = model.to_empty(device="cpu"), torch.empty(1, 3, frames, size, size, dtype=half)
        with torch.autocast("cpu", torch.bfloat16, enabled=half is None):
            loss = model.clip_logits(x).sum()
        with ConvolutionsBackward() as watched:
            loss.backward()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv3d)]
    assert len(watched.seen) == len(layers), "the last of I3D, too, is a convolution"
    assert watched.wrong == []


def small_networks():
    """Each of our three kinds of 3D convolution with 2 frames left where filters have 3, and clips for it."""
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=2))
    return {
        "C3D": (C3D(width=1, crop_size=32, num_classes=2).stages, torch.randn(1, 3, 16, 32, 32)),
        "Convolution": (nn.Sequential(Convolution(3, 4, (3, 3, 3), (1, 1, 1))), torch.randn(1, 3, 2, 8, 8)),
        "InflatedConv3d": (inflate_network(flat), torch.randn(1, 3, 2, 8, 8)),
    }


@pytest.mark.parametrize("name", ["C3D", "Convolution", "InflatedConv3d"])
@pytest.mark.parametrize("how", ["stages recomputed", "recomputed from the outside", "reentrant"])
def test_the_same_where_activations_are_computed_twice(name, how):
    network, x = small_networks()[name]
    if how == "stages recomputed":
        recompute_activations(network, network, True)
    with torch.autocast("cpu", torch.bfloat16):
        if how == "stages recomputed":
            y = network(x)
        else:
            y = checkpoint(network, x.requires_grad_(), use_reentrant=how == "reentrant")
    with ConvolutionsBackward() as watched:
        y.sum().backward()
    assert watched.seen
    assert watched.wrong == []


@pytest.mark.parametrize("name", ["C3D", "Convolution", "InflatedConv3d"])
def test_the_same_where_torch_compile_traces_it(name):
    """The graphs that a compiler is given, of the forward pass and of the backward pass."""
    watched = ConvolutionsBackward()

    def look(graph, inputs):
        for node in graph.graph.nodes:
            if node.target is torch.ops.aten.convolution_backward.default:
                values = [arg.meta["val"] if isinstance(arg, torch.fx.Node) else arg for arg in node.args]
                watched.note(*values[1:8])
        return make_boxed_func(graph)

    network, x = small_networks()[name]
    torch._dynamo.reset()
    compiled = torch.compile(network, backend=aot_autograd(fw_compiler=look, bw_compiler=look), fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        compiled(x).sum().backward()
    assert watched.seen
    assert watched.wrong == []


def test_without_gradients_or_in_float32_the_convolution_pads_by_itself():
    x, weight = torch.randn(1, 3, 2, 8, 8), torch.randn(4, 3, 3, 3, 3, requires_grad=True)
    shapes = []

    class Inputs(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution.default:
                shapes.append(args[0].shape[2])
            return func(*args, **(kwargs or {}))

    with Inputs():
        convolve(x, weight, None, (1, 1, 1), (1, 1, 1))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            convolve(x, weight, None, (1, 1, 1), (1, 1, 1))
        with torch.autocast("cpu", torch.bfloat16):
            convolve(x, weight, None, (1, 1, 1), (1, 1, 1))
            convolve(torch.randn(1, 3, 3, 8, 8), weight, None, (1, 1, 1), (1, 1, 1))
    assert shapes == [2, 2, 4, 3]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("taps", [1, 2, 3, 5, 7])
def test_padding_beforehand_is_the_same_convolution(taps, stride, dilation):
    """Every number of frames and every padding that torch takes, with and without gradients.

    The expected values are those of float32: sums of small integers are exact before they are rounded. torch's own
    convolution in bf16 crashes the process on some processors, for one frame under two dilated taps.
    """
    weight = torch.randint(-2, 3, (4, 2, taps, 3, 3)).to(torch.bfloat16).requires_grad_()
    for frames in range(1, 9):
        for padding in range(taps):
            x = torch.randint(-2, 3, (1, 4, frames, 4, 4)).to(torch.bfloat16)
            arguments = ((stride, 1, 1), (padding, 1, 1), (dilation, 1, 1), 2)
            if frames + 2 * padding < dilation * (taps - 1) + 1:
                with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
                    convolve(x, weight, None, *arguments)
            else:
                expected = F.conv3d(x.float(), weight.float(), None, *arguments).to(torch.bfloat16)
                assert torch.equal(convolve(x, weight, None, *arguments), expected)
                with torch.no_grad():
                    assert torch.equal(convolve(x, weight, None, *arguments), expected)
