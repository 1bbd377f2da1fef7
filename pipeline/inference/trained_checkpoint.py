"""A trained checkpoint, and the data module that feeds it videos to judge or export as it was trained to see them."""

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.open_dataset import open_manifest
from datamodules.dataset.renditions import WantedRendition
from datamodules.leakage.training_fingerprint import TrainingFingerprint
from datamodules.loading.loader_options import LoaderOptions
from datamodules.storage.local_files import file_sha256
from datamodules.video.decoding import describe_decoder
from lightning_modules import VideoClassifier, VideoNetwork
from lightning_modules.layers.batch_norm_folding import fold_batch_norms
from lightning_modules.tasks.saved_network import plain_data
from lightning_modules.weights.checkpoint_file import read_checkpoint, trained_on
from lightning_modules.weights.pretrained import read_weights
from lightning_modules.weights.published_checkpoints import PUBLISHED
from pipeline.inference.inference_options import InferenceOptions
from pipeline.metrics.scored_videos import refuse_other_classes

# What a clip is: taken from the checkpoint where nobody says otherwise.
CLIP_SETTINGS = ("num_frames", "frame_interval", "fps", "crop_size", "resize", "short_videos", "segments", "still")
_BATCH_BYTES = 2**23  # of uint8 clips: a video of ten of C3D's, whose first layer then takes 0.5 GB
_LIBRARIES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "pyarrow", "scikit-learn")


class TrainedCheckpoint(NamedTuple):
    """A checkpoint that `fit` wrote.

    Attributes:
        path: of the file.
        sha256: of the file's bytes, hexadecimal.
        model: the network, on the CPU, in evaluation mode, its batch norms folded into its convolutions: for inference,
            not to be trained or saved.
        clips: `CLIP_SETTINGS` as they were in training; empty where it was not trained by `ShardedVideoDataModule`.
        dataset: what the data module said of itself in training: name, identity, rendition, train_split, fold, decoder;
            empty likewise.
        seen: what the videos of the training are recognized by, then those of the trainings before it, whose weights it
            started from; None in place of what is not known.
        published: its name, where it is a published one.
    """

    path: Path
    sha256: str
    model: VideoNetwork
    clips: dict[str, Any]
    dataset: dict[str, Any]
    seen: tuple[TrainingFingerprint | None, ...] = (None,)
    published: str | None = None

    @property
    def name(self) -> str:
        """What the checkpoint is called on a command line: a published name, or its path."""
        return self.published or str(self.path)

    @property
    def family(self) -> str | None:
        """What all renditions of the dataset have in common; None where it is not known."""
        return self.dataset.get("family", self.dataset.get("identity"))


def open_checkpoint(
    path: Path, allow: Sequence[str] | None = None, kind: type[VideoNetwork] = VideoNetwork
) -> TrainedCheckpoint:
    """Loads a checkpoint, ours or a published one; nothing in it is trusted, see `VideoNetwork.load`.

    Args:
        path: of the file; or a name that `python -m pipeline weights list` prints.
        allow: modules that model classes may come from, besides ours.
        kind: what the network must be, such as `VideoClassifier`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of a VideoNetwork of this kind, or of a class that is not allowed.
    """
    named = not path.exists() and path.name == str(path) and any(row.name == path.name for row in PUBLISHED)
    published = named and issubclass(VideoClassifier, kind)
    trained = _open_published(path.name) if published else _open_trained(path, allow, kind)
    fold_batch_norms(trained.model)
    return trained


def _open_trained(path: Path, allow: Sequence[str] | None, kind: type[VideoNetwork]) -> TrainedCheckpoint:
    checkpoint = read_checkpoint(path)
    model = kind.from_checkpoint(checkpoint, str(path), allow or ())
    settings = checkpoint.get("datamodule_hyper_parameters", {})
    clips = {name: settings[name] for name in CLIP_SETTINGS if name in settings}
    states = [
        state for state in checkpoint.values() if isinstance(state, dict) and isinstance(state.get("dataset"), dict)
    ]
    state = states[0] if states else {"dataset": {}}
    seen = tuple(None if one is None else TrainingFingerprint.from_state(one) for one in trained_on(checkpoint))
    return TrainedCheckpoint(path, file_sha256(path), model, clips, state["dataset"], seen)


def _open_published(name: str) -> TrainedCheckpoint:
    told = read_weights(name)
    assert told.published is not None
    if told.init_args.get("in_channels", 3) != 3:
        raise ValueError(f"checkpoint {name!r}: takes optical flow, and the datasets here hold RGB")
    model = VideoClassifier.from_pretrained(name)
    return TrainedCheckpoint(
        Path(told.path), file_sha256(Path(told.path)), model, told.published.clip_settings, {}, published=name
    )


