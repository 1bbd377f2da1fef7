"""The Hugging Face Hub: addresses `hf://ORG/NAME[@REVISION]`, downloads of model repositories, and its errors.

A revision is a branch, a tag or a commit. Files are kept in the cache of huggingface_hub, so what was downloaded once
opens without a network. The server is `HF_ENDPOINT`, the token `HF_TOKEN` or that of `hf auth login`.
"""

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HUB_PREFIX = "hf://"

_ADDRESS = re.compile(r"hf:/{1,2}([^/@]+/[^/@]+)(?:@(.+))?")  # `Path` turns two slashes into one
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class HubAddress(NamedTuple):
    """Address of a model repository on the hub.

    Attributes:
        repository: `ORG/NAME`.
        revision: branch, tag or commit; None for the main branch.
    """

    repository: str
    revision: str | None

    @classmethod
    def parse(cls, path: str | Path) -> "HubAddress | None":
        """Reads an address; None for what does not begin with `hf:/`.

        Raises:
            ValueError: it begins so, and is not an address of a repository.

        >>> HubAddress.parse("hf://org/name@v1"), HubAddress.parse("runs/last.ckpt")
        (HubAddress(repository='org/name', revision='v1'), None)
        """
        if not str(path).startswith("hf:/"):
            return None
        found = _ADDRESS.fullmatch(str(path))
        if found is None:
            raise ValueError(
                f"checkpoint {str(path)!r}: an address on the hub is hf://ORG/NAME or hf://ORG/NAME@REVISION"
            )
        return cls(found[1], found[2])

    @property
    def file_name(self) -> str:
        """Name for files made with the repository: letters of the address that are in any file name."""
        text = self.repository.partition("/")[2] + ("" if self.revision is None else f"-{self.revision}")
        return re.sub(r"[^\w-]", "-", text)

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.repository}" + ("" if self.revision is None else f"@{self.revision}")


def fetch_repository(address: HubAddress, files: Sequence[str]) -> Path:
    """Downloads files of a model repository, or finds them in the cache; those that it lacks are left out.

    Returns:
        The folder of the commit, whose name is the commit's; it may not exist if the repository has none of the files.

    Raises:
        FileNotFoundError: there is no such repository or revision, or it is private.
        ImportError: huggingface_hub is not installed.
        OSError: the hub cannot be reached, or refuses.
    """
    with hub_client(f"checkpoint {str(address)!r}") as hub:
        folder: str = hub.snapshot_download(address.repository, revision=address.revision, allow_patterns=list(files))
    return Path(folder)


@contextmanager
def hub_client(subject: str) -> Iterator[Any]:
    """Context with the library huggingface_hub, in which its errors become one sentence.

    Args:
        subject: beginning of the sentence: the option with its value.

    Raises:
        FileNotFoundError: there is no such repository or revision, or it is private.
        ImportError: it is not installed.
        OSError: the hub cannot be reached, or refuses.
        ValueError: the hub does not accept what was sent.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
        errors = importlib.import_module("huggingface_hub.errors")
        clients = importlib.import_module("httpx2")
    except ImportError as error:
        hint = "pip install 'action-recognition-pipeline[hub]'"
        raise ImportError(f"{subject}: huggingface_hub cannot be imported here ({error}); {hint}") from error
    server = hub.constants.ENDPOINT
    try:
        with quiet_client():
            yield hub
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{subject}: no such revision at {server}; give a branch, tag or commit") from error
    except errors.GatedRepoError as error:
        raise PermissionError(f"{subject}: is gated: ask for access on its page at {server}, and {_LOG_IN}") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{subject}: there is no such repository at {server}, or it is private: check the name, and {_LOG_IN}"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = _LOG_IN if status in (401, 403) else "try again later" if status >= 500 else "check what was sent"
        reason = error.server_message or _first_line(error)
        raise OSError(f"{subject}: {server} refuses ({status}: {_first_line(reason)}); {advice}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, clients.TransportError) as error:
        reason = _first_line(error.__cause__ or error)
        raise OSError(
            f"{subject}: {server} cannot be reached ({reason}); check the network and HF_ENDPOINT, or give a folder"
        ) from error
    except (RuntimeError, errors.XetDownloadError) as error:  # of hf_xet, which moves large files
        raise OSError(f"{subject}: {_first_line(error)}; try again") from error
    except ValueError as error:  # names and metadata that the client or the hub refuses
        raise ValueError(f"{subject}: {' '.join(str(error).split())}") from error


@contextmanager
def quiet_client() -> Iterator[None]:
    """Context in which the library does not tell every retry, and draws progress bars on a terminal only."""
    tools = importlib.import_module("huggingface_hub.utils")
    verbosity = tools.logging.get_verbosity()
    hides_bars = not (sys.stderr.isatty() or tools.are_progress_bars_disabled())
    tools.logging.set_verbosity_error()
    if hides_bars:
        tools.disable_progress_bars()
    try:
        yield
    finally:
        tools.logging.set_verbosity(verbosity)
        if hides_bars:
            tools.enable_progress_bars()


def _first_line(message: object) -> str:
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else ""
