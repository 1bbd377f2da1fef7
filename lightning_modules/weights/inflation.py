"""Inflation: turns a 2D network into a 3D one with the same outputs on a video of identical frames.

Carreira, Zisserman: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, section 2.4:
filters N x N become N x N x N, with the weights repeated N times over time and divided by N. On a video that repeats
one frame, every layer then has the output of the 2D layer on that frame: away from the first and last frames if time is
padded with zeros, and everywhere if it is padded by repeating these frames (`replicate`).
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_modules.layers.inception_layers import TimePadding
from lightning_modules.layers.onednn_convolution import convolve
from lightning_modules.layers.torch_internals import ConvTranspose

FrameCount = Callable[[str, nn.Module], int]


def inflate_filters(weight: Tensor, num_frames: int) -> Tensor:
    """Filters (D, C, h, w) to (D, C, num_frames, h, w), repeated and divided, so that the sum over time stays."""
    return weight.unsqueeze(2).repeat(1, 1, num_frames, 1, 1) / num_frames


def deflate_filters(weight: Tensor) -> Tensor:
    """Filters (D, C, T, h, w) to (D, C, h, w), summed over time: their effect on a video of identical frames."""
    return weight.sum(2)


def inflate_weights(
    state: Mapping[str, Tensor], target: nn.Module, rename: Callable[[str], str] = str
) -> dict[str, Tensor]:
    """Inflates the state dict of a 2D network for a 3D network of the same layers.

    Args:
        state: state dict of the 2D network.
        target: the 3D network; its filters' shapes give the numbers of frames.
        rename: maps a 2D key to its 3D key.

    Returns:
        A state dict that `target` loads strictly: filters inflated; biases and batch norms unchanged.

    Raises:
        ValueError: keys that only one of the networks has, or whose shapes do not match; all are listed.
    """
    target_state = target.state_dict()
    inflated: dict[str, Tensor] = {}
    unmatched = []
    for key, value in state.items():
        target_value = target_state.get(rename(key))
        if target_value is not None and value.ndim == 4 and target_value.ndim == 5:
            value = inflate_filters(value, target_value.shape[2])
        if target_value is None or value.shape != target_value.shape or rename(key) in inflated:
            unmatched.append(key)
        else:
            inflated[rename(key)] = value.to(target_value.dtype)
    unmatched += [key for key in target_state if key not in inflated]
    if unmatched:
        named = ", ".join(dict.fromkeys(unmatched))
        raise ValueError(f"the 2D weights cannot be inflated into {type(target).__name__}: {named} do not match")
    return inflated


def _cubic(name: str, layer: nn.Module) -> int:
    """N x N becomes N x N x N; a filter with unequal sides takes the smaller one."""
    return min(cast(nn.Conv2d, layer).kernel_size)


def _no_inflation(name: str, layer: nn.Module) -> int:
    return 1


def inflate_network(
    network: nn.Module,
    filter_frames: FrameCount = _cubic,
    pooling_frames: FrameCount = _no_inflation,
    time_stride: FrameCount = _no_inflation,
    time_padding: TimePadding = "zeros",
) -> nn.Module:
    """Turns any 2D network of convolutions, poolings and batch norms into a 3D one, with inflated weights.

    Layers keep their names. Operations outside of layers must not depend on the number of axes: `torch.flatten(x, 1)`
    and `torch.cat(..., 1)` do not, `x.mean((2, 3))` does.

    Args:
        network: takes (N, C, H, W); is not modified.
        filter_frames: function of a convolution's name and module that gives its filters' frames, an odd number.
        pooling_frames: function of a pooling's name and module that gives its window's frames.
        time_stride: function of a layer's name and module that gives its stride in time; 1 keeps the number of frames.
        time_padding: padding of convolutions in time: `zeros`, or `replicate`, the first and last frame.

    Returns:
        A network that takes (N, C, T, H, W), in the training or evaluation mode of `network`.

    Raises:
        ValueError: a layer that cannot be inflated, or an even number of filter frames; the message names the layer.
    """
    inflated = copy.deepcopy(network)
    for name, layer in list(inflated.named_modules()):
        replacement = _inflated_layer(name, layer, filter_frames, pooling_frames, time_stride, time_padding)
        if replacement is None:
            continue
        replacement.train(layer.training)
        if not name:
            return replacement
        parent, _, child = name.rpartition(".")
        setattr(inflated.get_submodule(parent), child, replacement)
    return inflated


def _inflated_layer(
    name: str,
    layer: nn.Module,
    filter_frames: FrameCount,
    pooling_frames: FrameCount,
    time_stride: FrameCount,
    padding: TimePadding,
) -> nn.Module | None:
    """The inflated layer; None for modules without spatial axes."""
    if isinstance(layer, ConvTranspose) or type(layer).__name__.endswith(("Pad2d", "Upsample")):
        raise ValueError(f"layer {name!r}: a {type(layer).__name__} cannot be inflated")
    if isinstance(layer, nn.Conv2d):
        return InflatedConv3d.from_conv2d(layer, filter_frames(name, layer), time_stride(name, layer), padding, name)
    if isinstance(layer, nn.BatchNorm2d):
        return _inflated_norm(layer)
    frames, stride = (
        f(name, layer) if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) else 1 for f in (pooling_frames, time_stride)
    )
    if getattr(layer, "divisor_override", None) is not None or getattr(layer, "return_indices", False):
        raise ValueError(f"layer {name!r}: a {type(layer).__name__} with divisor_override or return_indices")
    if isinstance(layer, nn.MaxPool2d):
        return nn.MaxPool3d(
            (frames, *_pair(layer.kernel_size)),
            (stride, *_pair(layer.stride)),
            ((frames - 1) // 2, *_pair(layer.padding)),
            (1, *_pair(layer.dilation)),
            ceil_mode=layer.ceil_mode,
        )
    if isinstance(layer, nn.AvgPool2d):
        # Time is not padded: an average that includes padding would differ from the frame's.
        kernel, step = (frames, *_pair(layer.kernel_size)), (stride, *_pair(layer.stride))
        return nn.AvgPool3d(kernel, step, (0, *_pair(layer.padding)), layer.ceil_mode, layer.count_include_pad)
    if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
        adaptive = nn.AdaptiveAvgPool3d if isinstance(layer, nn.AdaptiveAvgPool2d) else nn.AdaptiveMaxPool3d
        return adaptive((1, *_pair(layer.output_size)))
    if isinstance(layer, nn.Dropout2d):
        return nn.Dropout3d(layer.p, layer.inplace)
    if type(layer).__name__.endswith(("2d", "Shuffle", "Unshuffle")) and not any(True for _ in layer.children()):
        raise ValueError(f"layer {name!r}: a {type(layer).__name__} cannot be inflated")
    return None


class InflatedConv3d(nn.Conv3d):
    """A convolution with inflated 2D filters; pads time with zeros or by repeating the first and last frame."""

    time_padding: TimePadding = "zeros"

    @classmethod
    def from_conv2d(
        cls, layer: nn.Conv2d, frames: int, stride: int, time_padding: TimePadding, name: str
    ) -> "InflatedConv3d":
        """Inflates `layer` with its weights."""
        if frames % 2 == 0:
            raise ValueError(f"layer {name!r}: filters of {frames} frames have no middle; choose an odd number")
        if layer.padding_mode != "zeros":
            raise ValueError(f"layer {name!r}: padding_mode={layer.padding_mode!r} cannot be inflated")
        sizes: dict[str, Any] = {
            "kernel_size": (frames, *layer.kernel_size),
            "stride": (stride, *layer.stride),
            "padding": ((frames - 1) // 2, *_resolved_padding(layer)),
            "dilation": (1, *layer.dilation),
        }
        placement: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        bias = layer.bias is not None
        inflated = cls(layer.in_channels, layer.out_channels, **sizes, groups=layer.groups, bias=bias, **placement)
        inflated.time_padding = time_padding
        with torch.no_grad():
            inflated.weight.copy_(inflate_filters(layer.weight, frames))
            if layer.bias is not None:
                cast(Tensor, inflated.bias).copy_(layer.bias)
        return inflated

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, T, H, W) to (N, D, T', H', W')."""
        padding = cast(tuple[int, ...], self.padding)
        amount = padding[0]
        if self.time_padding == "replicate" and amount:
            input = torch.cat([*[input[:, :, :1]] * amount, input, *[input[:, :, -1:]] * amount], dim=2)
            padding = (0, *padding[1:])
        return convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def _inflated_norm(layer: nn.BatchNorm2d) -> nn.BatchNorm3d:
    inflated = nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    reference = layer.weight if layer.affine else layer.running_mean
    if reference is not None:
        inflated.to(reference)  # before the state is loaded, which would be rounded to float32
    inflated.load_state_dict(layer.state_dict())
    for name, parameter in layer.named_parameters():
        inflated.get_parameter(name).requires_grad_(parameter.requires_grad)
    return inflated


def _resolved_padding(layer: nn.Conv2d) -> tuple[int, ...]:
    """The padding as numbers, also for `valid` and `same`."""
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        return tuple(step * (size - 1) // 2 for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
    return cast(tuple[int, ...], layer.padding)


def _pair(size: "int | tuple[int | None, ...] | None") -> tuple[int, int]:
    return cast(tuple[int, int], tuple(size) if isinstance(size, (tuple, list)) else (size, size))
