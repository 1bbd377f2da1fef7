"""A checkpoint that `fit` wrote: opened without trust, what it was trained on, and the public name of its class.

Plain data and tensors alone are read, nothing is executed. A class is named by the shortest path that gives it, such as
`lightning_modules.C3D`: files may then move without making checkpoints unreadable.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_modules.weights.safe_load import load_plain


def trained_on(checkpoint: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor] | None, ...]:
    """What the training videos of a checkpoint are recognized by, then those of the trainings before it.

    Returns:
        For each training what the data module put there (`seen`), None where it did not.
    """
    told = [state["seen"] for state in checkpoint.values() if isinstance(state, dict) and "seen" in state]
    return (told[0] if told else None, *checkpoint.get("trained_before", ()))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint that `fit` wrote, trusting nothing in it: plain data and tensors only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of a `VideoNetwork`; the message says what it is and what to do.
    """
    checkpoint = load_plain(path, f"checkpoint {str(path)!r}")
    if not is_ours(checkpoint):
        raise ValueError(
            f"checkpoint {str(path)!r} was not written by `python -m pipeline fit` of a model of ours; weights of "
            "others are made into one with `python -m pipeline weights convert FILE`"
        )
    ours: dict[str, Any] = checkpoint
    return ours


def is_ours(content: object) -> bool:
    """Whether this is what `fit` saves of a `VideoNetwork`: its class, its arguments and its weights by name."""
    if not isinstance(content, dict) or not isinstance(content.get("classifier"), dict):
        return False
    told, weights = content["classifier"], content.get("state_dict")
    return (
        isinstance(told.get("class_path"), str)
        and isinstance(told.get("init_args"), dict)
        and isinstance(weights, dict)
        and all(isinstance(value, torch.Tensor) for value in weights.values())
    )


def public_class_path(klass: type) -> str:
    """The shortest dotted path that gives a class: of the outermost package that has it under its own name.

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
