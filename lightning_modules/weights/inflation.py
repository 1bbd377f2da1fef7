"""Inflation: a 2D network becomes a 3D one that gives the same on a video in which nothing moves.

Carreira, Zisserman: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, section 2.4:
filters N x N become N x N x N, their weights repeated N times over time and divided by N; so on a video that repeats
one frame, every layer answers as the 2D layer does on the frame. That holds away from the first and last frames, where
time is padded with black ones, and everywhere where it is padded by repeating them (`replicate`).
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_modules.layers.inception_layers import TimePadding
from lightning_modules.layers.onednn_convolution import convolve

Frames = Callable[[str, nn.Module], int]


def inflate_filters(weight: Tensor, num_frames: int) -> Tensor:
    """Filters (D, C, h, w) to (D, C, num_frames, h, w), repeated and divided: their sum over time is as before."""
    return weight.unsqueeze(2).repeat(1, 1, num_frames, 1, 1) / num_frames


def deflate_filters(weight: Tensor) -> Tensor:
    """Filters (D, C, T, h, w) to (D, C, h, w), summed over time: what they do to a video in which nothing moves."""
    return weight.sum(2)


def inflate_weights(
    state: Mapping[str, Tensor], target: nn.Module, rename: Callable[[str], str] = str
) -> dict[str, Tensor]:
    """The weights of a 2D network for a 3D network of the same layers.

    Args:
        state: of the 2D network.
        target: the 3D network; says how many frames its filters have.
        rename: a 2D key to its 3D key.

    Returns:
        A state dict that `target` takes strictly: filters inflated; biases and batch norms as they are.

    Raises:
        ValueError: a key that only one of the two has, or whose shapes do not belong together; all of them named.
    """
    wanted = target.state_dict()
    inflated: dict[str, Tensor] = {}
    wrong = []
    for key, value in state.items():
        into = wanted.get(rename(key))
        if into is not None and value.ndim == 4 and into.ndim == 5:
            value = inflate_filters(value, into.shape[2])
        if into is None or value.shape != into.shape or rename(key) in inflated:
            wrong.append(key)
        else:
            inflated[rename(key)] = value.to(into.dtype)
    wrong += [key for key in wanted if key not in inflated]
    if wrong:
        named = ", ".join(dict.fromkeys(wrong))
        raise ValueError(f"the 2D weights cannot be inflated into {type(target).__name__}: {named} do not match")
    return inflated


def _cube(name: str, layer: nn.Module) -> int:
    """N x N becomes N x N x N; a filter of unlike sides takes the smaller one."""
    return min(cast(nn.Conv2d, layer).kernel_size)


def _one(name: str, layer: nn.Module) -> int:
    return 1


def inflate_network(
    network: nn.Module,
    filter_frames: Frames = _cube,
    pooling_frames: Frames = _one,
    time_stride: Frames = _one,
    time_padding: TimePadding = "zeros",
) -> nn.Module:
    """Any 2D network of convolutions, poolings and batch norms as a 3D one, with its weights inflated.

    Layers keep their names. What a network computes outside of its layers must not depend on the number of axes:
    `torch.flatten(x, 1)` and `torch.cat(..., 1)` do not, `x.mean((2, 3))` does.

    Args:
        network: takes (N, C, H, W); is left as it is.
        filter_frames: frames of a convolution's filters, an odd number, by the layer's name and itself.
        pooling_frames: frames of a pooling's window.
        time_stride: frames from one place of a convolution or pooling to the next; 1 keeps the number of frames.
        time_padding: how convolutions pad time: with black frames, or (`replicate`) with the first and last one.

    Returns:
        A network that takes (N, C, T, H, W), in the mode of `network`.

    Raises:
        ValueError: a layer that cannot be inflated, or filters of an even number of frames; named.
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
    filter_frames: Frames,
    pooling_frames: Frames,
    time_stride: Frames,
    padding: TimePadding,
) -> nn.Module | None:
    """The 3D layer; None for what has no axes of space."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd) or type(layer).__name__.endswith(("Pad2d", "Upsample")):
        raise ValueError(f"layer {name!r}: a {type(layer).__name__} cannot be inflated")
    if isinstance(layer, nn.Conv2d):
        return InflatedConv3d.of(layer, filter_frames(name, layer), time_stride(name, layer), padding, name)
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
        # Time is not padded: an average over padding would not be that of the frame.
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
    """A convolution whose filters came from 2D; pads time with black frames or by repeating the first and last one."""

    time_padding: TimePadding = "zeros"

    @classmethod
    def of(cls, layer: nn.Conv2d, frames: int, stride: int, time_padding: TimePadding, name: str) -> "InflatedConv3d":
        """The inflation of `layer`, with its weights."""
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
        like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        bias = layer.bias is not None
        inflated = cls(layer.in_channels, layer.out_channels, **sizes, groups=layer.groups, bias=bias, **like)
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
    inflated.load_state_dict(layer.state_dict())
    for name, parameter in layer.named_parameters():
        inflated.get_parameter(name).requires_grad_(parameter.requires_grad)
    reference = layer.weight if layer.affine else layer.running_mean
    return inflated if reference is None else inflated.to(reference)


def _resolved_padding(layer: nn.Conv2d) -> tuple[int, ...]:
    """The padding in numbers, where it may be `valid` or `same`."""
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        return tuple(step * (size - 1) // 2 for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
    return cast(tuple[int, ...], layer.padding)


def _pair(size: "int | tuple[int | None, ...] | None") -> tuple[int, int]:
    return cast(tuple[int, int], tuple(size) if isinstance(size, (tuple, list)) else (size, size))
