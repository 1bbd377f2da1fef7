"""`python -m pipeline weights list|get|convert|classes`: download, verification and conversion of published weights."""

import sys
from pathlib import Path
from typing import Any, cast

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.local_files import file_sha256
from lightning_modules import PretrainedVideoNetwork, VideoClassifier
from lightning_modules.networks.video_libraries import LIBRARY_PREFIXES, describe_network
from lightning_modules.weights.download import cache_folder, fetch, find_published
from lightning_modules.weights.hub import HubAddress
from lightning_modules.weights.key_mapping import C3D, I3D, INCEPTION_V1
from lightning_modules.weights.pretrained import read_labels, read_weights
from lightning_modules.weights.published_checkpoints import PUBLISHED, PublishedWeights
from pipeline.cli.terminal import print_text
from pipeline.inference.trained_checkpoint import library_clip_settings, open_checkpoint

_PUBLISHED_BY_CLASS = {I3D: "i3d-kinetics400-rgb", INCEPTION_V1: "googlenet-imagenet", C3D: "c3d-sports1m"}


def weights(request: list[str], out: Path | None = None, num_classes: int | None = None) -> None:
    """List published checkpoints, get one into the cache, convert one to a checkpoint of ours, or print its classes.

    A converted checkpoint is accepted by `evaluate`, `features` and `classify`. Published ones can also be named
    directly: `classify --weights NAME`, `fit ... --model.init_args.weights NAME`. The classes, one a line in the order
    of their labels, are accepted by `pack` and `index` as `--classes`: a dataset with some of a checkpoint's classes
    then has the checkpoint's labels, and can be evaluated.

    Args:
        request: `list`, `get NAME`, `convert NAME_OR_FILE` or `classes NAME_OR_FILE`; the last two also take a video
            network of a library, such as `transformers:NAME_OR_FOLDER`.
        out: file for `convert`; default: the name with .ckpt, here.
        num_classes: for `convert`: another number than the file's gives an untrained classifier.

    Raises:
        ValueError: no such checkpoint, or its checksum or keys are wrong.
        OSError: it cannot be got or written.
    """
    match request:
        case ["list"]:
            print_text("\n\n".join(map(_describe_weights, PUBLISHED)))
            print_text(f"\ncache: {cache_folder()}")
        case ["get", name]:
            path = fetch(find_published(name))
            print_text(f"{path}\nsha256 {file_sha256(path)}")
        case ["convert", name]:
            print_text(str(convert(name, out or Path(f"{Path(name.rpartition(':')[2]).stem}.ckpt"), num_classes)))
        case ["classes", name]:
            names = "\n".join(class_names(name))
            print_text(names) if sys.stdout.isatty() else print(names)  # unescaped, for files and pipes
        case _:
            raise ValueError(
                f"weights {' '.join(request)}: give `list`, `get NAME`, `convert NAME_OR_FILE` or "
                "`classes NAME_OR_FILE`"
            )


def convert(name: str, out: Path, num_classes: int | None = None) -> Path:
    """Write a published checkpoint, a file in a known naming, or a video network of a library as a checkpoint of ours.

    Args:
        name: published name, path, or `transformers:NAME_OR_FOLDER` or `torchvision:NAME`.
        out: the file to write.
        num_classes: number of classes; None takes the file's. Another number gives an untrained classifier.

    Returns:
        `out`.
    """
    import torch

    model, file, clips = _library_network(name, num_classes) if _is_of_library(name) else _foreign(name, num_classes)
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "source": {"name": name, "sha256": file_sha256(file)},
    }
    model.on_save_checkpoint(checkpoint)
    if clips is not None:
        checkpoint["datamodule_hyper_parameters"] = clips
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as temporary:
        torch.save(checkpoint, temporary)
    return out


def _is_of_library(name: str) -> bool:
    return name.startswith(LIBRARY_PREFIXES)


def _library_network(name: str, num_classes: int | None) -> tuple[VideoClassifier, Path, dict[str, Any]]:
    """A network of a library, the file of its weights and its clip settings."""
    if num_classes is None:
        trained = open_checkpoint(Path(name), kind=PretrainedVideoNetwork)
        model = cast(PretrainedVideoNetwork, trained.model)
        return model, trained.path, trained.clips
    model = PretrainedVideoNetwork(name, num_classes=num_classes)
    model.load_library_weights()
    return model.eval(), model.weights_file, library_clip_settings(model)


def _foreign(name: str, num_classes: int | None) -> tuple[VideoClassifier, Path, dict[str, Any] | None]:
    """A network with published weights or those of a file, the file, and its clip settings if they are not its own."""
    weights_file = read_weights(name)
    published = weights_file.published
    if published is None and weights_file.class_names is None:  # foreign file: as the published one of its kind
        published = find_published(_PUBLISHED_BY_CLASS[weights_file.class_path])
    model = VideoClassifier.from_pretrained(name, num_classes)
    return model, Path(weights_file.path), None if published is None else published.clip_settings


def class_names(name: str) -> list[str]:
    """Returns the classes of a published checkpoint, a file or a network of a library, in the order of their labels.

    Args:
        name: published name, path, or `transformers:NAME_OR_FOLDER` or `torchvision:NAME`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a checkpoint, or one without class names.
    """
    if _is_of_library(name):
        names = list(describe_network(name).class_names or ())
    elif HubAddress.parse(name) is None and not Path(name).exists() and not Path(name).suffix:
        labels = find_published(name).labels  # no download needed
        names = read_labels(labels) if labels else []
    else:
        names = read_weights(name).class_names or []
    if not names:
        raise ValueError(f"weights {name!r}: does not name its classes")
    return names


def _describe_weights(published: PublishedWeights) -> str:
    facts = {
        "trained on": published.trained_on,
        "accuracy": published.accuracy,
        "licence": published.licence,
        "from": published.source,
        "sha256": published.sha256 or "stated by nobody: compare the one that `get` prints with somebody else's",
        "here": str(cache_folder() / published.file)
        if (cache_folder() / published.file).is_file()
        else "not in the cache",
    }
    return "\n".join([published.name, *(f"  {name:<10}  {text}" for name, text in facts.items())])
