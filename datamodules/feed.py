"""From the plan to batches: the dataset that reads a planned batch, and the loader that asks for them in order.

    TrainRequests / EvaluationRequests ─▶ Request(samples, epoch) ─▶ a DataLoader worker:
        ClipReader: row ─▶ bytes ─▶ frame numbers ─▶ frames ─▶ windows ─▶ ClipBatch

The unit that travels to a worker is a whole batch, so the order of batches never depends on the number of workers.
"""

import logging
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.batch import ClipBatch
from datamodules.clips import ClipSampler, Integers
from datamodules.crops import lay_out
from datamodules.cutting import OtherFramesError
from datamodules.decoding import DecodeError
from datamodules.look_ahead import LookAhead
from datamodules.manifest import ShardFormatError
from datamodules.plan import EvaluationBatches, TrainPlan
from datamodules.planar import Pixels, fits_planes, lay_out_planes
from datamodules.shards import DatasetIndex
from datamodules.transforms import EvalTransform, TrainTransform
from datamodules.views import View, ViewMaker
from datamodules.worker_board import IDLE, WorkerBoard
from datamodules.worker_watch import WorkerWatch

_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One batch to read: sample numbers int64 (B,) within the split, and the epoch that keys their augmentation.

    `ahead` are the samples of the next batch that the same worker will read, as far as that is known.
    """

    samples: Integers
    epoch: int
    ahead: Integers | tuple[()] = ()


class ReadFailure(NamedTuple):
    """What a worker returns for a batch it could not read: the sentence to show, without a worker's traceback."""

    message: str
    error: type[ValueError] = DecodeError


@dataclass(frozen=True)
class ResumePoint:
    """Where an epoch was left: positions consumed by all ranks together, and the steps that took."""

    epoch: int = 0
    consumed: int = 0
    steps: int = 0


class TrainRequests(Sampler[Request]):
    """A rank's training batches of the current epoch, from the point of resumption on.

    Its length is steps done plus steps left: Lightning ends a resumed epoch early otherwise.
    """

    def __init__(self, plan: TrainPlan, rank: int, resume: ResumePoint) -> None:
        self.plan = plan
        self.rank = rank
        self.resume = resume
        self.epoch = resume.epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    @property
    def _start(self) -> ResumePoint:
        return self.resume if self.epoch == self.resume.epoch else ResumePoint(self.epoch)

    def __len__(self) -> int:
        return self._start.steps + self.plan.num_steps(self._start.consumed)

    def __iter__(self) -> Iterator[Request]:
        for samples in self.plan.batches(self.epoch, self.rank, self._start.consumed):
            yield Request(samples, self.epoch)

    def point_after(self, steps: int) -> ResumePoint:
        """Where the current epoch stands once `steps` of its steps (done before and since) have been trained on."""
        consumed = self.plan.consumed_after(steps - self._start.steps, self._start.consumed)
        return ResumePoint(self.epoch, consumed, steps)


class EvaluationRequests(Sampler[Request]):
    """A rank's evaluation batches; see `EvaluationBatches`."""

    def __init__(self, num_samples: int, batch_size: int, rank: int, world_size: int) -> None:
        self._batches = EvaluationBatches(num_samples, batch_size, rank, world_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Request]:
        for samples in self._batches:
            yield Request(samples, 0)


