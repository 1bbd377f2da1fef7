"""Files of weights: state dicts of anyone's, checkpoints of `fit`, pickles of arrays and safetensors, read safely."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from lightning_modules.weights.checkpoint_file import is_own_checkpoint
from lightning_modules.weights.safe_load import load_plain, require_file
from lightning_modules.weights.safe_pickle import read_arrays
from lightning_modules.weights.sharded_checkpoint import content_file, is_sharded_checkpoint, read_whole_checkpoint

_STATE_DICTS = ("state_dict", "model")  # keys under which checkpoints have their state dict


def read_content(path: Path) -> dict[str, Any]:
    """Loads a state dict, also one under the key `state_dict` or `model`, a checkpoint of `fit`, or nested arrays.

    Args:
        path: a file that torch saved, a pickle of arrays, or safetensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one that has more than tensors and plain data.
    """
    content = _load_file(path)
    if isinstance(content, Mapping) and not is_own_checkpoint(content):
        content = _state_dict(content)
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        raise ValueError(f"weights {str(path)!r}: holds no weights by name")
    return dict(content)


def weight_names(path: Path) -> set[str]:
    """The names of the weights in a file, which are not read if they need not be.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one that has more than tensors and plain data.
    """
    if path.suffix != ".safetensors":
        content = load_plain(content_file(path), f"weights {str(path)!r}", mmap=True, verify=False)
        return set(_state_dict(content)) if isinstance(content, Mapping) else set()
    require_file(path, f"weights {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except SafetensorError as error:
        raise _no_safetensors(path, error) from error


def without_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the prefixes that DistributedDataParallel and frameworks put before a network's keys."""
    return {key.removeprefix("backbone.").removeprefix("module."): value for key, value in state.items()}


def _state_dict(content: Mapping[str, Any]) -> Any:
    """The state dict in a checkpoint of anyone's; the content itself if it is one."""
    return next((content[key] for key in _STATE_DICTS if isinstance(content.get(key), Mapping)), content)


def _load_file(path: Path) -> Any:
    if is_sharded_checkpoint(path):
        return read_whole_checkpoint(path, f"weights {str(path)!r}")
    require_file(path, f"weights {str(path)!r}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise _no_safetensors(path, error) from error
    if not zipfile.is_zipfile(path):  # torch before 1.6 (2020) wrote plain pickles, which begin with a number
        try:
            arrays = read_arrays(path)
        except ValueError:
            arrays = None
        if isinstance(arrays, Mapping):
            return arrays
    return load_plain(path, f"weights {str(path)!r}")


def _no_safetensors(path: Path, error: SafetensorError) -> ValueError:
    return ValueError(f"weights {str(path)!r}: no safetensors, or damaged ({error}); get the file again")
