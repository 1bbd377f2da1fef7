"""The loaders of a data module: which videos of a split, which clips of them, in which batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.clip_reader import ClipReader
from datamodules.loading.loader_options import log_once, worker_options
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.sampling.batch_sampler import EvaluationRequests, TrainRequests
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape, Method
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.flip_safety import SidedClasses, unmirrored_labels
from datamodules.transforms.yuv420 import refuse_resized

TestSampling = Literal["uniform", "dense", "whole"]


@dataclass(frozen=True)
class SplitLoaders:
    """Makes the loaders of one rank.

    Attributes:
        index: the dataset.
        hparams: arguments of `ShardedVideoDataModule`, by name; what they mean, it says.
        shape: of a clip.
        decoder: its name, resolved.
        rank: whose batches.
        world_size: how many ranks there are.
    """

    index: DatasetIndex
    hparams: Mapping[str, Any]
    shape: ClipShape
    decoder: str
    rank: int
    world_size: int

    @property
    def training_rows(self) -> np.ndarray:
        """Of the index: those of the training split, int64."""
        return self.index.rows(self.hparams["train_split"], self.hparams["fold"])

    def train_plan(self) -> TrainPlan:
        """The order of the training split, for all ranks."""
        hp, rows = self.hparams, self.training_rows
        return TrainPlan(
            len(rows),
            hp["batch_size"],
            self.world_size,
            hp["seed"],
            hp["shuffle"],
            self.index.shard_sizes(rows) if hp["shuffle"] == "shards" else (),
            hp["shard_window"],
            hp["drop_last"],
        )

    def training(self, requests: TrainRequests) -> PlannedLoader:
        """Random clips of the training split, in the order that is asked for."""
        hp, rows = self.hparams, self.training_rows
        transform = TrainTransform(hp["crop_size"], hp["resize"], hp["random_resized_crop"], hp["flip_probability"])
        sampler = ClipSampler(self.shape, "random", hp["clips_per_video"], still=hp["still"])
        # The data module's `setup` has refused what is to be refused; a loader made without it mirrors no sided class.
        sided: SidedClasses = "keep" if hp["sided_classes"] == "refuse" else hp["sided_classes"]
        unmirrored = unmirrored_labels(self.index.classes, hp["flip_probability"], sided)
        reader = self._reader(rows, sampler, transform, skip_errors=True, unmirrored=unmirrored)
        self._say_left_out(rows, hp["train_split"])
        max_skipped = int(hp["max_skipped_fraction"] * len(rows) / self.world_size)
        return PlannedLoader(reader, requests, max_skipped, **worker_options(hp))

    def validation(self) -> PlannedLoader:
        """Evenly spread clips of the validation split."""
        return self._evaluation(self.hparams["val_split"], "uniform", self.hparams["val_num_clips"], 1)

    def test(self) -> PlannedLoader:
        """All views of the test split."""
        hp = self.hparams
        views = (hp["test_sampling"], hp["num_clips"], hp["num_crops"])
        return self._evaluation(hp["test_split"], *views, allow_missing=hp["allow_missing"])

    def prediction(self, already_predicted: np.ndarray | None) -> PlannedLoader:
        """All views of the split to predict, without these rows of it."""
        hp = self.hparams
        sampling: TestSampling = hp["test_sampling"] if hp["clip_step"] is None else "dense"
        views = (sampling, hp["num_clips"], hp["num_crops"])
        missing = hp["allow_missing"]
        return self._evaluation(hp["predict_split"], *views, allow_missing=missing, done=already_predicted)

    def _evaluation(
        self,
        split: str,
        method: Method,
        num_clips: int,
        num_crops: int,
        allow_missing: bool = False,
        done: np.ndarray | None = None,
    ) -> PlannedLoader:
        hp = self.hparams
        rows = self.index.readable_rows(split, hp["fold"])
        self._say_left_out(self.index.rows(split, hp["fold"]), split)
        if method == "dense":  # the longest video says how many clips there can be
            num_clips = -(-int(np.max(self.index.column("num_frames", rows), initial=1)) // hp["clip_step"])
        sampler = ClipSampler(self.shape, method, num_clips, hp["clip_step"] or 1, hp["still"], hp["max_frames"])
        transform = EvalTransform(hp["crop_size"], hp["resize"], num_crops)
        reader = self._reader(rows, sampler, transform, skip_errors=allow_missing)
        video_bytes = num_clips * num_crops * hp["num_frames"] * hp["crop_size"] ** 2 * 3
        # Whole videos differ in length: each is a batch.
        batch_size = 1 if method == "whole" else max(1, min(hp["batch_size"], hp["eval_batch_bytes"] // video_bytes))
        is_done = None if done is None or not len(done) else np.isin(rows, done)
        requests = EvaluationRequests(len(rows), batch_size, self.rank, self.world_size, is_done)
        return PlannedLoader(reader, requests, len(rows) if allow_missing else 0, **worker_options(hp))

    def _reader(
        self,
        rows: np.ndarray,
        sampler: ClipSampler,
        transform: TrainTransform | EvalTransform,
        skip_errors: bool,
        unmirrored: frozenset[int] = frozenset(),
    ) -> ClipReader:
        hp = self.hparams
        if hp["pixels"] == "i420" and len(rows):
            sizes = (np.asarray(self.index.column(name, rows)) for name in ("height", "width"))
            if count := refuse_resized(transform, *sizes):
                log_once(f"pixels='i420': {count} of {len(rows)} videos are resized; batches with them travel in RGB")
        return ClipReader(
            self.index,
            rows,
            sampler,
            transform,
            self.decoder,
            hp["seed"],
            skip_errors,
            hp["crop_size"],
            unmirrored=unmirrored,
            captions=hp["captions"],
            pixels=hp["pixels"],
        )

    def _say_left_out(self, rows: np.ndarray, split: str) -> None:
        quarantined = self.index.quarantined
        count = int(np.isin(quarantined, rows, assume_unique=True).sum()) if len(quarantined) else 0
        if count:
            log_once(f"{self.index.name}: {count} of {len(rows)} videos of {split} are quarantined and not read")
