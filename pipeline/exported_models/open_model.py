"""Opens exported models, in the place of checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.leakage.training_fingerprint import TrainingFingerprint
from lightning_modules import VideoClassifier
from lightning_modules.weights.fingerprint_file import read_fingerprints
from pipeline.exported_models.exported_classifier import ExportedClassifier, FeatureHead
from pipeline.exported_models.model_folder import (
    DESCRIPTION_NAME,
    FINGERPRINTS_NAME,
    LINEAR_NAME,
    ModelDescription,
)
from pipeline.exported_models.programs import open_program
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, open_checkpoint
from pipeline.linear.feature_classifier import FeatureClassifier


def is_model_folder(path: Path) -> bool:
    """Whether a path is the folder of an exported model."""
    return (path / DESCRIPTION_NAME).is_file()


def open_classifier(path: Path, allow: Sequence[str] | None = None) -> TrainedCheckpoint:
    """Opens a checkpoint of a classifier, or the folder of an exported one, for inference.

    Args:
        path: as for `open_checkpoint`, or a folder that `export` wrote.
        allow: modules that model classes may come from; `torch.export` for programs of that format.

    Raises:
        FileNotFoundError: it does not exist.
        ImportError: onnxruntime is not installed.
        ValueError: it cannot be opened, or is not trusted.
    """
    if is_model_folder(path):
        return open_model(path, allow)
    return open_checkpoint(path, allow, VideoClassifier)


def open_model(folder: Path, allow: Sequence[str] | None = None) -> TrainedCheckpoint:
    """Opens the folder of an exported model; its network is an `ExportedClassifier`.

    Args:
        folder: the folder that `export` wrote.
        allow: contains `torch.export` where programs of that format are trusted.

    Raises:
        FileNotFoundError: it is no such folder.
        ImportError: onnxruntime is not installed.
        ValueError: it has changed since it was written, cannot be opened, or is not trusted.
    """
    description = ModelDescription.read(folder)
    program = open_program(folder, description, allow or ())
    head = None
    if description.averaged == "features":
        head = FeatureHead(*FeatureClassifier.load(folder / LINEAR_NAME))
    model = ExportedClassifier.from_program(program, description, head)
    fingerprints: tuple[TrainingFingerprint | None, ...] = tuple(
        None if saved is None else TrainingFingerprint.from_state(saved)
        for saved in read_fingerprints(folder / FINGERPRINTS_NAME)
    )
    if head is not None:
        fingerprints = (*fingerprints, None)  # which videos the linear classifier was fitted to is not known
    return TrainedCheckpoint(
        folder,
        description.files[description.program_name],
        model,
        description.clips,
        description.checkpoint["dataset"],
        fingerprints,
        program=model.provenance(),
    )


def dataset_of_model(path: Path) -> Mapping[str, Any]:
    """The description of the dataset that an exported model was trained on; empty if it is not known."""
    dataset: Mapping[str, Any] = ModelDescription.read(path).checkpoint["dataset"]
    return dataset