@dataclass(frozen=True)
class ClipReader(Dataset[ClipBatch | ReadFailure]):
    """Reads a planned batch: plain data and an index, so that it travels to workers under fork, forkserver and spawn.

    Attributes:
        index: the dataset.
        rows: int64, the rows of the split's videos, by sample number.
        sampler: which clips a video gives.
        transform: uint8 (T, H, W, C) to a random crop, or to a window that holds fixed crops, of height or width S.
        decoder: name of the decoder, resolved.
        seed: key of the augmentation, together with epoch and sample.
        skip_errors: leave out videos that cannot be decoded, name and count them (training, and tests that allow it),
            instead of failing.
        crop_size: S, for the shape of a batch without videos.
        board: where a DataLoader worker notes what it reads, or None.
        unmirrored: labels of the classes whose clips are never mirrored.
        captions: put the videos' captions into the batches.
        pixels: `rgb`; or `i420`, planes, where all videos of a batch can be cut in planes: others are in RGB, whole.
    """

    index: DatasetIndex
    rows: Integers
    sampler: ClipSampler
    transform: TrainTransform | EvalTransform
    decoder: str
    seed: int
    skip_errors: bool
    crop_size: int
    board: WorkerBoard | None = None
    unmirrored: frozenset[int] = frozenset()
    captions: bool = False
    pixels: Pixels = "rgb"

    def __getitem__(self, request: Request) -> ClipBatch | ReadFailure:
        """Reads, decodes and crops the videos of one batch."""
        began = time.perf_counter()
        announced = (int(self.rows[sample]) for sample in (*request.samples, *request.ahead))
        self.index.expect([row for row in announced if not self.index.is_quarantined(row)])
        try:
            batch = self._read(request, self._pixels_of(request))
        except OtherFramesError:  # found while decoding; it is read once more
            batch = self._read(request, "rgb")
        self._note(IDLE)
        if isinstance(batch, ReadFailure):
            return batch
        return batch._replace(load_seconds=time.perf_counter() - began)

    def _pixels_of(self, request: Request) -> Pixels:
        """How the clips of a batch travel, as far as the index tells."""
        if self.pixels == "rgb":
            return "rgb"
        entries = [self.index.entry(int(self.rows[sample])) for sample in request.samples]
        fit = all(fits_planes(self.transform, entry.height, entry.width) for entry in entries)
        return self.pixels if fit else "rgb"

    def _read(self, request: Request, pixels: Pixels) -> ClipBatch | ReadFailure:
        views: list[View] = []
        video_index: list[int] = []
        rows: list[int] = []
        failed: list[tuple[int, str]] = []
        num_quarantined = 0
        maker = ViewMaker(self.sampler, self.transform, self.decoder, self.crop_size, self.unmirrored, pixels)
        slots = maker.slots(len(request.samples))
        for sample in request.samples.tolist():
            row = int(self.rows[sample])
            if self.index.is_quarantined(row):  # it keeps its place in the plan, so that runs resume exactly
                num_quarantined += 1
                continue
            self._note(row)
            try:
                free = None if slots is None else slots[len(views) :]
                data, key = self.index.read_video(row), [self.seed, request.epoch, sample]
                of_video = maker.views(data, self.index.entry(row), key, free)
            except DecodeError as error:
                message = f"{_name_video(self.index, row)} cannot be decoded by {self.decoder}: {error}"
                if not self.skip_errors:
                    return ReadFailure(message)
                _log.warning("left out: %s", message)
                failed.append((row, str(error)))
                continue
            except ShardFormatError as error:
                return ReadFailure(f"video {self.index.entry(row).key}: {error}", ShardFormatError)
            video_index += [len(rows)] * len(of_video)
            rows.append(row)
            views += of_video
        num_skipped = len(request.samples) - num_quarantined - len(rows)
        clips = slots[: len(views)] if slots is not None and views else self._laid_out(views, pixels)
        batch = self._batch(clips, views, video_index, rows, num_skipped)
        if views and pixels == "i420":
            colors = torch.tensor([view.colors for view in views], dtype=torch.int32)
            batch = batch._replace(pixel_format=pixels, colors=colors)
        return batch._replace(failed=failed, num_quarantined=num_quarantined)

    def _note(self, row: int) -> None:
        if self.board is not None:
            self.board.note(row)

    def _laid_out(self, views: list[View], pixels: Pixels) -> Tensor:
        clips = [view.clip for view in views]
        if clips:
            return lay_out(clips) if pixels == "rgb" else lay_out_planes(clips, [view.window for view in views])
        return torch.empty((0, self.sampler.shape.num_frames, self.crop_size, self.crop_size, 3), dtype=torch.uint8)

    def _batch(
        self, clips: Tensor, views: list[View], video_index: list[int], rows: list[int], num_skipped: int
    ) -> ClipBatch:
        num_frames = self.sampler.shape.num_frames
        entries = [self.index.entry(row) for row in rows]
        numbers = np.stack([view.frame_numbers for view in views]) if views else np.empty((0, num_frames), np.int64)
        return ClipBatch(
            clips=clips,
            video_index=torch.tensor(video_index, dtype=torch.int64),
            labels=torch.tensor([entry.label for entry in entries], dtype=torch.int64),
            keys=[entry.key for entry in entries],
            rows=torch.tensor(rows, dtype=torch.int64),
            clip_times=torch.tensor([view.times for view in views], dtype=torch.float64).reshape(len(views), 2),
            num_skipped=num_skipped,
            frame_numbers=torch.from_numpy(numbers),
            windows=[view.window for view in views],
            seeds=[view.seed for view in views if view.seed is not None] or None,
            crops_to_cut=1 if isinstance(self.transform, TrainTransform) else self.transform.num_crops,
            captions=[self.index.captions(row) for row in rows] if self.captions else None,
        )


