"""Model repositories: a trained network as the folder that a model hub keeps, without a pickle.

    model.safetensors       the weights
    config.json             class, arguments, clips, data, and the SHA-256 of the two other files
    training.safetensors    fingerprints of the training videos; may be missing

A repository takes the place of a checkpoint of `fit` wherever one is opened: the same content, read by safetensors and
json alone. Other files in the folder are for people.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.storage.local_files import file_sha256
from lightning_modules.weights.fingerprint_file import read_fingerprints, write_fingerprints
from lightning_modules.weights.hub import HubAddress, fetch_repository

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FINGERPRINTS_NAME = "training.safetensors"
OPENED_FILES = (CONFIG_NAME, WEIGHTS_NAME, FINGERPRINTS_NAME)

_FORMAT = "action-recognition-pipeline"
_VERSION = 1
_DATASET = {"name", "identity", "train_split", "fold"}  # what is known of every dataset, if it is known
_METADATA = {"format": "pt"}  # as transformers writes; safetensors orders several entries at random


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The content of config.json.

    Attributes:
        class_path: class of the network, such as `lightning_modules.C3D`.
        init_args: its arguments, with `class_names` in label order and `num_classes`.
        clips: clip settings of the training: num_frames, frame_interval or fps, crop_size, resize, ...; may be empty.
        dataset: identity of the training data: name, identity, split, fold, rendition, decoder; empty if unknown.
        checkpoint: `name` and `sha256` of the checkpoint that was published, and the `epoch` and `global_step` that it
            was taken at, if known.
        versions: versions of the libraries that wrote the folder.
        files: SHA-256 of the other files that are opened, by name.
    """

    class_path: str
    init_args: dict[str, Any]
    clips: dict[str, Any]
    dataset: dict[str, Any]
    checkpoint: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads config.json.

        Raises:
            ValueError: it is missing, or not what `publish` wrote.
        """
        subject = f"checkpoint {str(folder)!r}"
        try:
            content = json.loads((folder / CONFIG_NAME).read_text("utf-8"))
        except (ValueError, OSError) as error:
            raise ValueError(f"{subject}: its {CONFIG_NAME} cannot be read ({error}); get the folder again") from None
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise ValueError(
                f"{subject}: its {CONFIG_NAME} is not one that `python -m pipeline publish` wrote; a network of "
                f"transformers is opened as transformers:{folder}"
            )
        if content.pop("format_version", None) != _VERSION:
            raise ValueError(f"{subject}: was published by another version of this project; install that version")
        kinds = {"class_path": str} | dict.fromkeys(
            ("init_args", "clips", "dataset", "checkpoint", "versions", "files"), dict
        )
        as_written = content.keys() == kinds.keys() and all(isinstance(content[name], kinds[name]) for name in kinds)
        if not as_written or not (content["dataset"].keys() >= _DATASET or not content["dataset"]):
            raise ValueError(f"{subject}: its {CONFIG_NAME} is not as `publish` wrote it; get the folder again")
        return cls(**content)

    def write(self, folder: Path) -> None:
        """Writes config.json, with the digests of the files that are there."""
        names = [name for name in OPENED_FILES if name != CONFIG_NAME and (folder / name).is_file()]
        files = {name: file_sha256(folder / name) for name in names}
        content = {"format": _FORMAT, "format_version": _VERSION, **asdict(replace(self, files=files))}
        (folder / CONFIG_NAME).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def find_repository(path: str | Path) -> Path | None:
    """The folder of a model repository: a folder here, or the copy of one on the hub; None for all other paths.

    Raises:
        FileNotFoundError: there is no such repository on the hub, or it is private.
        ImportError: huggingface_hub is not installed.
        OSError: the hub cannot be reached.
        ValueError: a repository on the hub that `publish` did not write.
    """
    address = HubAddress.parse(path)
    if address is None:
        return Path(path) if is_repository(Path(path)) else None
    folder = fetch_repository(address, OPENED_FILES)
    if not (folder / CONFIG_NAME).is_file():
        raise ValueError(f"checkpoint {str(address)!r}: has no {CONFIG_NAME}; give one that `publish` wrote")
    return folder


def is_repository(path: Path) -> bool:
    """Whether a path is a folder with a config.json or weights as in a model repository."""
    return path.is_dir() and any((path / name).is_file() for name in (CONFIG_NAME, WEIGHTS_NAME))


def write_repository(
    folder: Path,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    fingerprints: Sequence[Mapping[str, Tensor] | None] = (None,),
) -> None:
    """Writes the files of a repository that are opened; the same content gives the same bytes.

    Args:
        folder: an existing folder.
        config: the network, without digests.
        state: its state dict.
        fingerprints: of each training, the last one first; None for one whose videos are unknown or not to be told.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}  # none shares memory
    save_file(tensors, folder / WEIGHTS_NAME, metadata=_METADATA)
    if any(fingerprint is not None for fingerprint in fingerprints):
        write_fingerprints(folder / FINGERPRINTS_NAME, fingerprints)
    config.write(folder)


def read_repository(folder: Path) -> dict[str, Any]:
    """Reads a repository as the content of a checkpoint of `fit`, see `checkpoint_file.read_checkpoint`.

    Raises:
        ValueError: not a repository that `publish` wrote, or a file that is missing, damaged or not the published one.
    """
    config = ModelConfig.read(folder)
    for name in (WEIGHTS_NAME, *(set(config.files) - {WEIGHTS_NAME})):
        _verify(folder, name, config.files.get(name))
    try:
        state = load_file(folder / WEIGHTS_NAME)
    except SafetensorError as error:
        raise ValueError(
            f"checkpoint {str(folder)!r}: {WEIGHTS_NAME} is no safetensors file ({error}); get it again"
        ) from None
    known = FINGERPRINTS_NAME in config.files
    first, *earlier = read_fingerprints(folder / FINGERPRINTS_NAME) if known else (None,)
    training: dict[str, Any] = {} if first is None else {"seen": first}
    if config.dataset:
        training["dataset"] = config.dataset
    return {
        "classifier": {"class_path": config.class_path, "init_args": config.init_args},
        "state_dict": state,
        "datamodule_hyper_parameters": config.clips,
        "training_data": training,
        "trained_before": earlier,
        **{name: config.checkpoint[name] for name in ("epoch", "global_step") if name in config.checkpoint},
    }


def _verify(folder: Path, name: str, sha256: str | None) -> None:
    """Raises ValueError unless a file of the folder has the digest that config.json says."""
    subject = f"checkpoint {str(folder)!r}"
    if name not in OPENED_FILES or sha256 is None:
        raise ValueError(
            f"{subject}: its {CONFIG_NAME} does not say the SHA-256 of {WEIGHTS_NAME}, or names other files"
        )
    if not (folder / name).is_file():
        raise ValueError(f"{subject}: has no {name}; get the folder again")
    found = file_sha256(folder / name)
    if found != sha256:
        raise ValueError(
            f"{subject}: {name} has SHA-256 {found[:12]}, {CONFIG_NAME} says {str(sha256)[:12]}: it is damaged or not "
            "the published one; get the folder again"
        )
