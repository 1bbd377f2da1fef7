"""Upload of the user's modules from outside the folder of submit, such as an editable install: `py_modules`.

They are copied to the top of the upload, which is on the import path of the workers. Their dependencies are not
uploaded: packages from an index belong in the image of the cluster's nodes.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.submission.code_files import PACKAGES, code_files, copy_file


def copy_modules(names: Sequence[str], origin: Path, target: Path, exclude: Sequence[str] = ()) -> None:
    """Copy modules and packages into an upload.

    Args:
        names: Each a name that can be imported here, or the path of a .py file or of a package's folder.
        origin: The folder of submit, from which relative paths start.
        target: The folder of the upload.
        exclude: Patterns of files to leave out, relative to the folder of each package.

    Raises:
        FileNotFoundError: there is no such module.
        ValueError: a module is not Python code, has the name of one of our packages, or has a compiled extension.
    """
    for name in names:
        path = _module_path(name, origin)
        if path.stem in PACKAGES:
            raise ValueError(f"py_modules: {name!r} is one of the packages that travel anyway; leave it out")
        if path.is_file():
            copy_file(path, target / path.name)
            continue
        _refuse_compiled(path)
        for relative in code_files(path, exclude):
            copy_file(path / relative, target / path.name / relative)


def _refuse_compiled(package: Path) -> None:
    for path in package.rglob("*"):
        if path.suffix in (".so", ".pyd", ".dylib"):
            raise ValueError(
                f"py_modules: {package.name} has a compiled part ({path.relative_to(package)}), which may not run on "
                "other machines; install it on the cluster's nodes instead"
            )


def _module_path(name: str, origin: Path) -> Path:
    """The path of a module's .py file or of a package's folder."""
    if os.sep in name or name.endswith(".py") or (origin / name).exists():
        path = Path(os.path.normpath(origin / Path(name).expanduser()))
        if not path.exists():
            raise FileNotFoundError(f"py_modules: {name!r}: there is no such file or folder (looked in {origin})")
        if path.is_file() and path.suffix != ".py":
            raise ValueError(f"py_modules: {name!r}: must be a .py file or a package's folder")
        if path.is_dir() and not any(path.rglob("*.py")):
            raise ValueError(f"py_modules: {name!r}: there are no .py files in that folder")
        return path
    importlib.invalidate_caches()
    module_spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if module_spec is None:
        raise FileNotFoundError(
            f"py_modules: {name!r} can neither be imported by {sys.executable} nor is it a path in {origin}"
        )
    if module_spec.submodule_search_locations:
        return Path(next(iter(module_spec.submodule_search_locations)))
    if module_spec.origin is None or not module_spec.origin.endswith(".py"):
        raise ValueError(
            f"py_modules: {name!r} is not Python code that could travel ({module_spec.origin or 'no file'})"
        )
    return Path(module_spec.origin)
