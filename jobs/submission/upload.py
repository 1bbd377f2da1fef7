"""Upload of a job: a folder of code and configs that becomes Ray's working directory.

The rule, in full:

- From the folder where submit is called: code-like files (CODE_SUFFIXES, at most MAX_CODE_FILE_BYTES each), with their
  relative paths, so that the user's own modules can be imported. Left out: hidden files and folders, virtual
  environments, SKIPPED_FOLDERS unless they are Python packages, packed shards, names that look like secrets, and what
  the spec's `exclude` matches. The spec's `include` adds files of any kind, but for those that look like secrets.
- Our four packages, from wherever they are imported, and the modules and packages that `py_modules` names.
- Every config named on the command line (`--config PATH`, `-c PATH`, `--data PATH.yaml`, ...), from anywhere, and the
  YAML files that it refers to. In the arguments its path becomes `upload:RELATIVE`, so that editing the file after
  submit does not change the job.
- Every split file that an option names by a local path (`--split-file PATH`, `--data.split_file PATH`), likewise. One
  that a config names must be in the folder of submit, at a relative path; it is copied to the same path.
- All other relative paths, of data or of outputs, mean what they mean in the folder of submit: workers change to that
  folder where the node has it (the same machine, a shared file system), and stay in their copy otherwise.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from datamodules.splits.split_file import is_split_file_name
from jobs.ray_internals import max_upload_bytes
from jobs.spec.secret_scan import is_secret_file, refuse_secrets_in_file
from jobs.spec.upload_paths import UPLOAD_PREFIX
from jobs.submission.code_files import MAX_CODE_FILE_BYTES, PACKAGES, code_files, copy_file, is_excluded
from jobs.submission.py_modules import copy_modules
from pipeline.cli.config_files import describe_yaml_error

_ENTRY_BYTES = 30 + 46  # a zip's two headers of each file, besides its name in both
_END_BYTES = 22

CONFIG_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
CONFIG_FLAGS = ("--config", "-c", "--confi", "--conf", "--con", "--co")  # argparse takes its beginnings too


def stage_upload(
    args: Sequence[str],
    origin: Path,
    target: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    py_modules: Sequence[str] = (),
) -> list[str]:
    """Collect the upload of a job in a folder.

    Args:
        args: The command line of the job, such as ["fit", "--config", "my.yaml"].
        origin: The folder of submit.
        target: The folder to fill; empty.
        include: Patterns of further files, relative to `origin`; `**` crosses folders.
        exclude: Patterns of files and folders to leave out, relative to `origin`.
        py_modules: Names or paths of modules and packages from outside `origin`.

    Returns:
        The arguments, with `upload:RELATIVE` in place of each config and split file.

    Raises:
        FileNotFoundError: a config or a module is missing, or a pattern of `include` matches nothing.
        ValueError: there are too many files to search, the upload is too large (the message names the largest files),
            or a config holds a secret.
    """
    named = _NamedFiles(origin, target)
    rewritten = named.rewrite(args)  # first: a missing config is the commonest mistake
    for relative in code_files(origin, exclude):
        copy_file(origin / relative, target / relative)
    for pattern in include:
        if Path(pattern).is_absolute():
            raise ValueError(f"include={pattern}: must be relative to this folder, {origin}")
        matches = [path for path in sorted(origin.glob(pattern)) if path.is_file()]
        if not matches:
            raise FileNotFoundError(f"include: {pattern!r} matches no file in {origin}")
        for path in matches:
            relative = path.relative_to(origin)
            if is_secret_file(relative):
                print(f"note: {relative} stays behind: its name looks like that of a secret", file=sys.stderr)
            elif not is_excluded(relative, exclude):
                copy_file(path, target / relative)
    copy_modules(py_modules, origin, target, exclude)
    for package in PACKAGES:
        _copy_package(package, target)
    named.copy()
    check_size(target)
    return rewritten


class _NamedFiles:
    """The configs and split files that a command line names, and the path of each in the upload."""

    def __init__(self, origin: Path, target: Path) -> None:
        self._origin = origin
        self._target = target
        self._upload_paths: dict[Path, str] = {}
        self._split_files: set[Path] = set()
        self._has_split_option = False

    def rewrite(self, args: Sequence[str]) -> list[str]:
        """Replace the path of each config and split file in the arguments by `upload:RELATIVE`."""
        self._has_split_option = any(_is_split_option(arg.partition("=")[0]) for arg in args)
        rewritten: list[str] = []
        flag = ""  # the flag whose value comes next
        for arg in args:
            name, equals, value = arg.partition("=")
            if equals and name.startswith("-") and self._is_uploaded(name, value):
                rewritten.append(f"{name}={self._add_argument(value, name)}")
            elif flag and not arg.startswith("-") and self._is_uploaded(flag, arg):
                rewritten.append(self._add_argument(arg, flag))
            else:
                rewritten.append(arg)
            flag = arg if arg.startswith("-") and not equals else ""
        return rewritten

    def copy(self) -> None:
        """Copy all named files into the upload; ValueError if a config holds a secret."""
        for source, relative in self._upload_paths.items():
            copy_file(source, self._target / relative)
            if source not in self._split_files:
                refuse_secrets_in_file((self._target / relative).read_text(encoding="utf-8"), f"config={source}")

    def _is_uploaded(self, flag: str, value: str) -> bool:
        return self._is_config(flag, value) or self._is_split_file(flag, value)

    def _is_split_file(self, flag: str, value: str) -> bool:
        """Whether an option's value is the path of a split file that is here; on the nodes there may be others."""
        return _is_split_option(flag) and not is_split_file_name(value) and self._local_path(value).is_file()

    def _local_path(self, value: str) -> Path:
        return Path(os.path.normpath(self._origin / Path(value).expanduser()))

    def _is_config(self, flag: str, value: str) -> bool:
        """Whether an option's value is a config file: by its option (`--config X`), or an existing YAML file."""
        if flag in CONFIG_FLAGS:
            return not value.lstrip().startswith("{")  # YAML in place of a path is jsonargparse's right
        return Path(value).suffix in (".yaml", ".yml") and (self._origin / value).is_file()

    def _add_argument(self, value: str, flag: str) -> str:
        path = self._local_path(value)
        if not path.is_file():
            raise FileNotFoundError(f"{flag} {value}: there is no such file (looked in {self._origin})")
        if path not in self._upload_paths:
            folder = self._upload_folder(path)
            if self._is_split_file(flag, value):
                self._split_files.add(path)
                self._upload_paths[path] = os.path.normpath(f"{folder}/{path.name}")
            else:
                self._add(path, folder)
        return UPLOAD_PREFIX + self._upload_paths[path]

    def _upload_folder(self, path: Path) -> str:
        """The folder of a named file in the upload: its own relative path, or a new one if it is not in `origin`."""
        if path.is_relative_to(self._origin):
            return path.parent.relative_to(self._origin).as_posix()
        return f"named_from_outside/{len(self._upload_paths)}"

    def _add(self, path: Path, folder: str) -> None:
        """Add a config and the files that it refers to by relative paths, which stay valid in the upload."""
        self._upload_paths[path] = os.path.normpath(f"{folder}/{path.name}")
        for option, name in _named_texts(path):
            if _is_split_option(f"--{option}"):
                self._add_split_file_of(path, name)
            if Path(name).suffix not in CONFIG_SUFFIXES:
                continue
            referenced = Path(os.path.normpath(path.parent / name))
            if Path(name).is_absolute() or referenced in self._upload_paths or not referenced.is_file():
                continue
            if referenced.stat().st_size <= MAX_CODE_FILE_BYTES:
                relative = os.path.normpath(f"{folder}/{name}")
                if not relative.startswith(".."):
                    self._add(referenced, Path(relative).parent.as_posix())

    def _add_split_file_of(self, config: Path, value: str) -> None:
        """Add the split file that a config names, at the path it is named by, unless an option takes its place."""
        if self._has_split_option or not self._is_split_file("--split_file", value):
            return
        path = self._local_path(value)
        if Path(value).is_absolute() or value.startswith("~") or not path.is_relative_to(self._origin):
            raise ValueError(
                f"config={config}: split_file={value} is not at a relative path in {self._origin}, so that it cannot "
                f"travel with the job: give it as --data.init_args.split_file {value}"
            )
        self._split_files.add(path)
        self._upload_paths[path] = path.relative_to(self._origin).as_posix()


