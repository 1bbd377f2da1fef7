"""Trained checkpoint, and the data module that feeds it videos with the clip settings of its training."""

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.open_dataset import open_manifest
from datamodules.dataset.renditions import RenditionChoice
from datamodules.leakage.training_fingerprint import TrainingFingerprint
from datamodules.loading.loader_options import LoaderOptions
from datamodules.storage.local_files import file_sha256
from lightning_modules import PretrainedVideoNetwork, VideoClassifier, VideoNetwork
from lightning_modules.layers.batch_norm_folding import fold_batch_norms
from lightning_modules.networks.video_libraries import LIBRARY_PREFIXES
from lightning_modules.tasks.label_task import refuse_other_task
from lightning_modules.weights.checkpoint_file import read_checkpoint, training_dataset, training_fingerprints
from lightning_modules.weights.hub import HUB_PREFIX, HubAddress
from lightning_modules.weights.model_repository import WEIGHTS_NAME, find_repository
from lightning_modules.weights.pretrained import read_weights
from lightning_modules.weights.published_checkpoints import PUBLISHED
from lightning_modules.weights.sharded_checkpoint import checkpoint_sha256
from pipeline.inference.inference_options import InferenceOptions
from pipeline.inference.trained_split_file import has_split_file, refuse_changed_split_file, trained_split_file
from pipeline.inference.unlabelled_videos import refuse_unlabelled_videos
from pipeline.metrics.scored_videos import refuse_other_classes
from pipeline.processes.compute_device import batch_bytes, inference_device, loader_workers

# Settings of a clip, taken from the checkpoint unless given.
_PLACEHOLDER_CLASSES = 2  # of the random classifier of a file without one, which is removed
CLIP_SETTINGS = (
    *("num_frames", "frame_interval", "fps", "crop_size", "resize", "short_videos", "segments", "still", "stream"),
)


