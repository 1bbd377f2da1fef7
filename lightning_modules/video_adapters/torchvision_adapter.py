"""3D networks and video transformers of torchvision, taken apart into stages with the library's own layers.

r3d_18, mc3_18, r2plus1d_18: Tran, Wang, Torresani, Ray, LeCun, Paluri: "A Closer Look at Spatiotemporal Convolutions
for Action Recognition", CVPR 2018. s3d: Xie et al., ECCV 2018. mvit_v2_s: Li et al., CVPR 2022. swin3d_t: Liu et al.,
CVPR 2022. Written for torchvision 0.28.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.layers.stochastic_depth import depth_probabilities
from lightning_modules.video_adapters.network_description import NetworkDescription, NetworkParts
from lightning_modules.video_adapters.token_pooling import ClipShape, FirstToken, MeanPooling

# Frames of a clip and frames per second with which torchvision's documentation states the accuracies.
_CLIPS = {
    "r3d_18": (16, 15.0),
    "mc3_18": (16, 15.0),
    "r2plus1d_18": (16, 15.0),
    "s3d": (128, 15.0),
    "mvit_v2_s": (16, 7.5),
    "swin3d_t": (32, 15.0),
}
_RESIDUAL = ("r3d_18", "mc3_18", "r2plus1d_18")
_HEAD_SIZE = 64  # features of an attention head, as in ViT


def describe(library: Any, name: str, revision: str | None) -> NetworkDescription:
    """The description of a network by the metadata of its weights, which are not read.

    Args:
        library: the module `torchvision.models`.
        name: a name of `_CLIPS`.
        revision: name of the weights in torchvision, such as `KINETICS400_V1`; None for its default.

    Raises:
        ValueError: no such network or weights.
    """
    weights = find_weights(library, name, revision)
    preprocessing = weights.transforms()
    sides = list(preprocessing.resize_size)
    num_frames, fps = _CLIPS[name]
    return NetworkDescription(
        "torchvision",
        name,
        {"weights": weights.name},
        num_frames,
        preprocessing.crop_size[0],
        sides[0] if len(sides) == 1 else sides,
        1,
        fps,
        list(preprocessing.mean),
        list(preprocessing.std),
        list(weights.meta["categories"]),
    )


def find_weights(library: Any, name: str, revision: str | None) -> Any:
    """The entry of torchvision's table of weights.

    Raises:
        ValueError: no such network or weights.
    """
    if name not in _CLIPS:
        raise ValueError(f"network=torchvision:{name}: video networks of torchvision are {', '.join(_CLIPS)}")
    table = library.get_model_weights(name)
    if revision is None:
        return table.DEFAULT
    if revision not in table.__members__:
        raise ValueError(f"revision={revision!r}: torchvision's weights of {name} are {', '.join(table.__members__)}")
    return table[revision]


def load(library: Any, name: str, revision: str | None) -> nn.Module:
    """The network with its weights, which are downloaded unless they are in torch's cache.

    Raises:
        OSError: they cannot be downloaded.
    """
    weights = find_weights(library, name, revision)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(
            f"network=torchvision:{name}: its weights cannot be downloaded ({error}): {weights.url}"
        ) from error
    network: nn.Module = library.get_model(name, weights=None, num_classes=len(weights.meta["categories"]))
    network.load_state_dict(state)
    return network.eval()


def weights_file(library: Any, name: str, revision: str | None) -> Path:
    """The path of the weights in torch's cache."""
    url: str = find_weights(library, name, revision).url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def construct(
    library: Any, description: NetworkDescription, num_frames: int | None, crop_size: int | None
) -> nn.Module:
    """Constructs a network of random weights.

    Raises:
        ValueError: another length or size of clips than the network can have.
    """
    own = description.num_frames, description.crop_size
    if description.architecture == "mvit_v2_s" and (num_frames or own[0], crop_size or own[1]) != own:
        raise ValueError(f"num_frames={num_frames}, crop_size={crop_size}: mvit_v2_s takes {own[0]} and {own[1]} alone")
    network: nn.Module = library.get_model(description.architecture, weights=None)
    return network


