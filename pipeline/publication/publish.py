"""`python -m pipeline publish`: a checkpoint as a model repository with its model card, on a disk and on the Hub."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from datamodules.storage.atomic_write import write_folder_atomically
from datamodules.storage.plain_text import to_json
from lightning_modules import VideoNetwork
from lightning_modules.tasks.saved_network import plain_data
from lightning_modules.weights.checkpoint_file import read_checkpoint, training_dataset, training_fingerprints
from lightning_modules.weights.hub import HUB_PREFIX
from lightning_modules.weights.model_repository import (
    WEIGHTS_NAME,
    ModelConfig,
    find_repository,
    is_repository,
    write_repository,
)
from lightning_modules.weights.sharded_checkpoint import checkpoint_sha256
from pipeline.cli.terminal import print_text
from pipeline.inference.output_paths import refuse_unwritable_folder
from pipeline.inference.trained_checkpoint import CLIP_SETTINGS
from pipeline.publication.card_metadata import CardTexts
from pipeline.publication.evaluation_results import EvaluationResults, read_results
from pipeline.publication.hub_upload import push_folder, refuse_push
from pipeline.publication.model_card import CARD_NAME, LABELS_NAME, model_card
from pipeline.publication.publish_options import PublishOptions
from pipeline.publication.training_record import (
    TRAINING_NAME,
    find_configuration,
    published_arguments,
    published_configuration,
    published_dataset,
)

PREPROCESSING_NAME = "preprocessing.json"
_LIBRARIES = ("torch", "pytorch-lightning", "safetensors")


def publish(options: PublishOptions) -> None:
    """Write a checkpoint as a model repository of the Hugging Face Hub: safetensors, config.json and a model card.

    Such a folder is opened wherever a checkpoint is, without unpickling anything, with the same numbers. The card says
    what the checkpoint, its run and the given reports say, and what you add; complete it by hand where it says
    "not stated".

    Args:
        options: checkpoint, folder, and what the card shall say.

    Raises:
        FileNotFoundError: the checkpoint or a report does not exist.
        OSError: the hub cannot be reached, or refuses; the folder stays.
        ValueError: not a checkpoint of ours, a report of another checkpoint, a secret in what would be published, or
            `out` is there.
    """
    if options.push is not None:
        refuse_push(options.push)
    folder = _written_before(options.checkpoint) if options.out is None else _write_folder(options.out, options)
    if options.push is not None:
        print_text(f"sent {folder} to {push_folder(folder, options.push, options.private)}")


def _written_before(folder: Path) -> Path:
    """A folder that `publish` wrote, to be sent as it is; ValueError if it is damaged, or no such folder."""
    if not is_repository(folder):
        raise ValueError(f"checkpoint={str(folder)!r}: give --out; only what `publish` wrote is sent as it is")
    read_checkpoint(folder)
    return folder


def _write_folder(out: Path, options: PublishOptions) -> Path:
    _refuse_existing(out, options.overwrite)
    path = find_repository(options.checkpoint) or options.checkpoint
    checkpoint = read_checkpoint(path)
    network = VideoNetwork.from_checkpoint(checkpoint, str(options.checkpoint), options.allow or ())
    origin = _origin(path, checkpoint)
    record = options.training_config or find_configuration(path)
    configuration = None if record is None else published_configuration(record)
    with write_folder_atomically(out) as folder:
        fingerprints = training_fingerprints(checkpoint) if options.training_videos else (None,)
        write_repository(folder, _describe(checkpoint, origin), checkpoint["state_dict"], fingerprints)
        config = ModelConfig.read(folder)
        _refuse_difference(folder, network, options)
        weights = {origin["sha256"], config.files[WEIGHTS_NAME]}
        results = [read_results(path, weights) for path in options.report or ()]
        files = {
            PREPROCESSING_NAME: to_json(_preprocessing(network, config.clips), indent=2) + "\n",
            LABELS_NAME: "".join(f"{name}\n" for name in network.class_names),
            TRAINING_NAME: configuration,
            CARD_NAME: model_card(network, config, _texts(out, options), results, configuration is not None),
        }
        for name, text in files.items():
            if text:
                (folder / name).write_bytes(text.encode(errors="backslashreplace"))
    _print_summary(out, options, results, configuration is not None)
    return out


def _origin(path: Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Name, digest and position in the training of the checkpoint; of a repository, those that it has written down."""
    if is_repository(path):
        return ModelConfig.read(path).checkpoint
    known = ("epoch", "global_step", "pytorch-lightning_version")
    position = {name: checkpoint[name] for name in known if isinstance(checkpoint.get(name), (int, str))}
    return {"name": path.name, "sha256": checkpoint_sha256(path), **position}