def open_data(
    trained: TrainedCheckpoint,
    root: Path,
    split: str,
    fold: str | None,
    options: InferenceOptions,
    same_classes: bool = True,
    allow_missing: bool = False,
) -> ShardedVideoDataModule:
    """The data module for one split of a packed dataset, and every check that can be made before the first batch.

    Args:
        trained: the checkpoint.
        root: folder of the packed dataset.
        split: what `test_dataloader` and `predict_dataloader` will read.
        fold: for datasets with folds; None takes the one trained on, if it is the same dataset.
        options: how the videos are seen and loaded; clips and frames are as in training where nothing is said.
        same_classes: whether the dataset's classes must be the checkpoint's; features need no such thing.
        allow_missing: leave out videos that cannot be decoded.

    Raises:
        ValueError: the classes are not those of the checkpoint, there is no such split, fold or rendition, the
            checkpoint does not say what a clip is, or the network cannot take such clips.
        ShardFormatError: the folder holds no whole dataset.
    """
    overrides = vars(options)
    chosen = {name: overrides[name] for name in (*CLIP_SETTINGS, "rendition") if overrides.get(name) is not None}
    if "frame_interval" in chosen:
        chosen.setdefault("fps", None)  # which would otherwise win
    shape = trained.clips | chosen
    if not {"num_frames", "crop_size"} <= shape.keys():
        raise ValueError(
            f"checkpoint {str(trained.path)!r} does not say what its clips were like (it was not trained by "
            "ShardedVideoDataModule): give --num-frames and --crop-size"
        )
    settings = {"rendition": _rendition(trained, root, chosen)} | shape | options.data_options()
    settings |= {field.name: overrides[field.name] for field in fields(LoaderOptions)}
    data = ShardedVideoDataModule(
        str(root),
        **settings,
        test_split=split,
        predict_split=split,
        fold=fold,
        eval_batch_bytes=_BATCH_BYTES,
        allow_missing=allow_missing,
    )
    if fold is None and data.index.folds and data.index.manifest.family == trained.family:
        data.options = replace(data.options, fold=trained.dataset["fold"])
    if same_classes:
        _refuse_classes_unlike(trained, data.class_names, root, data.index.manifest.encode.get("label_from"))
    split_row_numbers(data)
    return data


def _rendition(trained: TrainedCheckpoint, root: Path, chosen: dict[str, Any]) -> WantedRendition:
    """The one trained on, where these are the same videos in the same sizes; else by what frames are resized to."""
    manifest = open_manifest(root)
    trained_on = trained.dataset.get("rendition")
    same = manifest.family == trained.family and "resize" not in chosen
    return trained_on if same and trained_on in [one.short_side for one in manifest.renditions] else "auto"


def split_row_numbers(data: ShardedVideoDataModule) -> np.ndarray:
    """Row numbers of the videos that the data module will read, int64, in the order of the index."""
    return data.index.readable_rows(data.options.test_split, data.options.fold)


def quarantined_keys(data: ShardedVideoDataModule) -> list[str]:
    """Keys of the videos of the split that are quarantined, so not read; in the order of the index."""
    index = data.index
    rows = index.rows(data.options.test_split, data.options.fold)
    return list(index.column("key", index.quarantined[np.isin(index.quarantined, rows, assume_unique=True)]))


def _refuse_classes_unlike(
    trained: TrainedCheckpoint, found: Sequence[str], root: Path, label_from: str | None
) -> None:
    """Like `refuse_other_classes`; of a dataset with some of the checkpoint's classes it says how to number them.

    `label_from` is how others' tars were indexed, None for tars of ours.
    """
    named = f"checkpoint {trained.name!r}"
    try:
        refuse_other_classes(trained.model.class_names, found, named, str(root))
    except ValueError as error:
        if not set(found) <= set(trained.model.class_names):
            raise
        again = ""
        if label_from is not None:
            again = f" --label-from {shlex.quote(label_from)}, and the other options that it was indexed with"
        raise ValueError(
            f"{error}; number them as the checkpoint does, without packing again: python -m pipeline weights classes "
            f"{shlex.quote(str(trained.name))} > classes.txt && python -m pipeline index {shlex.quote(str(root))} "
            f"--classes classes.txt{again}"
        ) from None


def try_one_clip(trained: TrainedCheckpoint, data: ShardedVideoDataModule, layer: str | None = None) -> Tensor:
    """What a layer, by default the last one, gives for one black clip, on the CPU: float (1, ...).

    For whole videos, two lengths are tried.

    Raises:
        ValueError: no such layer, or the network was built for clips of another shape.
    """
    num_frames, size = data.options.num_frames, data.options.crop_size
    layer = layer or trained.model.endpoints_available[-1]
    whole = data.options.test_sampling == "whole"
    if layer not in trained.model.endpoints_available:
        trained.model.endpoints(torch.empty(0), [layer])  # raises, and lists the layers
    try:
        with torch.inference_mode():
            if whole:
                trained.model.endpoints(torch.zeros(1, 3, 2 * num_frames, size, size), [layer])
            return trained.model.endpoints(torch.zeros(1, 3, num_frames, size, size), [layer])[layer]
    except (RuntimeError, ValueError) as error:
        wanted = "clips of any length, for whole videos" if whole else f"num_frames={num_frames}, crop_size={size}"
        raise ValueError(
            f"{wanted}: the {type(trained.model).__name__} of {trained.path} was built for other clips "
            f"({str(error).splitlines()[0]})"
        ) from error


def describe_checkpoint(trained: TrainedCheckpoint, data: ShardedVideoDataModule) -> dict[str, Any]:
    """Where predictions or features come from, as plain data for the files' metadata."""
    options = data.options
    sampling = {name: plain_data(getattr(options, name)) for name in CLIP_SETTINGS}
    spread = options.clip_step is None and options.test_sampling == "uniform"
    sampling["num_clips"] = options.num_clips if spread else None
    sampling |= {"clip_step": options.clip_step, "num_crops": options.num_crops}
    if options.test_sampling == "whole":
        sampling["max_frames"] = options.max_frames
    return {
        "checkpoint": str(trained.path),
        "checkpoint_sha256": trained.sha256,
        "model": f"{type(trained.model).__module__}.{type(trained.model).__qualname__}",
        "dataset": data.index.name,
        "dataset_identity": data.index.identity,
        "rendition": data.identity["rendition"],
        "split": options.test_split,
        "fold": None if options.fold is None else str(options.fold),
        "quarantined": quarantined_keys(data),
        "sampling": sampling,
        "decoder": describe_decoder(data.decoder),
        "classes": list(data.class_names),
        "versions": library_versions(),
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers may depend on."""
    return {name: version(name) for name in _LIBRARIES}
