"""Safe reading of pickles of numpy arrays: dicts, lists, tuples, numbers, strings and arrays, nothing else."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

_ALLOWED_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
# Modules of the numpy function that its pickles call: the first up to numpy 1.26, the second since 2.0.
_RECONSTRUCT = ("numpy.core.multiarray", "numpy._core.multiarray")


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name in _RECONSTRUCT and global_name == "_reconstruct":
            return _reconstruct
        if (module_name, global_name) in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[module_name, global_name]
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, and only arrays are admitted")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of the file")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Creates an empty array, which the pickle then fills; calls numpy's own function, for plain arrays only."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("only plain arrays are admitted")
    return np.ndarray(shape, np.dtype(code.decode() if isinstance(code, bytes) else code))


def read_arrays(path: str | Path) -> Any:
    """Reads a pickle that consists of dicts, lists, tuples, strings, numbers and plain numpy arrays.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a pickle, or one that has anything else; nothing in it was executed.
    """
    try:
        with Path(path).open("rb") as file:
            content = _ArrayUnpickler(file).load()
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle raises nearly any exception
        raise ValueError(f"{path}: cannot be read as a pickle of arrays: {error}") from error
    _refuse_objects(content, str(path))
    return content


def _refuse_objects(content: Any, path: str) -> None:
    if isinstance(content, dict):
        for key, value in content.items():
            _refuse_objects(key, path)
            _refuse_objects(value, path)
    elif isinstance(content, (list, tuple)):
        for value in content:
            _refuse_objects(value, path)
    elif isinstance(content, np.ndarray):
        if content.dtype.hasobject:
            raise ValueError(f"{path}: holds an array of objects; only arrays of numbers are admitted")
    elif not isinstance(content, (str, bytes, int, float, bool, type(None))):
        raise ValueError(f"{path}: holds a {type(content).__name__}; only arrays are admitted")
