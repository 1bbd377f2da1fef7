"""Safe loading of files that torch saved: plain data and tensors only, with an explanation of every refusal.

Nothing in a file is executed. torch's own error messages are long, and advise to trust the file.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

_URL = re.compile(r"\w\w+:/")  # `Path` turns two slashes into one
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL (\S+) was not an allowed global")
_ZIP, _PICKLE = b"PK", b"\x80"


def load_plain(path: str | Path, description: str, mmap: bool = False, verify: bool = True) -> Any:
    """Loads a file onto the CPU with `weights_only=True`, and verifies its checksums, which torch does not.

    Args:
        path: path of the file.
        description: description of the file in errors, such as `checkpoint 'last.ckpt'`.
        mmap: whether to map tensors into memory, so that they are read on access.
        verify: whether to read the whole file, and compare every part with its CRC-32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, or a file that is empty, truncated, not torch's or has more than plain data and tensors.
    """
    require_file(path, description)
    archive = zipfile.is_zipfile(path)  # otherwise a file of torch before 1.6 (2020), without checksums
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and archive)
    except Exception as error:  # torch raises many types: pickle's, zip's, its own
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{description}: {_explain_load_error(Path(path), error)}") from error
    if archive and verify:
        with zipfile.ZipFile(path) as parts:
            damaged_part = parts.testzip()
        if damaged_part is not None:
            raise ValueError(
                f"{description}: the file is damaged, {damaged_part} is not as it was written; copy it again"
            )
    return content


def require_file(path: str | Path, description: str) -> None:
    """Raises FileNotFoundError if there is no such file, and ValueError for a folder."""
    if Path(path).is_dir():
        raise ValueError(f"{description}: is a folder{_explain_folder(Path(path))}")
    if not Path(path).is_file():
        hint = "; a checkpoint at a URL has to be copied to this machine first" if _URL.match(str(path)) else ""
        if Path(path).is_symlink():
            hint = f"; it is a link to {str(Path(path).readlink())!r}, which is not there"
        raise FileNotFoundError(f"{description}: no such file{hint}")


def _explain_folder(folder: Path) -> str:
    """Explains what a folder lacks to be opened as a checkpoint, or which checkpoint in it can be."""
    inside = sorted(folder.glob("*.ckpt")) or sorted(folder.glob("*/*.ckpt"))
    if inside and inside[-1].name == "content.ckpt":  # of a checkpoint in shards
        return f"; give the folder in it, such as {inside[-1].parent}"
    if inside:
        return f"; give the file in it, such as {inside[-1]}"
    if any(folder.glob("shards-*")):
        return " of shards without content.ckpt, which is written last: its save did not end; give another checkpoint"
    return (
        " without a checkpoint: it has no .ckpt file (of `fit`), no content.ckpt (of a checkpoint in shards), no "
        "config.json with model.safetensors (of `publish`), and no model.json (of `export`)"
    )


def _is_torch_archive(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _explain_load_error(path: Path, error: Exception) -> str:
    """Explains why a file could not be loaded, and what to do."""
    with path.open("rb") as file:
        head = file.read(2)
    if not head:
        return "the file is empty; give a checkpoint that `fit` wrote"
    if head == _ZIP and not zipfile.is_zipfile(path):
        return "the file is cut off or damaged; copy it again from where it came"
    if (head == _ZIP and not _is_torch_archive(path)) or (head != _ZIP and head[:1] != _PICKLE):
        return "this is no file that torch saved; give a checkpoint that `fit` wrote"
    if isinstance(error, pickle.UnpicklingError):
        forbidden = _FORBIDDEN_GLOBAL.search(str(error))
        example = f" (it asks for {forbidden[1]})" if forbidden else ""
        return (
            f"holds more than plain data and tensors{example}, and nothing of it was executed; save it again without "
            "that, on a machine where it can be trusted"
        )
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"cannot be read ({cause}); is it whole, and a checkpoint?"
