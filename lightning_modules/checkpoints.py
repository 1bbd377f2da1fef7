"""Reads what `fit` wrote, trusting nothing in it: plain data, tensors, and classes from packages that are allowed."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

_TRUSTED_PACKAGES = ("lightning_modules",)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint that `fit` wrote, trusting nothing in it: plain data and tensors only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of a `VideoNetwork`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {str(path)!r}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds: of pickle, of zip, its own
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {str(path)!r} cannot be read, is it whole and a checkpoint? ({cause})") from error
    if not isinstance(checkpoint, dict) or "classifier" not in checkpoint or "state_dict" not in checkpoint:
        raise ValueError(f"checkpoint {str(path)!r} was not written by `python -m pipeline fit` of a model of ours")
    return checkpoint


def trained_class(class_path: str, path: str, allow: Sequence[str], kind: type) -> type:
    """The class that a checkpoint names.

    Args:
        class_path: module and name.
        path: of the checkpoint, for messages.
        allow: packages or modules that it may come from, besides `lightning_modules`.
        kind: what it must be a subclass of.

    Raises:
        ValueError: not allowed, cannot be imported, or not of that kind.
    """
    module, _, name = class_path.rpartition(".")
    if not any(module == trusted or module.startswith(f"{trusted}.") for trusted in (*_TRUSTED_PACKAGES, *allow)):
        raise ValueError(f"{path}: trained as {class_path}; to import it, allow its module {module!r} by name")
    try:
        klass = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}: trained as {class_path}, which cannot be imported here: {error}") from error
    if not (isinstance(klass, type) and issubclass(klass, kind)):
        raise ValueError(f"{path}: {class_path} is not a {kind.__name__}")
    return klass


def plain(value: Any) -> Any:
    """The value as lists, dicts and scalars, which load with `weights_only=True`."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
