"""SplitLoaders: creates the loaders of a data module for each split."""

from dataclasses import dataclass

import numpy as np
import torch

from datamodules.batch import STREAM_CHANNELS
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.clip_reader import ClipReader
from datamodules.loading.data_options import DataOptions
from datamodules.loading.loader_options import log_once
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.loading.training_plan import make_training_plan
from datamodules.sampling.batch_sampler import EvaluationRequests, TrainRequests
from datamodules.sampling.clip_options import TestSampling
from datamodules.sampling.clip_sampling import ClipSampler, Method
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.flip_safety import SidedClasses, unmirrored_labels
from datamodules.transforms.yuv420 import count_unsupported


@dataclass(frozen=True)
class SplitLoaders:
    """Factory of the loaders of one rank.

    Attributes:
        index: the index of the dataset.
        options: options of the data module.
        decoder: resolved name of the decoder.
        rank: global rank of this process.
        world_size: number of ranks.
        device: the GPU of the network, to which batches are moved one ahead, through page-locked memory, which makes a
            context on it; None where the network is on a CPU.
    """

    index: DatasetIndex
    options: DataOptions
    decoder: str
    rank: int
    world_size: int
    device: torch.device | None = None

    @property
    def training_rows(self) -> np.ndarray:
        """Row numbers of the training split in the index, int64."""
        return self.index.rows(self.options.train_split, self.options.fold)

    def train_plan(self) -> TrainPlan:
        """Creates the plan of the training split for all ranks."""
        return make_training_plan(
            self.index, self.training_rows, self.options, self.options.batch_size, self.world_size
        )

    def training(self, requests: TrainRequests) -> PlannedLoader:
        """Loader of random clips of the training split, in the order of the requests."""
        options, rows = self.options, self.training_rows
        transform = TrainTransform(
            options.crop_size, options.resize, options.random_resized_crop, options.flip_probability
        )
        sampler = ClipSampler(options.clip_shape(), "random", options.clips_per_video, still=options.still)
        # `setup` of the data module refuses sided classes; a loader created without it does not mirror them.
        sided: SidedClasses = "keep" if options.sided_classes == "refuse" else options.sided_classes
        unmirrored = unmirrored_labels(self.index.classes, options.flip_probability, sided)
        reader = self._make_reader(rows, sampler, transform, skip_errors=True, unmirrored=unmirrored)
        self._log_quarantined(rows, options.train_split)
        max_skipped = int(options.max_skipped_fraction * len(rows) / self.world_size)
        return self._make_loader(reader, requests, max_skipped)

    def validation(self) -> PlannedLoader:
        """Loader of evenly spread clips of the validation split."""
        if self.options.val_split is None:
            raise ValueError("val_split=null: there is nothing to validate on")
        return self._evaluation_loader(self.options.val_split, "uniform", self.options.val_num_clips, 1)

    def test(self) -> PlannedLoader:
        """Loader of all views of the test split."""
        options = self.options
        views = (options.test_sampling, options.num_clips, options.num_crops)
        return self._evaluation_loader(options.test_split, *views, allow_missing=options.allow_missing)

    def prediction(self, already_predicted: np.ndarray | None) -> PlannedLoader:
        """Loader of all views of the split to predict, without the rows in `already_predicted`."""
        options = self.options
        sampling: TestSampling = options.test_sampling if options.clip_step is None else "dense"
        views, missing = (sampling, options.num_clips, options.num_crops), options.allow_missing
        return self._evaluation_loader(
            options.predict_split, *views, allow_missing=missing, done_rows=already_predicted
        )

    def _evaluation_loader(
        self,
        split: str,
        method: Method,
        num_clips: int,
        num_crops: int,
        allow_missing: bool = False,
        done_rows: np.ndarray | None = None,
    ) -> PlannedLoader:
        options = self.options
        rows = self.index.readable_rows(split, options.fold)
        self._log_quarantined(self.index.rows(split, options.fold), split)
        step = options.clip_step or 1
        if method == "dense":  # upper bound, from the longest video
            num_clips = -(-int(np.max(self.index.column("num_frames", rows), initial=1)) // step)
        sampler = ClipSampler(options.clip_shape(), method, num_clips, step, options.still, options.max_frames)
        transform = EvalTransform(options.crop_size, options.resize, num_crops)
        reader = self._make_reader(rows, sampler, transform, skip_errors=allow_missing)
        frame_bytes = options.crop_size**2 * STREAM_CHANNELS[options.stream]
        video_bytes = num_clips * num_crops * options.num_frames * frame_bytes
        # Whole videos differ in length: one per batch.
        max_batch_size = max(1, min(options.batch_size, options.eval_batch_bytes // video_bytes))
        batch_size = 1 if method == "whole" else max_batch_size
        is_done = None if done_rows is None or not len(done_rows) else np.isin(rows, done_rows)
        requests = EvaluationRequests(len(rows), batch_size, self.rank, self.world_size, is_done)
        max_skipped = len(rows) if allow_missing else 0
        return self._make_loader(reader, requests, max_skipped)

    def _make_loader(
        self, reader: ClipReader, requests: TrainRequests | EvaluationRequests, max_skipped: int
    ) -> PlannedLoader:
        is_on_gpu = self.device is not None and self.device.type == "cuda"
        workers = self.options.worker_arguments()
        return PlannedLoader(reader, requests, max_skipped, device=self.device, pin_memory=is_on_gpu, **workers)

    def _make_reader(
        self,
        rows: np.ndarray,
        sampler: ClipSampler,
        transform: TrainTransform | EvalTransform,
        skip_errors: bool,
        unmirrored: frozenset[int] = frozenset(),
    ) -> ClipReader:
        options = self.options
        if options.pixels == "i420" and len(rows):
            sizes = (np.asarray(self.index.column(name, rows)) for name in ("height", "width"))
            if count := count_unsupported(transform, *sizes):
                log_once(f"pixels='i420': {count} of {len(rows)} videos are resized; batches with them travel in RGB")
        return ClipReader(
            self.index,
            rows,
            sampler,
            transform,
            self.decoder,
            options.seed,
            skip_errors,
            options.crop_size,
            unmirrored=unmirrored,
            captions=options.captions,
            pixels=options.pixels,
            stream=options.stream,
        )

    def _log_quarantined(self, rows: np.ndarray, split: str) -> None:
        quarantined = self.index.quarantined
        count = int(np.isin(quarantined, rows, assume_unique=True).sum()) if len(quarantined) else 0
        if count:
            log_once(f"{self.index.name}: {count} of {len(rows)} videos of {split} are quarantined and not read")
