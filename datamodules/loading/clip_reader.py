"""ClipReader: dataset of a data loader worker: row ─▶ bytes ─▶ frame numbers ─▶ frames ─▶ windows ─▶ ClipBatch."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import STREAM_CHANNELS, ClipBatch, Stream, multi_hot
from datamodules.dataset.dataset_index import DatasetIndex, VideoEntry
from datamodules.loading.flow_input import open_frames
from datamodules.loading.shared_memory import BatchBuffer, MemoryPool
from datamodules.loading.view_maker import VideoTooLargeError, View, ViewMaker
from datamodules.loading.worker_heartbeat import IDLE, WorkerHeartbeats
from datamodules.optical_flow.frame_source import num_clip_frames
from datamodules.sampling.batch_sampler import Request
from datamodules.sampling.clip_sampling import ClipSampler, Integers
from datamodules.sampling.frame_labels import frame_labels
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import printable
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.crop_while_decoding import UnsupportedFramesError
from datamodules.transforms.three_crops import pad_and_stack
from datamodules.transforms.yuv420 import Pixels, stack_planes, supports_yuv420
from datamodules.video.decoding import DecodeError
from datamodules.video.video_container import TOO_LARGE

_log = logging.getLogger(__name__)


class ReadFailure(NamedTuple):
    """Result of a batch that could not be read: the error to raise in the training process, without a traceback."""

    message: str
    error: type[ValueError] = DecodeError


@dataclass(frozen=True)
class ClipReader(Dataset[ClipBatch | ReadFailure]):
    """Map-style dataset that reads planned batches; picklable, for workers under fork, forkserver and spawn.

    Attributes:
        index: the index of the dataset.
        rows: int64, row numbers of the split's videos in the index, by sample number.
        sampler: sampler of the clips of a video.
        transform: maps uint8 (T, H, W, C) to a random crop, or to a window with fixed crops, of height or width S.
        decoder: resolved name of the decoder.
        seed: key of the augmentation, together with epoch, sample and pass.
        skip_errors: whether videos that cannot be decoded are left out, logged and counted (training, and tests that
            allow it) instead of failing the batch.
        crop_size: S, for the shape of a batch without videos.
        heartbeats: heartbeats in which a data loader worker records what it reads; None without workers.
        memory: pool of the memory that batches are written to; None for fresh memory.
        unmirrored: labels of the classes whose clips are never mirrored.
        captions: whether batches contain the videos' captions.
        pixels: `rgb`; or `i420`, planes, for batches all of whose videos can be cropped in planes, `rgb` for others.
        stream: what the frames are: RGB, optical flow, or both.
        lost: reason and description, by row, of videos that took down their worker, which are not read again.
    """

    index: DatasetIndex
    rows: Integers
    sampler: ClipSampler
    transform: TrainTransform | EvalTransform
    decoder: str
    seed: int
    skip_errors: bool
    crop_size: int
    heartbeats: WorkerHeartbeats | None = None
    memory: MemoryPool | None = None
    unmirrored: frozenset[int] = frozenset()
    captions: bool = False
    pixels: Pixels = "rgb"
    stream: Stream = "rgb"
    lost: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def skips_lost_videos(self) -> bool:
        """Whether a video that takes down its worker is left out too: where plain files are read."""
        return self.skip_errors and not self.index.has_shards

    def __getitem__(self, request: Request) -> ClipBatch | ReadFailure:
        """Reads, decodes and crops the videos of one batch."""
        started = time.perf_counter()
        announced = self._rows_of(request.samples) + self._rows_of(request.ahead)
        wanted = [row for row in announced if not self.index.is_quarantined(row)]
        self.index.expect(wanted, self.stream != "flow", self.stream != "rgb" and self.index.has_shards)
        try:
            batch = self._read(request, self._choose_pixels(request))
        except UnsupportedFramesError:  # found while decoding: the batch is read again
            batch = self._read(request, "rgb")
        self._record(IDLE)
        if isinstance(batch, ReadFailure):
            return batch
        return batch._replace(load_seconds=time.perf_counter() - started)

    def _rows_of(self, samples: Integers | tuple[()]) -> list[int]:
        rows: list[int] = self.rows[np.asarray(samples, np.int64)].tolist()
        return rows

    def _choose_pixels(self, request: Request) -> Pixels:
        """Chooses the pixel format of a batch from the frame sizes in the index."""
        if self.pixels == "rgb":
            return "rgb"
        entries = [self.index.entry(row) for row in self._rows_of(request.samples)]
        all_supported = all(supports_yuv420(self.transform, entry.height, entry.width) for entry in entries)
        return self.pixels if all_supported else "rgb"

    def _read(self, request: Request, pixels: Pixels) -> ClipBatch | ReadFailure:
        maker = ViewMaker(
            self.sampler, self.transform, self.decoder, self.crop_size, self.unmirrored, pixels, self.stream
        )
        with BatchBuffer(self.memory) as buffer:
            batch = self._read_into(buffer, request, maker)
            if isinstance(batch, ReadFailure) or not len(batch.clips):
                return batch
            return batch._replace(lease=buffer.take_lease())

    def _read_into(self, buffer: BatchBuffer, request: Request, maker: ViewMaker) -> ClipBatch | ReadFailure:
        shape = maker.slots_shape(len(request.samples))
        memory = None if shape is None else buffer(shape)
        slots = None if memory is None else memory.numpy()
        views: list[View] = []
        video_index: list[int] = []
        rows: list[int] = []
        failed: list[tuple[int, str, str]] = []
        num_quarantined = 0
        for row, key in zip(self._rows_of(request.samples), request.augmentation_keys(self.seed), strict=True):
            if self.index.is_quarantined(row):  # still counted in the plan, so that runs resume exactly
                num_quarantined += 1
                continue
            if row in self.lost:
                failed.append((row, *self.lost[row]))
                continue
            self._record(row)
            try:
                free_slots = None if slots is None else slots[len(views) :]
                data = open_frames(self.index, row, self.stream)
                video_views = maker.views(data, self.index.entry(row), key, free_slots)
            except DecodeError as error:
                message = f"{describe_video_location(self.index, row)} cannot be decoded by {self.decoder}: {error}"
                if not self.skip_errors:
                    return ReadFailure(message)
                _log.warning("left out: %s", message)
                failed.append((row, error.reason, str(error)))
                continue
            except VideoTooLargeError as error:
                if self.skips_lost_videos:  # other files are read all the same
                    failed.append((row, TOO_LARGE, str(error)))
                    continue
                return ReadFailure(f"{describe_video_location(self.index, row)}: {error}", ValueError)
            except ShardFormatError as error:
                return ReadFailure(f"video {printable(self.index.entry(row).key)}: {error}", ShardFormatError)
            video_index += [len(rows)] * len(video_views)
            rows.append(row)
            views += video_views
        num_skipped = len(request.samples) - num_quarantined - len(rows)
        clips = memory[: len(views)] if memory is not None and views else self._stack_clips(views, maker.pixels, buffer)
        batch = self._make_batch(clips, views, video_index, rows, num_skipped)
        if views and maker.pixels == "i420":
            colors = torch.tensor([view.colors for view in views], dtype=torch.int32)
            batch = batch._replace(pixel_format=maker.pixels, colors=colors)
        return batch._replace(failed=failed, num_quarantined=num_quarantined)

    def _record(self, row: int) -> None:
        if self.heartbeats is not None:
            self.heartbeats.record(row)

    def _stack_clips(self, views: list[View], pixels: Pixels, buffer: BatchBuffer) -> Tensor:
        clips = [view.clip for view in views]
        if clips:
            windows = [view.window for view in views]
            return pad_and_stack(clips, buffer) if pixels == "rgb" else stack_planes(clips, windows, buffer)
        shape = (0, self.sampler.shape.num_frames, self.crop_size, self.crop_size, STREAM_CHANNELS[self.stream])
        return torch.empty(shape, dtype=torch.uint8)

    def _make_batch(
        self, clips: Tensor, views: list[View], video_index: list[int], rows: list[int], num_skipped: int
    ) -> ClipBatch:
        num_frames = self.sampler.shape.num_frames
        entries = [self.index.entry(row) for row in rows]
        numbers = np.stack([view.frame_numbers for view in views]) if views else np.empty((0, num_frames), np.int64)
        return ClipBatch(
            clips=clips,
            video_index=torch.tensor(video_index, dtype=torch.int64),
            labels=self._labels(entries),
            keys=[entry.key for entry in entries],
            rows=torch.tensor(rows, dtype=torch.int64),
            clip_times=torch.tensor([view.times for view in views], dtype=torch.float64).reshape(len(views), 2),
            num_skipped=num_skipped,
            frame_numbers=torch.from_numpy(numbers),
            windows=[view.window for view in views],
            videos_of_clips=video_index if self.captions and isinstance(self.transform, TrainTransform) else None,
            seeds=[view.seed for view in views if view.seed is not None] or None,
            crops_to_cut=1 if isinstance(self.transform, TrainTransform) else self.transform.num_crops,
            frame_labels=self._frame_labels(views, [rows[video] for video in video_index]),
            captions=[self.index.captions(row) for row in rows] if self.captions else None,
        )

    def _frame_labels(self, views: list[View], rows: list[int]) -> Tensor | None:
        """Labels of the frames of each clip, which is of the video in `rows`; None without labels by time."""
        if not self.index.has_timelines:
            return None
        num_classes = len(self.index.classes) if self.index.task == "multi_label" else None
        if not views:
            shape = (0, self.sampler.shape.num_frames, *(() if num_classes is None else (num_classes,)))
            return torch.empty(shape, dtype=torch.int64)
        labels = [
            frame_labels(
                *(view.frame_numbers, view.moments, self.index.timeline(row)),
                num_clip_frames(self.index.entry(row).num_frames, self.stream),
                num_classes,
            )
            for view, row in zip(views, rows, strict=True)
        ]
        return torch.from_numpy(np.stack(labels))

    def _labels(self, entries: list[VideoEntry]) -> Tensor:
        if self.index.task == "multi_label":
            return multi_hot([entry.labels for entry in entries], len(self.index.classes))
        return torch.tensor([entry.label for entry in entries], dtype=torch.int64)


def describe_video_location(index: DatasetIndex, row: int) -> str:
    """Returns the key and the shard of a video, for messages."""
    entry = index.entry(row)
    return f"video {printable(entry.key)} in {printable(entry.shard)}"