def _is_split_option(flag: str) -> bool:
    """Whether a flag is `--split-file`, or `--data.split_file` in any of its forms."""
    return flag.startswith("-") and flag.lstrip("-").rpartition(".")[2].replace("-", "_") == "split_file"


def _named_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield every string of a YAML file after the key that it is the value of, "" in lists."""
    try:
        pending: list[tuple[str, object]] = [("", yaml.safe_load(path.read_text(encoding="utf-8")))]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config={path}: not a YAML file: {describe_yaml_error(error)}") from None
    while pending:
        key, each = pending.pop()
        if isinstance(each, dict):
            pending.extend((str(name), value) for name, value in each.items())
        elif isinstance(each, list):
            pending.extend(("", value) for value in each)
        elif isinstance(each, str):
            yield key, each


def _copy_package(name: str, target: Path) -> None:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {name} is not installed here, so it cannot travel with the job")
    source = Path(next(iter(found.submodule_search_locations)))
    for path in source.rglob("*"):  # whatever its suffix: a package's data, such as templates, are part of it
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
            copy_file(path, target / name / path.relative_to(source))


def upload_sizes(folder: Path) -> dict[str, int]:
    """The size in bytes of each file in a folder by its relative path, the largest first."""
    sizes = [(path.stat().st_size, path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()]
    return {name: size for size, name in sorted(sizes, key=lambda each: (-each[0], each[1]))}


def archive_bytes(sizes: dict[str, int]) -> int:
    """The size in bytes of the uncompressed zip archive that Ray makes of an upload.

    Args:
        sizes: The size in bytes of each file by its relative path.
    """
    return _END_BYTES + sum(_ENTRY_BYTES + 2 * len(name.encode()) + size for name, size in sizes.items())


def check_size(folder: Path, limit: int | None = None) -> int:
    """Return the size in bytes of an upload's archive; ValueError, which names the five largest files, above the limit.

    Args:
        folder: The folder of the upload.
        limit: The largest size in bytes; None: the limit of Ray's job server.
    """
    limit = max_upload_bytes() if limit is None else limit
    sizes = upload_sizes(folder)
    total = archive_bytes(sizes)
    if total > limit:
        raise ValueError(
            f"the upload has {total / 2**20:.1f} MiB, more than the {limit / 2**20:g} MiB that Ray takes; "
            f"name what is not code under `exclude`; the biggest: {largest_files(sizes)}"
        )
    return total


def largest_files(sizes: dict[str, int], count: int = 5) -> str:
    """Describe the `count` largest files of an upload."""
    return ", ".join(f"{name} ({size / 2**20:.2f} MiB)" for name, size in list(sizes.items())[:count])
