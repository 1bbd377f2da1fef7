"""What `--ckpt_path` names: read without trusting it and held against the configuration's model before all else.

LightningCLI reads the file by itself, for the model's arguments in it, and ends with a traceback where it cannot.
"""

import importlib
from pathlib import Path
from typing import Any

from lightning_modules import VideoNetwork
from lightning_modules.weights.checkpoint_file import is_ours
from lightning_modules.weights.safe_load import load_plain, refuse_no_file

_LIGHTNINGS_OWN = ("best", "last", "hpc", "registry")  # names that the Trainer resolves
_FOLDER_OF_SHARDS = "meta.pt"  # what Lightning's strategies that save in parts put there
_PARTS: dict[str, type] = {"pytorch-lightning_version": str, "state_dict": dict}
_PARTS_OF_MOST: dict[str, type] = {"hyper_parameters": dict, "callbacks": dict, "loops": dict, "optimizer_states": list}


def arguments_in(path: str, model: str | None, resumes: bool = False, trusted: bool = False) -> dict[str, Any]:
    """Checks a checkpoint, and gives what the configuration's `model` is to take over from it.

    Args:
        path: as given; what the Trainer resolves, what is not on this machine and checkpoints in parts pass unread.
        model: import path of the configuration's model, if it has one.
        resumes: training is to go on from it.
        trusted: the person has said `--weights_only false`: a file of more than plain data passes unread.

    Returns:
        The model's arguments as LightningCLI would add them; empty where the checkpoint tells none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, not a checkpoint of Lightning, one of more than plain data, or one of another model.
    """
    named = f"ckpt_path={path!r}"
    if not Path(path).exists() and ("://" in path or path.partition(":")[0] in _LIGHTNINGS_OWN):
        return {}
    if (Path(path) / _FOLDER_OF_SHARDS).is_file():
        return {}
    refuse_no_file(path, named)
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
    """Import path of the class that was trained, if the checkpoint says it."""
    if is_ours(content):
        return str(content["classifier"]["class_path"])
    told = content.get("hyper_parameters", {}).get("_class_path")
    return None if told is None else str(told)


def _refuse_another_model(told: str | None, model: str, named: str) -> None:
    module, _, name = model.rpartition(".")
    klass = getattr(importlib.import_module(module), name)  # that the configuration's parser has imported before
    if told is None and not (isinstance(klass, type) and issubclass(klass, VideoNetwork)):
        return  # a person's own, trained from Python: its arguments say more than its name
    if told not in (model, f"{klass.__module__}.{klass.__qualname__}"):
        theirs = "another model" if told is None else told.rpartition(".")[2]
        raise ValueError(
            f"{named} is a checkpoint of {theirs}, and the configuration's model is {name}: give one of {name}, or the "
            "configuration that it was trained with"
        )