def _describe(checkpoint: Mapping[str, Any], origin: dict[str, Any]) -> ModelConfig:
    description, settings = checkpoint["classifier"], checkpoint.get("datamodule_hyper_parameters", {})
    return ModelConfig(
        class_path=description["class_path"],
        init_args=published_arguments(description["init_args"]),
        clips=plain_data({name: settings[name] for name in CLIP_SETTINGS if name in settings}),
        dataset=published_dataset(training_dataset(checkpoint)),
        checkpoint=origin,
        versions={name: version(name) for name in _LIBRARIES},
    )


def _preprocessing(network: VideoNetwork, clips: Mapping[str, Any]) -> dict[str, Any]:
    """What is done to a video before the network, for programs that do not have this project."""
    return {
        "pixels": "RGB, uint8; resized, then the center crop; (x / 255 - mean) / std; float (N, C, T, H, W)",
        **clips,
        "mean": [round(number, 6) for number in network.mean.tolist()],
        "std": [round(number, 6) for number in network.std.tolist()],
    }


def _refuse_difference(folder: Path, network: VideoNetwork, options: PublishOptions) -> None:
    """Raises ValueError unless what was written opens as the network that was read, number by number."""
    written = VideoNetwork.load(folder, options.allow or ())
    expected, found = network.state_dict(), written.state_dict()
    same_state = expected.keys() == found.keys() and all(_same(expected[name], found[name]) for name in expected)
    if not same_state or written.class_names != network.class_names:
        raise ValueError(
            f"checkpoint={str(options.checkpoint)!r}: what was written does not open as the same network, so nothing "
            "was published; does its class take its state from elsewhere than its arguments?"
        )


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaN included."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (first, second)))


def _texts(out: Path, options: PublishOptions) -> CardTexts:
    pushed = None if options.push is None else options.push.removeprefix(HUB_PREFIX)
    return CardTexts(
        title=options.title or (pushed or str(out.absolute())).rpartition("/")[2],
        address=out.name if pushed is None else f"{HUB_PREFIX}{pushed}",
        license=options.license,
        license_link=options.license_link,
        data_license=options.data_license,
        data_source=options.data_source,
        datasets=options.datasets or (),
        intended_use=options.intended_use,
        limits=options.limits,
    )


def _print_summary(out: Path, options: PublishOptions, results: Sequence[EvaluationResults], has_record: bool) -> None:
    names = sorted(path.name for path in out.iterdir())
    num_bytes = sum((out / name).stat().st_size for name in names)
    print_text(f"wrote {out}: {', '.join(names)}, {num_bytes / 1e6:.1f} MB")
    missing = [
        "--report" if not results else "",
        "--license" if options.license is None else "",
        "--data-license" if options.data_license is None else "",
        "--intended-use" if options.intended_use is None else "",
        "--training-config" if not has_record else "",
    ]
    if any(missing):
        print_text(f"the card says that this was not stated: {', '.join(filter(None, missing))}")


def _refuse_existing(out: Path, overwrite: bool) -> None:
    refuse_unwritable_folder(out)
    if out.exists() and any(out.iterdir()) and not (overwrite and is_repository(out)):
        what = "was published before; give --overwrite to replace it" if is_repository(out) else "is not empty"
        raise ValueError(f"out={str(out)!r}: {what}, or choose another folder")
