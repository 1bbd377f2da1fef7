"""`ShardedVideoDataModule`: shards to batches, for training, validation, test and feature export."""

from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from datamodules.batch import ClipBatch
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.renditions import open_rendition
from datamodules.loading.data_options import DataOptions
from datamodules.loading.loader_options import choose_decoder, warn_of_decord
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.loading.resume import dataset_state, recorded_order, resume_point
from datamodules.loading.split_loaders import SplitLoaders
from datamodules.loading.training_progress import TrainingProgress
from datamodules.storage.remote_files import split_root
from datamodules.transforms.flip_safety import unmirrored_labels
from datamodules.transforms.three_crops import cut_crops
from datamodules.transforms.yuv420 import to_rgb


class ShardedVideoDataModule(pl.LightningDataModule):
    """Reads a packed dataset; every rank takes the same number of steps, evaluation sees every video exactly once.

    Rank and world size come from the trainer, in this process, never from a DataLoader worker. The order of an epoch
    and the augmentation depend on `seed` and the epoch alone. The state in a checkpoint is global: a run resumes at the
    exact sample, also with another number of ranks or workers.

    Args:
        root: folder of the packed dataset, with index.parquet and dataset.json; or its URL, http(s)://, s3:// (pip
            install s3fs), gs:// (gcsfs) or another that fsspec knows. Videos are read from there one by one.
        **options: fields of `DataOptions`, where each is documented.

    Attributes:
        options: all options but the dataset; replaced as a whole where one is changed (`dataclasses.replace`).
        already_predicted: rows of the index that prediction leaves out, set before its loader is made; None for none.

    Raises:
        ValueError: an argument out of range, a split, fold or rendition that does not exist, too few videos, a flip
            that would turn one class into another, sampling options that do not go together.
        ShardFormatError: the folder holds no whole dataset.
    """

    options: DataOptions

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__()
        self.options = DataOptions(**options)
        self.save_hyperparameters({"root": root} | asdict(self.options), logger=False)  # plain data, for checkpoints
        self.root = split_root(root)
        self.augmentation = self.options.device_augmentation()
        self.decoder = choose_decoder(self.options.decoder, self.options.pixels)
        self.already_predicted: np.ndarray | None = None
        self._progress = TrainingProgress()

    @cached_property
    def index(self) -> DatasetIndex:
        """The index of the dataset, of the rendition that is read; opened at first use."""
        index = open_rendition(self.root, self.options.rendition, self.options.resize, self.options)
        warn_of_decord(self.decoder, index)
        return index

    @property
    def class_names(self) -> list[str]:
        """Names of the K classes, in label order; the model takes them from here."""
        return self.index.classes

    @property
    def training_captions(self) -> list[str]:
        """All captions of the training split, as batches carry them; networks that describe learn their words here."""
        rows = self.index.readable_rows(self.options.train_split, self.options.fold)
        captions, labels = self.index.column("captions", rows), self.index.column("label", rows)
        return [one for of, label in zip(captions, labels, strict=True) for one in of or [self.class_names[label]]]

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint, a prediction or a feature file says about its data; see `datamodules.loading.resume`."""
        return dataset_state(self.index, self.root, self.options, self.decoder)

    def setup(self, stage: str) -> None:
        """Opens the index and refuses what cannot work, before the first batch."""
        if stage == TrainerFn.FITTING:
            unmirrored_labels(self.class_names, self.options.flip_probability, self.options.sided_classes)

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Makes RGB of planes, cuts the crops of tests, changes training clips; on the device, nothing twice."""
        return self.augmentation(cut_crops(to_rgb(batch)))

    def train_dataloader(self) -> PlannedLoader:
        """Random clips; the same number of steps on every rank."""
        loaders = self._loaders
        return loaders.training(self._progress.begin(loaders, self.trainer))

    def val_dataloader(self) -> PlannedLoader | list[Any]:
        """Evenly spread clips of the validation split; no loader where `val_split` is null."""
        return [] if self.options.val_split is None else self._loaders.validation()

    def test_dataloader(self) -> PlannedLoader:
        """All views of the test split, every video once."""
        return self._loaders.test()

    def predict_dataloader(self) -> PlannedLoader:
        """All clips of the split to export, every video once."""
        return self._loaders.prediction(self.already_predicted)

    @property
    def _loaders(self) -> SplitLoaders:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return SplitLoaders(self.index, self.options, self.decoder, rank, world_size)

    def share_of_epoch(self, steps: int) -> float:
        """The share of the epoch's samples that all ranks together have trained on after `steps` of its steps."""
        return self._progress.share_of_epoch(steps)

    def samples_seen(self, steps: int) -> int:
        """Training videos that all ranks together have had, of all epochs, `steps` steps of this one done."""
        return self._progress.samples_seen(steps)

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, for all ranks together: what a checkpoint says."""
        data = {"dataset": self.identity, "order": recorded_order(self.options)}
        return data | self._progress.state(self._loaders, self.trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where a checkpoint was written; only when training resumes."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING or "epoch" not in state_dict:
            return
        self._progress.resume = resume_point(state_dict, self.identity, self.options)
