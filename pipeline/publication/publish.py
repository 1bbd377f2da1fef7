"""`python -m pipeline publish`: a checkpoint as a model repository with its model card, on a disk and on the Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from datamodules.storage.atomic_write import write_folder_atomically
from datamodules.storage.local_files import file_sha256
from datamodules.storage.plain_text import to_json
from lightning_modules import VideoNetwork
from lightning_modules.tasks.saved_network import plain_data
from lightning_modules.weights.checkpoint_file import read_checkpoint, training_dataset, training_fingerprints
from lightning_modules.weights.model_repository import WEIGHTS_NAME, ModelConfig, is_repository, write_repository
from pipeline.cli.terminal import print_text
from pipeline.inference.inference_options import CheckpointOptions, OverwriteOptions
from pipeline.inference.output_paths import refuse_unwritable_folder
from pipeline.inference.trained_checkpoint import CLIP_SETTINGS
from pipeline.publication.card_metadata import CardTexts
from pipeline.publication.evaluation_results import EvaluationResults, read_results
from pipeline.publication.model_card import CARD_NAME, LABELS_NAME, model_card
from pipeline.publication.training_record import (
    TRAINING_NAME,
    find_configuration,
    published_arguments,
    published_configuration,
    published_dataset,
)

PREPROCESSING_NAME = "preprocessing.json"
_LIBRARIES = ("torch", "pytorch-lightning", "safetensors")


@dataclass(frozen=True)
class PublishOptions(CheckpointOptions, OverwriteOptions):
    """Options of `publish`.

    Attributes:
        checkpoint: file that `fit` or `weights convert` wrote, or a folder that `publish` wrote.
        out: folder to write: weights as safetensors, config.json, labels.txt, preprocessing.json and the model card.
        report: folders that `evaluate` wrote for this checkpoint: their figures and intervals go into the card.
        title: name of the model in the card; default: that of the folder.
        license: license of the weights, by its identifier on the Hub, such as apache-2.0.
        license_link: for a license that the Hub does not know: its URL, or LICENSE, a file that you put there.
        data_license: license or terms of the training videos.
        data_source: where the training videos are from, such as a URL or a citation.
        datasets: identifiers on the Hub of the data that it was trained on.
        intended_use: what the model is for, as a sentence of the card.
        limits: what it is not for, or does badly, as a sentence of the card.
        training_config: config.yaml of the training; default: the one in the folder of the checkpoint's run.
        training_videos: write fingerprints of the training videos, from which `evaluate` knows them again; whoever has
            a video can tell by them whether it was trained on.
    """

    checkpoint: Path
    out: Path
    report: list[Path] | None = None
    title: str | None = None
    license: str | None = None
    license_link: str | None = None
    data_license: str | None = None
    data_source: str | None = None
    datasets: list[str] | None = None
    intended_use: str | None = None
    limits: str | None = None
    training_config: Path | None = None
    training_videos: bool = True


def publish(options: PublishOptions) -> None:
    """Write a checkpoint as a model repository of the Hugging Face Hub: safetensors, config.json and a model card.

    Such a folder is opened wherever a checkpoint is, without unpickling anything, with the same numbers. The card says
    what the checkpoint, its run and the given reports say, and what you add; complete it by hand where it says
    "not stated".

    Args:
        options: checkpoint, folder, and what the card shall say.

    Raises:
        FileNotFoundError: the checkpoint or a report does not exist.
        ValueError: not a checkpoint of ours, a report of another checkpoint, a secret in what would be published, or
            `out` is there.
    """
    _refuse_existing(options.out, options.overwrite)
    checkpoint = read_checkpoint(options.checkpoint)
    network = VideoNetwork.from_checkpoint(checkpoint, str(options.checkpoint), options.allow or ())
    origin = _origin(options.checkpoint, checkpoint)
    record = options.training_config or find_configuration(options.checkpoint)
    configuration = None if record is None else published_configuration(record)
    with write_folder_atomically(options.out) as folder:
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
            CARD_NAME: model_card(network, config, _texts(options), results, configuration is not None),
        }
        for name, text in files.items():
            if text:
                (folder / name).write_bytes(text.encode(errors="backslashreplace"))
    _print_summary(options, results, configuration is not None)


def _origin(path: Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Name, digest and position in the training of the checkpoint; of a repository, those that it has written down."""
    if is_repository(path):
        return ModelConfig.read(path).checkpoint
    known = ("epoch", "global_step", "pytorch-lightning_version")
    position = {name: checkpoint[name] for name in known if isinstance(checkpoint.get(name), (int, str))}
    return {"name": path.name, "sha256": file_sha256(path), **position}


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


def _texts(options: PublishOptions) -> CardTexts:
    return CardTexts(
        title=options.title or options.out.absolute().name,
        address=options.out.name,
        license=options.license,
        license_link=options.license_link,
        data_license=options.data_license,
        data_source=options.data_source,
        datasets=options.datasets or (),
        intended_use=options.intended_use,
        limits=options.limits,
    )


def _print_summary(options: PublishOptions, results: Sequence[EvaluationResults], has_record: bool) -> None:
    names = sorted(path.name for path in options.out.iterdir())
    num_bytes = sum((options.out / name).stat().st_size for name in names)
    print_text(f"wrote {options.out}: {', '.join(names)}, {num_bytes / 1e6:.1f} MB")
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
