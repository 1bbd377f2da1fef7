"""Pretrained weights from published and own checkpoints: loaded safely, renamed, matched strictly.

    name ─▶ `fetch` ─▶ a file in the cache, checksum verified ┐
    path ─────────────────────────────────────────────────────┴▶ `read_weights` ─▶ keys ─▶ `load_pretrained`: strict

Only tensors and arrays are unpickled.
"""

import importlib.resources
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from datamodules.batch import STREAM_CHANNELS
from lightning_modules.layers.input_channels import average_input_filters
from lightning_modules.weights.checkpoint_file import (
    is_own_checkpoint,
    public_class_path,
    read_checkpoint,
    training_fingerprints,
)
from lightning_modules.weights.download import fetch, find_published
from lightning_modules.weights.inflation import deflate_filters, inflate_weights
from lightning_modules.weights.key_mapping import FRAME_ENCODER, I3D, INCEPTION_V1, find_key_mapping, state_from_flax
from lightning_modules.weights.model_repository import find_repository
from lightning_modules.weights.published_checkpoints import PublishedWeights
from lightning_modules.weights.safe_load import require_file
from lightning_modules.weights.sharded_checkpoint import content_file
from lightning_modules.weights.weight_files import read_content, without_wrappers

# Arguments that change the meaning of the weights.
_WEIGHT_ARGUMENTS = ("encoder", "padding", "bn_scale", "in_channels", "mean", "std", "width", "batch_norm")

