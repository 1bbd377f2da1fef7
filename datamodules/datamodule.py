"""`ShardedVideoDataModule`: data module that reads a packed dataset for training, validation, test and export."""

from dataclasses import asdict
from functools import cached_property
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.annotations.records import Task
from datamodules.batch import ClipBatch
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.renditions import open_rendition
from datamodules.loading.data_options import DataOptions
from datamodules.loading.flow_input import refuse_without_flow
from datamodules.loading.loader_options import resolve_logged_decoder, warn_about_decord
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.loading.resume import dataset_state, order_state, resume_point
from datamodules.loading.split_loaders import SplitLoaders
from datamodules.loading.training_plan import class_frequencies, count_unlabelled
from datamodules.loading.training_progress import TrainingProgress
from datamodules.storage.remote_files import split_root
from datamodules.transforms.flip_safety import unmirrored_labels
from datamodules.transforms.three_crops import cut_crops
from datamodules.transforms.yuv420 import to_rgb


class ShardedVideoDataModule(pl.LightningDataModule):
    """Data module of a packed dataset; ranks train the same number of steps, evaluation sees every video exactly once.

    Rank and world size are read from the trainer, never in a data loader worker. The order of an epoch and the
    augmentation depend on `seed` and the epoch alone. The state in a checkpoint is global: a run resumes at the exact
    sample, even with another number of ranks or workers.

    Args:
        root: folder of the packed dataset, with index.parquet and dataset.json; or its URL, http(s)://, s3:// (pip
            install s3fs), gs:// (gcsfs) or another that fsspec knows. Videos are then read one by one.
        **options: fields of `DataOptions`, where each is documented.

    Attributes:
        options: all options except the root; immutable, changed with `dataclasses.replace`.
        already_predicted: row numbers that the prediction loader leaves out, set before it is created; None for none.

    Raises:
        ValueError: an argument out of range, a split, fold or rendition that does not exist, too few videos, a flip
            that would turn one class into another, or conflicting sampling options.
        ShardFormatError: the folder does not hold a complete dataset.
    """

    options: DataOptions

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__()
        self.options = DataOptions(**options)
        self.save_hyperparameters({"root": root} | asdict(self.options), logger=False)  # plain data, for checkpoints
        self.root = split_root(root)
        self.augmentation = self.options.device_augmentation()
        self.decoder = resolve_logged_decoder(self.options.decoder, self.options.pixels)
        self.already_predicted: np.ndarray | None = None
        self._progress = TrainingProgress()

    @classmethod
    def from_index(cls, index: DatasetIndex, **options: Any) -> Self:
        """Creates a data module of an index that is open already.

        Args:
            index: the index.
            **options: fields of `DataOptions`.
        """
        data = cls(str(index.root), **options)
        data.index = index
        refuse_without_flow(index, data.options.stream)
        warn_about_decord(data.decoder, index)
        return data

    @cached_property
    def index(self) -> DatasetIndex:
        """Index of the rendition that is read; opened at first use."""
        options = self.options
        index = open_rendition(self.root, options.rendition, options.resize, options, options.split_file)
        refuse_without_flow(index, options.stream)
        warn_about_decord(self.decoder, index)
        return index

    @property
    def class_names(self) -> list[str]:
        """Names of the K classes in label order; linked to the model."""
        return self.index.classes

    @property
    def task(self) -> Task:
        """`single_label`, or `multi_label` for a dataset of several labels a video; linked to the model."""
        return self.index.task

    @property
    def has_timelines(self) -> bool:
        """Whether labels have times, so that each frame has its own."""
        return self.index.has_timelines

    @property
    def training_captions(self) -> list[str]:
        """All captions of the training split, from which captioning networks build their vocabulary."""
        rows = self.index.readable_rows(self.options.train_split, self.options.fold)
        captions, label, labels = (self.index.column(name, rows) for name in ("captions", "label", "labels"))
        return [
            caption
            for video_captions, single, several in zip(captions, label, labels, strict=True)
            for caption in video_captions or [self.class_names[one] for one in several or [single] if one >= 0]
        ]

    @property
    def class_frequencies(self) -> list[float]:
        """The fraction of an epoch's training videos in each of K classes, from which class weights are computed."""
        return class_frequencies(self.index, self._loaders.training_rows, self.options.class_balance)

    def count_unlabelled(self, stage: str) -> int:
        """Returns the number of videos without a label in the splits that a stage of the trainer compares with labels.

        In a dataset of several labels a video, only those of splits without any label.

        Args:
            stage: `fit`, `validate` or `test`.
        """
        options, index = self.options, self.index
        if (
            self.task == "single_label"
            and not index.has_timelines
            and all(sum(split.classes.values()) == split.videos for split in index.manifest.splits.values())
        ):
            return 0
        splits = {"fit": [options.train_split, options.val_split], "validate": [options.val_split]}
        rows = [index.rows(split, options.fold) for split in splits.get(stage, [options.test_split]) if split]
        return sum(count_unlabelled(index, of_split) for of_split in rows)

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of the data in checkpoints, predictions and feature files; see `datamodules.loading.resume`."""
        return dataset_state(self.index, self.root, self.options, self.decoder, self.options.stream)

    def setup(self, stage: str) -> None:
        """Refuses flips that would turn one class into another, before the first batch of a fit."""
        if stage == TrainerFn.FITTING:
            unmirrored_labels(self.class_names, self.options.flip_probability, self.options.sided_classes)

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Converts planes to RGB, cuts the crops of tests and augments training clips, on the device."""
        return self.augmentation(cut_crops(to_rgb(batch)))

    def train_dataloader(self) -> PlannedLoader:
        """Loader of random clips, with the same number of steps on every rank."""
        loaders = self._loaders
        return loaders.training(self._progress.begin(loaders, self.trainer))

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Loader of evenly spread clips of the validation split; empty if `val_split` is null."""
        return [] if self.options.val_split is None else self._loaders.validation()

    def test_dataloader(self) -> PlannedLoader:
        """Loader of all views of the test split, every video once."""
        return self._loaders.test()

    def predict_dataloader(self) -> PlannedLoader:
        """Loader of all views of the split to predict, every video once."""
        return self._loaders.prediction(self.already_predicted)

    @property
    def _loaders(self) -> SplitLoaders:
        if self.trainer is None:
            return SplitLoaders(self.index, self.options, self.decoder, 0, 1)
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        device = self.trainer.strategy.root_device
        gpu = device if device.type == "cuda" else None  # on a CPU there is nothing to move
        return SplitLoaders(self.index, self.options, self.decoder, rank, world_size, gpu)

    def share_of_epoch(self, steps: int) -> float:
        """Share of the epoch's samples that all ranks have trained on after `steps` steps of the epoch, in [0, 1]."""
        return self._progress.share_of_epoch(steps)

    def samples_seen(self, steps: int) -> int:
        """Number of training samples of all ranks and epochs after `steps` steps of the present epoch."""
        return self._progress.samples_seen(steps)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of training over all ranks, and the identity and order of the data."""
        data = {"dataset": self.identity, "order": order_state(self.options)}
        return data | self._progress.state(self._loaders, self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the position of training; only when a fit resumes."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING or "epoch" not in state_dict:
            return
        self._progress.resume = resume_point(state_dict, self.identity, self.options)