def take_apart(network: Any, name: str) -> NetworkParts:
    """Takes a network apart.

    Args:
        network: the network of torchvision, whose layers the parts are.
        name: its name in torchvision.
    """
    if name in _RESIDUAL:
        layers = [network.layer1, network.layer2, network.layer3, network.layer4]
        return _parts(network.stem, layers, nn.Identity(), MeanPooling(), network.fc)
    if name == "s3d":
        first, *layers = network.features
        return _parts(first, layers, nn.Identity(), PairwiseMean(), network.classifier[1])
    if name == "swin3d_t":
        embed = nn.Sequential(network.patch_embed, network.pos_drop, ChannelsFirst())
        layers = [ChannelsLast(layer) for layer in network.features]
        return _parts(embed, layers, ChannelsLast(network.norm), MeanPooling(), network.head)
    blocks, grid = [], (network.pos_encoding.temporal_size, *network.pos_encoding.spatial_size)
    for block in network.blocks:
        blocks.append(MultiscaleLayer(block, grid))
        grid = _pooled_grid(block, grid)
    embed = nn.Sequential(ClipShape(16, 224), network.conv_proj, nn.Flatten(2), Transposition(), network.pos_encoding)
    return _parts(embed, blocks, network.norm, FirstToken(), network.head[1])


def _parts(
    embed: nn.Module, layers: Sequence[nn.Module], tokens: nn.Module, pooling: nn.Module, classifier: nn.Module
) -> NetworkParts:
    stages = {"embed": embed, **{f"layer_{number}": layer for number, layer in enumerate(layers, 1)}, "tokens": tokens}
    state = {key: value.flatten(1) if value.ndim > 2 else value for key, value in classifier.state_dict().items()}
    size = state["weight"].shape[1]
    return NetworkParts(stages, pooling, state, size, max(1, size // _HEAD_SIZE))


def _pooled_grid(block: Any, grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """Tokens in time, height and width after a block of MViT, whose queries may be pooled."""
    if block.attn.pool_q is None:
        return grid
    pool = block.attn.pool_q.pool
    sizes = zip(grid, pool.kernel_size, pool.stride, pool.padding, strict=True)
    time, height, width = ((size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in sizes)
    return time, height, width


def add_stochastic_depth(parts: NetworkParts, name: str, rate: float) -> None:
    """Sets the stochastic depth of the blocks, rising to `rate` in the last one.

    Raises:
        ValueError: a network without stochastic depth.
    """
    blocks = [
        module for stage in parts.stages.values() for module in stage.modules() if hasattr(module, "stochastic_depth")
    ]
    if not blocks:
        raise ValueError(f"drop_path={rate}: {name} has no stochastic depth; leave it out")
    for block, probability in zip(blocks, depth_probabilities(rate, len(blocks)), strict=True):
        block.stochastic_depth.p = probability  # type: ignore[union-attr]


class ChannelsLast(nn.Module):
    """A layer of Swin, which has the channels last, on features that have them first: (N, D, T, H, W)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, T, H, W) to (N, D', T', H', W')."""
        output: Tensor = self.layer(features.permute(0, 2, 3, 4, 1))
        return output.permute(0, 4, 1, 2, 3)


class ChannelsFirst(nn.Module):
    """(N, T, H, W, D) to (N, D, T, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, T, H, W, D) to (N, D, T, H, W)."""
        return features.permute(0, 4, 1, 2, 3)


class Transposition(nn.Module):
    """(N, D, L) to (N, L, D)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, D, L) to (N, L, D)."""
        return tokens.transpose(1, 2)


class MultiscaleLayer(nn.Module):
    """A block of MViT: tokens (N, L, D) to (N, L', D').

    Args:
        block: the block.
        grid: tokens in time, height and width, without the class token.
    """

    def __init__(self, block: nn.Module, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.block = block
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) to (N, L', D')."""
        output: Tensor = self.block(tokens, self.grid)[0]
        return output


class PairwiseMean(nn.Module):
    """S3D's pooling: means of pairs of neighboring time steps and all of space, then their mean: to (N, D)."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, D, T, H, W) to (N, D)."""
        window = tuple(min(size, most) for size, most in zip(features.shape[2:], (2, 7, 7), strict=True))
        return F.avg_pool3d(features, window, stride=1).mean((2, 3, 4))