_OF_CHANNELS = ("in_channels", "mean", "std")
_FLOW_CHANNELS = STREAM_CHANNELS["flow"]


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint of any origin, and its description of the network.

    Attributes:
        path: path of the file.
        class_path: class of the network.
        init_args: arguments of the network, with `num_classes` if the file has a classifier.
        state: state dict, with the keys below `stages`.
        head: prefix of the classifier's keys.
        class_names: class names in label order, if known.
        published: the entry in the table of published checkpoints, if there is one.
        trained_on: fingerprints of the training videos, of this training and those before it, as the data module saved
            them in the checkpoint; None for a training whose videos are not known.
    """

    path: str
    class_path: str
    init_args: Mapping[str, Any]
    state: Mapping[str, Tensor]
    head: str
    class_names: list[str] | None
    published: PublishedWeights | None = None
    trained_on: tuple[dict[str, Tensor] | None, ...] = (None,)


def read_weights(name_or_path: str | Path) -> Weights:
    """Reads the weights of a published checkpoint, by name, of a file of known naming or of `fit`, or of a repository.

    Raises:
        FileNotFoundError: neither a file nor a published name.
        OSError: the download of the published file failed.
        ValueError: not a checkpoint, or one with unknown keys, each listed.
    """
    published = None
    path = Path(name_or_path)
    repository = find_repository(path)
    if repository is not None:
        return _weights_of_checkpoint(read_checkpoint(repository), str(path))
    if not content_file(path).is_file():
        if path.suffix or len(path.parts) > 1 or path.is_dir():
            require_file(path, f"weights {str(name_or_path)!r}")
        published = find_published(str(name_or_path))
        path = fetch(published)
    content = read_content(path)
    if is_own_checkpoint(content):
        return _weights_of_checkpoint(content, str(path))
    if "params" in content and "batch_stats" in content:
        content = state_from_flax(content, str(path))
    state = without_wrappers(content)
    mapping = find_key_mapping(state, str(path))
    non_tensors = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if non_tensors:
        raise ValueError(f"{path}: looks like {mapping.name}, but {', '.join(non_tensors[:3])} are no tensors")
    renamed = mapping.rename(state, str(path))
    init_args = {**mapping.init_args, **(published.init_args if published else {})}
    heads = [value for key, value in renamed.items() if key.startswith(mapping.head) and key.endswith(".weight")]
    if heads:
        init_args["num_classes"] = len(heads[0])
    if mapping.head == "Logits.":
        first = next(value for key, value in renamed.items() if key.startswith("Conv") and value.ndim > 1)
        if first.shape[1] != 3:
            init_args["in_channels"] = first.shape[1]
            init_args = {name: value for name, value in init_args.items() if name not in ("mean", "std")}  # of RGB
    names = read_labels(published.labels) if published and published.labels else None
    return Weights(str(path), mapping.class_path, init_args, renamed, mapping.head, names, published)


def read_labels(name: str) -> list[str]:
    """Reads a list of class names that is part of the package, in label order."""
    text = (importlib.resources.files("lightning_modules") / "labels" / name).read_text(encoding="utf-8")
    return text.splitlines()


def _weights_of_checkpoint(checkpoint: Mapping[str, Any], path: str) -> Weights:
    description = checkpoint["classifier"]
    state = {key.removeprefix("stages."): value for key, value in checkpoint["state_dict"].items()}
    state = {key: value for key, value in state.items() if "_metrics." not in key}
    if not state:
        raise ValueError(f"weights {path!r}: holds no weights by name")
    head = list(state)[-1].split(".")[0] + "."
    names = list(description["init_args"].get("class_names") or ())
    return Weights(
        path,
        description["class_path"],
        description["init_args"],
        state,
        head,
        names,
        trained_on=training_fingerprints(checkpoint),
    )


def constructor_arguments(weights: Weights, klass: type, num_classes: int | None) -> tuple[dict[str, Any], bool]:
    """Arguments with which `klass` fits the weights, and whether the weights' classifier is kept.

    Raises:
        ValueError: the file has no classifier, and `num_classes` for a new one is not given.
    """
    arguments = dict(weights.init_args)
    own_num_classes = arguments.get("num_classes")
    if own_num_classes is None and num_classes is None:
        raise ValueError(f"{weights.path}: holds no classifier; give num_classes for a new one")
    keep_head = num_classes in (None, own_num_classes)
    arguments["num_classes"] = num_classes or own_num_classes
    arguments["class_names"] = weights.class_names if keep_head else None
    parameters = {
        name for base in klass.__mro__ for name in inspect.signature(vars(base).get("__init__", object)).parameters
    }
    return {name: value for name, value in arguments.items() if name in parameters}, keep_head


def load_pretrained(model: nn.Module, weights: Weights, keep_head: bool) -> list[dict[str, Tensor] | None]:
    """Loads weights into a network strictly; 2D weights of an Inception-v1 are inflated for an I3D.

    In a network for optical flow, the first filters of weights for RGB are averaged over the channels.

    Args:
        model: a `VideoClassifier`, of the class that the weights belong to.
        weights: the weights from `read_weights`.
        keep_head: whether to load the classifier too; otherwise it alone keeps its initialization.

    Returns:
        Fingerprints of the videos that the weights were trained on: `CheckpointHooks.trained_before`.

    Raises:
        ValueError: weights of another network; network arguments under which the weights have another meaning; keys
            that are missing, unexpected or of other shapes, each listed.
    """
    own_class = public_class_path(type(model))
    inflated = (weights.class_path, own_class) == (INCEPTION_V1, I3D)
    if own_class != weights.class_path and not inflated:
        raise ValueError(f"{weights.path}: weights of {weights.class_path}, not of {own_class}")
    stages = cast(nn.Module, model.stages)
    _check_arguments(model, weights)
    state = dict(weights.state)
    if _is_flow_from_rgb(model, weights):
        state = average_input_filters(state, _FLOW_CHANNELS)
    if not keep_head:
        state = {key: value for key, value in state.items() if not key.startswith(weights.head)}
        state |= {key: value for key, value in stages.state_dict().items() if key.startswith(weights.head)}
    try:
        if inflated:
            state = inflate_weights(state, stages, lambda key: key.replace("Conv2d_", "Conv3d_"))
        stages.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as error:  # torch lists every key
        raise ValueError(f"{weights.path}: the weights do not fit: {' '.join(str(error).split())}") from None
    return list(weights.trained_on)


def load_encoder(encoder: nn.Module, weights: Weights, model: nn.Module) -> None:
    """Loads weights into the 2D network of a network of frame features, strictly.

    Args:
        encoder: the 2D network.
        weights: the weights from `read_weights`: of a network with the same 2D network, or for an Inception-v1 of a
            classifier of single frames, or of an I3D, whose filters are summed over time.
        model: the network that the 2D network is part of, whose arguments are compared with those of the weights.

    Raises:
        ValueError: weights of another network, or of one with other arguments; keys that do not match, each listed.
    """
    name = cast(Mapping[str, Any], model.hparams)["encoder"]
    state = _encoder_state(weights)
    is_inception = weights.class_path in (INCEPTION_V1, I3D)
    if not state or is_inception != (is_inception and name == "inception_v1"):
        raise ValueError(f"{weights.path}: weights of {weights.class_path}, which do not fit encoder={name!r}")
    _check_arguments(model, weights)
    if _is_flow_from_rgb(model, weights):
        state = average_input_filters(state, _FLOW_CHANNELS)
    try:
        encoder.load_state_dict(state, strict=True)
    except RuntimeError as error:  # torch lists every key
        raise ValueError(f"{weights.path}: the weights do not fit: {' '.join(str(error).split())}") from None


def _encoder_state(weights: Weights) -> dict[str, Tensor]:
    """The state dict of the 2D network in weights of a network of frame features, an Inception-v1 or an I3D."""
    if weights.class_path not in (INCEPTION_V1, I3D):
        return {
            key.removeprefix(FRAME_ENCODER): value
            for key, value in weights.state.items()
            if key.startswith(FRAME_ENCODER)
        }
    return {
        f"stages.{key.replace('Conv3d_', 'Conv2d_')}": deflate_filters(value) if value.ndim == 5 else value
        for key, value in weights.state.items()
        if not key.startswith(weights.head)
    }


def _is_flow_from_rgb(model: nn.Module, weights: Weights) -> bool:
    """Whether a network for optical flow gets weights of one for RGB."""
    channels = cast(Mapping[str, Any], model.hparams).get("in_channels", 3)
    return bool(channels == _FLOW_CHANNELS) and weights.init_args.get("in_channels", 3) == STREAM_CHANNELS["rgb"]


def _check_arguments(model: nn.Module, weights: Weights) -> None:
    arguments = cast(Mapping[str, Any], model.hparams)
    adapted = _OF_CHANNELS if _is_flow_from_rgb(model, weights) else ()
    shared = [name for name in _WEIGHT_ARGUMENTS if name in weights.init_args and name in arguments]
    shared = [name for name in shared if name not in adapted]
    wrong = [
        f"{name}={weights.init_args[name]!r} (here {arguments[name]!r})"
        for name in shared
        if (
            _is_other_encoder(arguments, weights.init_args)
            if name == "encoder"
            else _differs(arguments[name], weights.init_args[name])
        )
    ]
    if wrong and wrong[0].startswith("encoder="):  # on which mean and std depend
        raise ValueError(f"{weights.path}: the weights want {wrong[0]}; set encoder so, or give other weights")
    if wrong:
        raise ValueError(f"{weights.path}: the weights want {', '.join(wrong)}; set the model's arguments so")


def _is_other_encoder(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two networks have different frame encoders; one of another library is compared by its description."""
    descriptions = [arguments.get("encoder_config") for arguments in (first, second)]
    if all(descriptions):
        facts = [(d["library"], d["name"], d["configuration"]) for d in descriptions if d is not None]
        return facts[0] != facts[1]
    return bool(first["encoder"] != second["encoder"])


def _differs(first: Any, second: Any) -> bool:
    if isinstance(first, (tuple, list)) and isinstance(second, (tuple, list)):
        return list(first) != list(second)
    return bool(first != second)