class TrainedCheckpoint(NamedTuple):
    """A checkpoint of `fit`, or a published one, loaded for inference.

    Attributes:
        path: the path of the file, or of the folder of a model repository.
        sha256: SHA-256 of the file, or of the repository's weights, hexadecimal.
        model: the network, on the CPU, in evaluation mode, with batch norms folded into convolutions: not to be trained
            or saved.
        clips: `CLIP_SETTINGS` of the training; empty if it did not use `ShardedVideoDataModule`.
        dataset: identity of the training data: name, identity, rendition, train_split, fold, decoder; empty if the
            training did not use `ShardedVideoDataModule`.
        fingerprints: fingerprint of the training videos, then those of earlier trainings whose weights it started from;
            None for an unknown one.
        published: name of a published checkpoint, or address on the hub with the commit; None for others.
        program: of an exported model, what computes in the place of the network, as plain data; None for checkpoints.
    """

    path: Path
    sha256: str
    model: VideoNetwork
    clips: dict[str, Any]
    dataset: dict[str, Any]
    fingerprints: tuple[TrainingFingerprint | None, ...] = (None,)
    published: str | None = None
    program: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the checkpoint on a command line: its published name, or its path."""
        return self.published or str(self.path)

    @property
    def source(self) -> str:
        """Where it is recorded to be from: its address on the hub, or the path of the file."""
        return self.name if self.name.startswith(HUB_PREFIX) else str(self.path)

    @property
    def family(self) -> str | None:
        """Identity shared by all renditions of the training dataset; None if unknown."""
        return self.dataset.get("family", self.dataset.get("identity"))

    def has_splits_of(self, index: DatasetIndex) -> bool:
        """Whether it was trained on this dataset, in any rendition, with the splits that the index has."""
        return index.manifest.family == self.family and has_split_file(self.dataset, index.split_file)


def open_checkpoint(
    path: Path, allow: Sequence[str] | None = None, kind: type[VideoNetwork] = VideoNetwork
) -> TrainedCheckpoint:
    """Loads a checkpoint of ours or a published one as untrusted data, see `VideoNetwork.load`.

    Args:
        path: the path of the file, or of the folder of a sharded one; a folder that `publish` wrote;
            `hf://ORG/NAME[@REVISION]`, such a folder on the hub; a name that `python -m pipeline weights list` prints;
            or a network of a library as for `PretrainedVideoNetwork`, such as `transformers:NAME_OR_FOLDER`.
        allow: modules that model classes may come from, besides lightning_modules.
        kind: required class of the network, such as `VideoClassifier`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a checkpoint of a network of this kind, or its class is not allowed.
    """
    if str(path).startswith(LIBRARY_PREFIXES) and issubclass(PretrainedVideoNetwork, kind):
        return _open_library_network(str(path), kind)
    is_published_name = not path.exists() and path.name == str(path) and any(row.name == path.name for row in PUBLISHED)
    published = is_published_name and issubclass(VideoClassifier, kind)
    trained = _open_published(path.name, kind) if published else _open_trained(path, allow, kind)
    fold_batch_norms(trained.model)
    return trained


def _open_trained(path: Path, allow: Sequence[str] | None, kind: type[VideoNetwork]) -> TrainedCheckpoint:
    repository = find_repository(path)
    checkpoint = read_checkpoint(repository or path)
    model = kind.from_checkpoint(checkpoint, str(path), allow or ())
    settings = checkpoint.get("datamodule_hyper_parameters", {})
    clips = {name: settings[name] for name in CLIP_SETTINGS if name in settings}
    fingerprints = tuple(
        None if saved is None else TrainingFingerprint.from_state(saved) for saved in training_fingerprints(checkpoint)
    )
    file, published = path, None
    if repository is not None:
        file, published = repository / WEIGHTS_NAME, published_name(path, repository)
    dataset = training_dataset(checkpoint)
    digest = checkpoint_sha256(file)
    return TrainedCheckpoint(repository or path, digest, model, clips, dataset, fingerprints, published)


def published_name(path: Path, repository: Path) -> str | None:
    """Name of a repository on the hub with the commit that was read; None for a folder."""
    address = HubAddress.parse(path)
    return None if address is None else str(address._replace(revision=repository.name))


def _open_library_network(name: str, kind: type[VideoNetwork]) -> TrainedCheckpoint:
    model = PretrainedVideoNetwork.open_pretrained(name, needs_classifier=issubclass(kind, VideoClassifier))
    clips = library_clip_settings(model)
    return TrainedCheckpoint(model.weights_file, file_sha256(model.weights_file), model, clips, {}, published=name)


def library_clip_settings(model: PretrainedVideoNetwork) -> dict[str, Any]:
    """`CLIP_SETTINGS` that a network of a library was made for."""
    settings = {"frame_interval": 1, "fps": None, "short_videos": "loop", "still": False}
    return settings | model.description.clip_settings


def _open_published(name: str, kind: type[VideoNetwork]) -> TrainedCheckpoint:
    """Opens a published checkpoint; without its classifier if the file has none and `kind` needs none."""
    weights = read_weights(name)
    assert weights.published is not None
    has_classifier = "num_classes" in weights.init_args
    if not has_classifier and issubclass(kind, VideoClassifier):
        raise ValueError(
            f"checkpoint {name!r}: its file has no classifier; train one on its features with `python -m pipeline "
            "features` and `linear`, or start `fit` from it with --model.init_args.weights"
        )
    model = VideoClassifier.from_pretrained(name, None if has_classifier else _PLACEHOLDER_CLASSES)
    if not has_classifier:
        delattr(model.stages, model.endpoints_available[-1])
    clips = {**weights.published.clip_settings, "stream": type(model).stream_of(weights.init_args)}
    return TrainedCheckpoint(Path(weights.path), file_sha256(Path(weights.path)), model, clips, {}, published=name)


def open_data(
    trained: TrainedCheckpoint,
    root: Path,
    split: str,
    fold: str | None,
    options: InferenceOptions,
    same_classes: bool = True,
    allow_missing: bool = False,
    split_file: str | None = None,
) -> ShardedVideoDataModule:
    """Creates the data module for one split of a packed dataset, after all checks possible before the first batch.

    Args:
        trained: the checkpoint.
        root: folder of the packed dataset.
        split: split that `test_dataloader` and `predict_dataloader` read.
        fold: fold of datasets with folds; None takes the training's fold if the dataset is the same.
        options: views and loading; clip and frame settings that are not given are those of training.
        same_classes: whether the dataset's classes must be the checkpoint's; not needed for features.
        allow_missing: whether to leave out videos that cannot be decoded.
        split_file: split file of the dataset; None takes the training's if the dataset is the same.

    Raises:
        ValueError: the classes are not the checkpoint's; split, fold, split file or rendition do not exist; the split
            file has changed since the training; or the checkpoint has no clip settings and they are not given.
        ShardFormatError: the folder does not hold a complete dataset.
    """
    rendition = options.rendition or _choose_rendition(trained, root, options.resize is not None)
    settings = data_settings(trained, options) | {"rendition": rendition}
    data = ShardedVideoDataModule(
        str(root),
        **settings,
        test_split=split,
        predict_split=split,
        fold=fold,
        split_file=split_file or trained_split_file(trained.dataset, root),
        allow_missing=allow_missing,
    )
    if split_file is None:
        refuse_changed_split_file(trained.path, trained.dataset, data.index.split_file)
    if fold is None and data.index.folds and trained.has_splits_of(data.index):
        data.options = replace(data.options, fold=trained.dataset["fold"])
    if same_classes:
        if data.has_timelines:
            raise ValueError(
                f"data={str(root)!r}: its labels have times; score the list of segments that it was packed from, with "
                "`evaluate --timeline --annotations LIST`"
            )
        if not data.class_names:
            raise ValueError(
                f"data={str(root)!r}: its videos have no labels, and scores are evaluated against labels; pack a list "
                "with a column label, or use `classify` or `features`"
            )
        task = getattr(trained.model, "task", "single_label")
        remedy = "choose a dataset of the checkpoint's task, or train on this one"
        refuse_other_task(f"checkpoint {trained.name!r}", task, str(root), data.index.task, remedy)
        _refuse_other_classes(trained, data.class_names, root, data.index.manifest.encode.get("label_from"))
    rows = split_row_numbers(data)
    if same_classes:
        refuse_unlabelled_videos(data.index, rows, split, root)
    return data


def data_settings(trained: TrainedCheckpoint, options: InferenceOptions) -> dict[str, Any]:
    """Returns clips, views and loading as options of the data module; clip settings not given are those of training.

    Raises:
        ValueError: the checkpoint has no clip settings and they are not given.
    """
    overrides = vars(options)
    given = {name: overrides[name] for name in CLIP_SETTINGS if overrides.get(name) is not None}
    if "frame_interval" in given:
        given.setdefault("fps", None)  # which would take precedence
    clips = trained.clips | given
    if not {"num_frames", "crop_size"} <= clips.keys():
        raise ValueError(
            f"checkpoint {str(trained.path)!r} does not say what its clips were like (it was not trained by "
            "ShardedVideoDataModule): give --num-frames and --crop-size"
        )
    return clips | options.data_options() | loading_settings(options, options.accelerator, options.devices)


def loading_settings(options: LoaderOptions, accelerator: str, devices: int) -> dict[str, Any]:
    """Returns loading as options of the data module; workers and bytes of a batch that are not given are the device's.

    Args:
        options: options of the loader.
        accelerator: Lightning's accelerator.
        devices: ranks on this machine.
    """
    loading = {field.name: getattr(options, field.name) for field in fields(LoaderOptions)}
    device = inference_device(accelerator)
    if options.num_workers is None:
        loading["num_workers"] = loader_workers(device, devices)
    return loading | {"eval_batch_bytes": batch_bytes(device)}


def _choose_rendition(trained: TrainedCheckpoint, root: Path, is_resized: bool) -> RenditionChoice:
    """Returns the rendition of the training for the same dataset without `resize`; else `auto`."""
    manifest = open_manifest(root)
    trained_on = trained.dataset.get("rendition")
    is_same = manifest.family == trained.family and not is_resized
    return (
        trained_on if is_same and trained_on in [rendition.short_side for rendition in manifest.renditions] else "auto"
    )


def split_row_numbers(data: ShardedVideoDataModule) -> np.ndarray:
    """Returns the row numbers of the videos that the data module will read, int64, ascending."""
    return data.index.readable_rows(data.options.test_split, data.options.fold)


def _refuse_other_classes(trained: TrainedCheckpoint, found: Sequence[str], root: Path, label_from: str | None) -> None:
    """`refuse_other_classes`, with advice how to renumber a dataset that has some of the checkpoint's classes.

    `label_from` is the option with which foreign tars were indexed; None for tars that `pack` wrote.
    """
    checkpoint_name = f"checkpoint {trained.name!r}"
    try:
        refuse_other_classes(trained.model.class_names, found, checkpoint_name, str(root))
    except ValueError as error:
        if not set(found) <= set(trained.model.class_names):
            raise
        index_options = ""
        if label_from is not None:
            index_options = f" --label-from {shlex.quote(label_from)}, and the other options that it was indexed with"
        raise ValueError(
            f"{error}; number them as the checkpoint does, without packing again: python -m pipeline weights classes "
            f"{shlex.quote(str(trained.name))} > classes.txt && python -m pipeline index {shlex.quote(str(root))} "
            f"--classes classes.txt{index_options}"
        ) from None
