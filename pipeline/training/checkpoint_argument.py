"""Check of `--ckpt_path`: reads the file as untrusted data and compares it with the configured model.

LightningCLI itself reads the file for the model's hyperparameters, and ends with a traceback where it cannot.
"""

import importlib
from pathlib import Path
from typing import Any

from lightning_modules import VideoNetwork
from lightning_modules.weights.checkpoint_file import is_own_checkpoint
from lightning_modules.weights.safe_load import load_plain, require_file

_LIGHTNINGS_OWN = ("best", "last", "hpc", "registry")  # special values that the Trainer resolves
_FOLDER_OF_SHARDS = "meta.pt"  # written by Lightning's strategies that save sharded checkpoints
_PARTS: dict[str, type] = {"pytorch-lightning_version": str, "state_dict": dict}
_PARTS_OF_MOST: dict[str, type] = {"hyper_parameters": dict, "callbacks": dict, "loops": dict, "optimizer_states": list}


def arguments_in(path: str, model: str | None, resumes: bool = False, trusted: bool = False) -> dict[str, Any]:
    """Checks a checkpoint and returns the model arguments that it holds.

    Args:
        path: value of `--ckpt_path`; special values, URIs and sharded checkpoints are not read.
        model: import path of the configured model; None if the configuration names no class.
        resumes: whether training resumes from the checkpoint, which then must hold the optimizer's state.
        trusted: whether `--weights_only false` was given: a file with pickled objects is then not checked.

    Returns:
        The model's arguments in the form that LightningCLI merges; empty if the checkpoint holds none.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, not a Lightning checkpoint, one with pickled objects, or one of another model.
    """
    named = f"ckpt_path={path!r}"
    if not Path(path).exists() and ("://" in path or path.partition(":")[0] in _LIGHTNINGS_OWN):
        return {}
    if (Path(path) / _FOLDER_OF_SHARDS).is_file():
        return {}
    require_file(path, named)
    try:
        content = load_plain(path, named, mmap=True)
    except ValueError as error:
        if trusted:
            return {}
        if "more than plain data" in str(error):
            raise ValueError(f"{error}, or say --weights_only false where you trust whoever wrote it") from error
        raise
    _refuse_what_is_no_checkpoint(content, named)
    if resumes and "optimizer_states" not in content:
        raise ValueError(
            f"{named} holds weights without the optimizer's state, from which no training goes on: start a new one "
            f"from them with --model.init_args.weights {path}"
        )
    told = _class_of(content)
    if model is not None:
        _refuse_another_model(told, model, named)
    arguments = {key: value for key, value in content.get("hyper_parameters", {}).items() if key != "_instantiator"}
    told = arguments.pop("_class_path", told)
    if not arguments:
        return {}
    return arguments if told is None else {"class_path": told, "dict_kwargs": arguments}


def _refuse_what_is_no_checkpoint(content: object, named: str) -> None:
    if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
        raise ValueError(f"{named} is not a checkpoint of Lightning: give one that `fit` wrote")
    for key, kind in {**_PARTS, **_PARTS_OF_MOST}.items():
        if (key in _PARTS or key in content) and not isinstance(content.get(key), kind):
            raise ValueError(f"{named} is a checkpoint of Lightning without its {key}: give one that `fit` wrote")


def _class_of(content: dict[str, Any]) -> str | None:
    """Import path of the trained class; None if the checkpoint does not record it."""
    if is_own_checkpoint(content):
        return str(content["classifier"]["class_path"])
    told = content.get("hyper_parameters", {}).get("_class_path")
    return None if told is None else str(told)


def _refuse_another_model(told: str | None, model: str, named: str) -> None:
    module, _, name = model.rpartition(".")
    klass = getattr(importlib.import_module(module), name)  # already imported by the configuration's parser
    if told is None and not (isinstance(klass, type) and issubclass(klass, VideoNetwork)):
        return  # a user's own module, trained from Python: only its arguments can be compared
    if told not in (model, f"{klass.__module__}.{klass.__qualname__}"):
        theirs = "another model" if told is None else told.rpartition(".")[2]
        raise ValueError(
            f"{named} is a checkpoint of {theirs}, and the configuration's model is {name}: give one of {name}, or the "
            "configuration that it was trained with"
        )