class PlannedLoader:
    """An iterable of `ClipBatch`, with a length, an epoch and nothing for Lightning to replace.

    A plain iterable on purpose: Lightning re-creates a DataLoader to put its own distributed sampler in, which would
    undo the plan. Reading starts at the first `next`, not at `iter`: Lightning makes the iterator before it tells the
    epoch.

    Args:
        reader: reads a batch.
        requests: this rank's batches.
        max_skipped: videos that may be left out of one pass before the run ends with DecodeError.
        timeout_s: seconds that reading one video may take in a worker; 0 for no limit.
        options: the DataLoader's, such as `num_workers`.
    """

    def __init__(
        self,
        reader: ClipReader,
        requests: TrainRequests | EvaluationRequests,
        max_skipped: int = 0,
        timeout_s: float = 0,
        **options: Any,
    ) -> None:
        self.sampler = requests  # the names under which Lightning looks for `set_epoch`
        self.batch_sampler = None
        self._max_skipped = max_skipped
        self._watch: WorkerWatch | None = None
        if options.get("num_workers", 0) > 0:
            board, index = WorkerBoard(options["num_workers"]), reader.index
            reader = replace(reader, board=board)
            options["worker_init_fn"] = board.enter
            self._watch = WorkerWatch(
                board, timeout_s, lambda row: _name_video(index, row), lambda row: _how_to_leave_out(index, row)
            )
        self._loader: DataLoader[Any] = DataLoader(
            reader,
            sampler=LookAhead(requests, max(1, options.get("num_workers", 0))),
            batch_size=None,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[ClipBatch]:
        skipped = 0
        for batch in self._loader if self._watch is None else self._watch.batches(self._loader):
            if isinstance(batch, ReadFailure):
                raise batch.error(batch.message)
            skipped += batch.num_skipped
            if skipped > self._max_skipped:
                raise DecodeError(
                    f"{skipped} videos of this epoch could not be decoded, more than the {self._max_skipped} that "
                    "max_skipped_fraction allows; the log names them: verify the shards, or pack again"
                )
            yield batch

    # Lightning warns that a loader without these two cannot resume in the middle of an epoch. This one can: what it
    # needs is in the state of its data module, where it is global, and not one rank's.

    def state_dict(self) -> dict[str, Any]:
        """Nothing: see `ShardedVideoDataModule.state_dict`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: see `ShardedVideoDataModule.load_state_dict`."""


def _name_video(index: DatasetIndex, row: int) -> str:
    entry = index.entry(row)
    return f"video {entry.key} in {entry.shard}"


def _how_to_leave_out(index: DatasetIndex, row: int) -> str:
    key = index.entry(row).key
    if isinstance(index.root, str):
        return f"if that video is to blame, add {key} to {index.root}/quarantine.csv and resume"
    word = f"--keys+={key}" if key.startswith("-") else key  # YouTube's ids may begin so
    command = ["python", "-m", "pipeline", "quarantine", str(index.root), word]
    return f"if that video is to blame, leave it out and resume: {shlex.join(command)}"
