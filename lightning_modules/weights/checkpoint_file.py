"""Checkpoint files of `fit`: safe loading, fingerprints of the training videos, and the class path.

Only plain data and tensors are loaded, nothing is executed. A class is recorded by the shortest path that imports it,
such as `lightning_modules.C3D`, so that checkpoints stay readable when files move.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_modules.weights.model_repository import find_repository, read_repository
from lightning_modules.weights.sharded_checkpoint import read_whole_checkpoint


def training_fingerprints(checkpoint: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor] | None, ...]:
    """Fingerprints of the training videos of a checkpoint, then those of the trainings that it started from.

    Returns:
        For each training the fingerprint that the data module saved (`seen`), None if it saved none.
    """
    fingerprints = [state["seen"] for state in checkpoint.values() if isinstance(state, dict) and "seen" in state]
    return (fingerprints[0] if fingerprints else None, *checkpoint.get("trained_before", ()))


def training_dataset(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Description of the training data of a checkpoint, as the data module saved it; empty if it did not."""
    states = [state for state in checkpoint.values() if isinstance(state, dict)]
    return next((dict(state["dataset"]) for state in states if isinstance(state.get("dataset"), dict)), {})


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint that `fit` wrote, or a model repository; only plain data and tensors are loaded.

    Args:
        path: file, folder of a sharded checkpoint or of a repository, or `hf://ORG/NAME[@REVISION]`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of a `VideoNetwork`; the message says what it is and what to do.
    """
    repository = find_repository(path)
    if repository is not None:
        return read_repository(repository)
    checkpoint = read_whole_checkpoint(path, f"checkpoint {str(path)!r}")
    if not is_own_checkpoint(checkpoint):
        raise ValueError(
            f"checkpoint {str(path)!r} was not written by `python -m pipeline fit` of a model of ours; weights of "
            "others are made into one with `python -m pipeline weights convert FILE`"
        )
    own_checkpoint: dict[str, Any] = checkpoint
    return own_checkpoint


def is_own_checkpoint(content: object) -> bool:
    """Whether an object has the form of a `VideoNetwork` checkpoint of `fit`: class, arguments and state dict."""
    if not isinstance(content, dict) or not isinstance(content.get("classifier"), dict):
        return False
    description, weights = content["classifier"], content.get("state_dict")
    return (
        isinstance(description.get("class_path"), str)
        and isinstance(description.get("init_args"), dict)
        and isinstance(weights, dict)
        and all(isinstance(value, torch.Tensor) for value in weights.values())
    )


def public_class_path(klass: type) -> str:
    """The shortest dotted path of a class: that of the outermost package that exports it under its own name.

    >>> from collections import OrderedDict
    >>> public_class_path(OrderedDict)
    'collections.OrderedDict'
    """
    packages = klass.__module__.split(".")
    for depth in range(1, len(packages)):
        package = ".".join(packages[:depth])
        if getattr(importlib.import_module(package), klass.__name__, None) is klass:
            return f"{package}.{klass.__name__}"
    return f"{klass.__module__}.{klass.__qualname__}"
