"""Networks of the transformers library: configuration, preprocessing and weights, by name on the hub or from a folder.

Nothing of a network is executed or unpickled: weights are read from safetensors files alone, and code that comes with a
network is refused. The library is imported by the functions that need it, as its import takes seconds.
"""

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_modules.weights.hub import quiet_client
from lightning_modules.weights.weight_files import weight_names

# Values of an argument of weights:
PRETRAINED = "pretrained"  # those that the network was published with
RANDOM = "none"  # random ones
TRANSFORMERS_PREFIX = "transformers:"

_BESIDE_TORCH = 'docs/models.md, "Where torchvision imports"'
_HINTS = {
    "timm": f"install timm and torchvision, which it needs ({_BESIDE_TORCH})",
    "torchvision.models": f"install torchvision ({_BESIDE_TORCH})",
}
_CONFIGURATION = "config.json"
_PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def import_library(package: str, option: str) -> Any:
    """Imports a library of networks.

    Args:
        package: `transformers`, `peft`, `timm` or `torchvision.models`.
        option: the option that needs it, with its value, for the error.

    Raises:
        ImportError: it is not installed, or cannot be imported beside this torch.
    """
    extras = {"transformers": "transformers", "peft": "lora"}
    try:
        return importlib.import_module(package)
    except Exception as error:  # a build for another torch raises various errors
        extra = extras.get(package)
        hint = f"pip install 'action-recognition-pipeline[{extra}]'" if extra else _HINTS[package]
        raise ImportError(f"{option}: {package} cannot be imported here ({error}); {hint}") from error


@dataclass(frozen=True)
class TransformersSource:
    """Where a network of transformers is read from.

    Args:
        option: name of the option that gave it, for errors.
        name: name on the hub, or path of a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None for its main branch.
    """

    option: str
    name: str
    revision: str | None = None

    def configuration(self) -> dict[str, Any]:
        """The network's configuration as plain data.

        Raises:
            ImportError: transformers is not installed.
            OSError: no such network, or the hub cannot be reached.
            ValueError: a folder without a configuration, or an architecture that the library does not know.
        """
        self._refuse_missing(_CONFIGURATION)
        with self._plain_errors() as library:
            configuration = library.AutoConfig.from_pretrained(
                self._location, revision=self.revision, trust_remote_code=False
            )
            plain: dict[str, Any] = json.loads(json.dumps(configuration.to_dict(), default=str))
        plain.pop("_name_or_path", None)  # where it lay on this machine
        return plain

    def preprocessing(self) -> dict[str, Any]:
        """The configuration of the network's preprocessor as plain data; empty if it has none."""
        for file in _PREPROCESSING:
            path = self._find(file)
            if path is not None:
                plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                return plain
        return {}

    def weights_file(self) -> Path:
        """The safetensors file, or the index of several.

        Raises:
            OSError: the hub cannot be reached.
            ValueError: the network has none.
        """
        for file in _WEIGHTS:
            path = self._find(file)
            if path is not None:
                return path
        raise ValueError(
            f"{self}: has no weights as safetensors, and others are not read, as they can execute code; where they can "
            f"be trusted, load them with transformers and write a folder with save_pretrained"
        )

    def weight_names(self) -> set[str]:
        """The names of the published weights, read without the weights themselves.

        Raises:
            OSError: the hub cannot be reached.
            ValueError: no safetensors, or a damaged file.
        """
        path = self.weights_file()
        if path.suffix == ".json":
            return set(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
        return weight_names(path)

    def load(self, auto_class: str, configuration: Mapping[str, Any] | None = None) -> tuple[nn.Module, set[str]]:
        """Loads the network with its weights, float32, in evaluation mode.

        Args:
            auto_class: class of transformers that chooses the network's class, such as `AutoModel`.
            configuration: that of a part of the network, such as the vision tower of CLIP; None for the whole.

        Returns:
            The network, and the names of its parameters that the weights lack, which are random.

        Raises:
            ImportError: transformers is not installed.
            OSError: the hub cannot be reached.
            ValueError: no safetensors, or weights of other shapes.
        """
        self.weights_file()
        with self._plain_errors() as library:
            part = {} if configuration is None else {"config": library.AutoConfig.for_model(**configuration)}
            network, report = getattr(library, auto_class).from_pretrained(
                self._location,
                revision=self.revision,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **part,
            )
        return network.eval(), set(report["missing_keys"])

    def __str__(self) -> str:
        return f"{self.option}={TRANSFORMERS_PREFIX}{self.name}"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this machine."""
        return Path(self.name).expanduser().is_dir()

    @property
    def _location(self) -> str:
        """What the library reads it from."""
        return str(Path(self.name).expanduser()) if self.is_folder else self.name

    def _find(self, file: str) -> Path | None:
        """The path of a file of the network, from the hub if need be; None if it has no such file."""
        if self.is_folder:
            path = Path(self.name).expanduser() / file
            return path if path.is_file() else None
        self._refuse_path()
        with self._plain_errors() as library:
            found = library.utils.cached_file(
                self.name, file, revision=self.revision, _raise_exceptions_for_missing_entries=False
            )
        return None if found is None else Path(found)

    def _refuse_missing(self, file: str) -> None:
        if self.is_folder and self._find(file) is None:
            raise ValueError(f"{self}: the folder has no {file}; give one that save_pretrained wrote")
        if Path(self.name).expanduser().is_file():
            raise ValueError(f"{self}: is a file; give a name on the hub, or a folder that save_pretrained wrote")
        if not self.is_folder:
            self._refuse_path()

    def _refuse_path(self) -> None:
        """Refuses what can only be the path of a folder, as the hub would be asked for long."""
        first, slash, _ = self.name.partition("/")
        if self.name.startswith((os.sep, ".", "~")) or self.name.count("/") > 1:
            raise FileNotFoundError(f"{self}: no such folder")
        if slash and Path(first).is_dir():
            raise FileNotFoundError(f"{self}: no such folder; the hub is not asked, as {first!r} is a folder here")

    @contextmanager
    def _plain_errors(self) -> Iterator[Any]:
        """Context with the library, silenced, in which its errors become one sentence."""
        try:
            with silenced_transformers(str(self)) as library:
                yield library
        except OSError as error:
            raise OSError(
                f"{self}: cannot be read ({_first_line(error)}); give a name on the hub that can be reached from here, "
                "or the folder of a copy"
            ) from error
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(f"{self}: {_first_line(error)}") from error


@contextmanager
def silenced_transformers(option: str) -> Iterator[Any]:
    """Context with the library, which neither logs nor draws progress bars in it; the client of the hub is quiet too.

    Args:
        option: the option that needs it, with its value, for the error.

    Raises:
        ImportError: transformers is not installed.
    """
    library = import_library("transformers", option)
    logging = library.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet_client():
            yield library
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
