"""Checkpoint hooks: saving a network's class and arguments beside its weights, and safe loading.

Only plain data, tensors, and classes from allowed packages are loaded; nothing in a checkpoint is executed.
"""

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch

from lightning_modules.layers.parameter_sharding import class_before_sharding
from lightning_modules.weights.checkpoint_file import public_class_path, read_checkpoint
from lightning_modules.weights.pretrained import Weights, constructor_arguments, load_pretrained, read_weights

_ALLOWED_PACKAGES = ("lightning_modules",)


class CheckpointHooks(pl.LightningModule):
    """Base class of networks whose checkpoints contain what is needed to construct them.

    Attributes:
        class_names: class names in label order; empty if there are no classes.
        num_classes: K.
        trained_before: fingerprints of the training videos of each training that led to the initial weights, see
            `datamodules.leakage.training_fingerprint`; None for a training whose videos are not known.
    """

    class_names: list[str]
    num_classes: int
    trained_before: Sequence[dict[str, torch.Tensor] | None] = ()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the class and its arguments as plain data, from which `load` constructs the network."""
        arguments = {name: value for name, value in self.hparams.items() if not name.startswith("_")}
        arguments |= {"class_names": self.class_names, "num_classes": self.num_classes}
        class_path = public_class_path(class_before_sharding(self))
        checkpoint["classifier"] = {"class_path": class_path, "init_args": plain_data(arguments)}
        checkpoint["trained_before"] = list(self.trained_before)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores `trained_before` in a resumed run."""
        self.trained_before = checkpoint.get("trained_before", [])

    def load_initial_weights(self, weights: str) -> None:
        """Loads the weights of a published name or a file, and its classifier if that fits.

        Raises:
            FileNotFoundError: no such file.
            OSError: the download of a published file failed.
            ValueError: weights of another network, or keys that do not match, each listed.
        """
        read = read_weights(weights)
        self.trained_before = load_pretrained(self, read, self.keeps_classifier_of(read))

    def keeps_classifier_of(self, weights: Weights) -> bool:
        """Whether the classifier of weights has this network's number of classes and task."""
        task = self.hparams.get("task", "single_label")
        same_task: bool = weights.init_args.get("task", "single_label") == task
        return same_task and weights.init_args.get("num_classes") == self.num_classes

    @classmethod
    def load(cls, path: str | Path, allow: Sequence[str] = ()) -> Self:
        """Loads a checkpoint as the class that was trained, in evaluation mode on the CPU.

        Only plain data and tensors are unpickled, and only this project's and allowed classes are imported.

        Args:
            path: path of a checkpoint that `fit` wrote, or of a folder that `publish` wrote, or `hf://ORG/NAME[@REVISION]`.
            allow: packages or modules that model classes may come from, besides `lightning_modules`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a checkpoint of `fit`, a class that is not allowed or not a `cls`, or weights that do not
                match, each listed.
        """
        return cls.from_checkpoint(read_checkpoint(path), str(path), allow)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, num_classes: int | None = None, allow: Sequence[str] = (), **init_args: Any
    ) -> Self:
        """Constructs a network with the weights of a published checkpoint or of a file.

        I3D also takes the weights of a 2D Inception, which are inflated.

        Args:
            name_or_path: a name listed by `python -m pipeline weights list`; the path of a file that `fit` wrote or
                that has a known naming, or of a folder that `publish` wrote; or `hf://ORG/NAME[@REVISION]`, such a
                folder on the Hugging Face Hub.
            num_classes: number of classes; if it differs from the checkpoint's, the classifier is new; None keeps the
                checkpoint's.
            allow: packages or modules that model classes may come from, besides `lightning_modules`.
            **init_args: arguments of the class that override the checkpoint's.

        Raises:
            FileNotFoundError: no such file.
            OSError: the download of a published file failed.
            ValueError: weights of another network, or keys that do not match, each listed.
        """
        weights = read_weights(name_or_path)
        network_class: type[Any] = _trained_class(weights.class_path, weights.path, allow, CheckpointHooks)
        if not issubclass(network_class, cls):
            network_class = cls
        arguments, keep_head = constructor_arguments(weights, network_class, num_classes)
        model = network_class(**arguments | init_args)
        model.trained_before = load_pretrained(model, weights, keep_head)
        trained: Self = model.eval()
        return trained

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], path: str, allow: Sequence[str] = ()) -> Self:
        """Constructs the network of a checkpoint that `read_checkpoint` returned; `path` is for error messages."""
        network_class: type[Any] = _trained_class(checkpoint["classifier"]["class_path"], path, allow, CheckpointHooks)
        if not issubclass(network_class, cls):
            raise ValueError(f"{path}: a checkpoint of {network_class.__name__}, not of {cls.__name__}")
        try:
            model = network_class(**checkpoint["classifier"]["init_args"])
        except TypeError as error:
            raise ValueError(
                f"{path}: its arguments do not fit {network_class.__name__} here, was it trained by another version? "
                f"({error})"
            ) from error
        try:
            model.load_state_dict(checkpoint["state_dict"], strict=True)
        except RuntimeError as error:  # torch lists every key
            raise ValueError(f"{path}: the weights do not fit {network_class.__name__}: {error}") from error
        trained: Self = model.eval()
        return trained


def has_argument(network_class: type, name: str) -> bool:
    """Whether the constructor of a class, or of one that it inherits from, has an argument of this name."""
    return any(name in inspect.signature(ancestor).parameters for ancestor in network_class.__mro__[:-1])


def _trained_class(class_path: str, path: str, allow: Sequence[str], base_class: type) -> type:
    """Imports the class that a checkpoint names.

    Args:
        class_path: module and name of the class.
        path: path of the checkpoint, for messages.
        allow: packages or modules that the class may come from, besides `lightning_modules`.
        base_class: the required base class.

    Raises:
        ValueError: the class is not allowed, cannot be imported, or is not a subclass of `base_class`.
    """
    module, _, name = class_path.rpartition(".")
    if not any(module == trusted or module.startswith(f"{trusted}.") for trusted in (*_ALLOWED_PACKAGES, *allow)):
        raise ValueError(f"{path}: trained as {class_path}; to import it, allow its module {module!r} by name")
    try:
        network_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}: trained as {class_path}, which cannot be imported here: {error}") from error
    if not (isinstance(network_class, type) and issubclass(network_class, base_class)):
        raise ValueError(f"{path}: {class_path} is not a {base_class.__name__}")
    return network_class


def plain_data(value: Any) -> Any:
    """The value converted to lists, dicts and scalars, which load with `weights_only=True`."""
    if isinstance(value, dict):
        return {str(name): plain_data(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
