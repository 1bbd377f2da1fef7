"""Check of `--ckpt_path`: reads the file as untrusted data and compares it with the configured model.

LightningCLI itself reads the file for the model's hyperparameters, and ends with a traceback where it cannot.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

from lightning_modules import VideoNetwork
from lightning_modules.weights.checkpoint_file import is_own_checkpoint
from lightning_modules.weights.safe_load import load_plain, require_file
from lightning_modules.weights.sharded_checkpoint import content_file

_SPECIAL_VALUES = ("best", "last", "hpc", "registry")  # special values that the Trainer resolves
LINKED_ARGUMENTS = ("class_names", "task", "seed")  # arguments of a model that the data or the run determine
_SHARDED_MARKER = "meta.pt"  # written by Lightning's strategies that save sharded checkpoints
_REQUIRED_ENTRIES: dict[str, type] = {"pytorch-lightning_version": str, "state_dict": dict}
_OPTIONAL_ENTRIES: dict[str, type] = {
    "hyper_parameters": dict,
    "callbacks": dict,
    "loops": dict,
    "optimizer_states": list,
}


def read_model_arguments(
    path: str, model: str | None, resumes: bool = False, is_trusted: bool = False
) -> dict[str, Any]:
    """Checks a checkpoint and returns the model arguments that it holds.

    Args:
        path: value of `--ckpt_path`; special values, URIs and shards of Lightning's own strategies are not read.
        model: import path of the configured model; None if the configuration names no class.
        resumes: whether training resumes from the checkpoint, which then must hold the optimizer's state.
        is_trusted: whether `--weights_only false` was given: a file with pickled objects is then not checked.

    Returns:
        The model's arguments in the form that LightningCLI merges; empty if the checkpoint holds none.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, not a Lightning checkpoint, one with pickled objects, or one of another model.
    """
    option = f"ckpt_path={path!r}"
    if not Path(path).exists() and ("://" in path or path.partition(":")[0] in _SPECIAL_VALUES):
        return {}
    if (Path(path) / _SHARDED_MARKER).is_file():
        return {}
    file = content_file(path)
    require_file(file, option)
    try:
        content = load_plain(file, option, mmap=True)
    except ValueError as error:
        if is_trusted:
            return {}
        if "more than plain data" in str(error):
            raise ValueError(f"{error}, or give --weights_only false where you trust whoever wrote it") from error
        raise
    _refuse_other_files(content, option)
    if resumes and "optimizer_states" not in content:
        raise ValueError(
            f"{option} holds weights without the optimizer's state, from which no training goes on: start a new one "
            f"from them with --model.init_args.weights {path}"
        )
    class_path = _trained_class(content)
    arguments = {key: value for key, value in content.get("hyper_parameters", {}).items() if key != "_instantiator"}
    if model is not None:
        _refuse_other_model(class_path, model, option)
        arguments = _accepted_arguments(arguments, model)
    class_path = arguments.pop("_class_path", class_path)
    if not arguments:
        return {}
    return arguments if class_path is None else {"class_path": class_path, "dict_kwargs": arguments}


def _refuse_other_files(content: object, option: str) -> None:
    if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
        raise ValueError(f"{option} is not a checkpoint of Lightning: give one that `fit` wrote")
    for key, kind in {**_REQUIRED_ENTRIES, **_OPTIONAL_ENTRIES}.items():
        if (key in _REQUIRED_ENTRIES or key in content) and not isinstance(content.get(key), kind):
            raise ValueError(f"{option} is a checkpoint of Lightning without its {key}: give one that `fit` wrote")


def _trained_class(content: dict[str, Any]) -> str | None:
    """Import path of the trained class; None if the checkpoint does not record it."""
    if is_own_checkpoint(content):
        return str(content["classifier"]["class_path"])
    class_path = content.get("hyper_parameters", {}).get("_class_path")
    return None if class_path is None else str(class_path)


def _accepted_arguments(arguments: dict[str, Any], model: str) -> dict[str, Any]:
    """Leaves out linked arguments that the class does not have: Lightning saves every link as a hyperparameter."""
    parameters = inspect.signature(_imported(model).__init__).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return arguments
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in arguments.items() if name in names or name not in LINKED_ARGUMENTS}


def _imported(model: str) -> Any:
    """The class at an import path, which the configuration's parser has imported already."""
    module, _, name = model.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _refuse_other_model(class_path: str | None, model: str, option: str) -> None:
    model_class, name = _imported(model), model.rpartition(".")[2]
    if class_path is None and not (isinstance(model_class, type) and issubclass(model_class, VideoNetwork)):
        return  # a user's own module, trained from Python: only its arguments can be compared
    if class_path not in (model, f"{model_class.__module__}.{model_class.__qualname__}"):
        trained_name = "another model" if class_path is None else class_path.rpartition(".")[2]
        raise ValueError(
            f"{option} is a checkpoint of {trained_name}, and the configuration's model is {name}: give one of {name}, "
            "or the configuration that it was trained with"
        )
