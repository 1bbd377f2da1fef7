"""From the bytes of a video to the clips of a batch: which frames, which window of them, decoded, cut, mirrored.

Where frames are cut as they are stored, only the windows are converted and written, in training straight into the batch
(`datamodules.cutting`); else whole frames are decoded, resized and cut (`datamodules.transforms`). The pixels and the
random numbers are the same either way.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.batch import Window
from datamodules.clips import ClipSampler, Integers
from datamodules.cutting import OtherFramesError, decode_windows
from datamodules.decoding import decode_frames
from datamodules.shards import VideoEntry
from datamodules.transforms import EvalTransform, TrainTransform

Cut = tuple[Tensor, Window]  # a clip uint8 (T, H, W, C) and where it was cut


class View(NamedTuple):
    """A clip as a worker makes it: uint8 (T, H, W, C), its frames' numbers, its seconds, its window, its seed."""

    clip: Tensor
    frame_numbers: Integers
    times: tuple[float, float]
    window: Window
    seed: int | None


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of videos; see `datamodules.feed.ClipReader` for what its attributes mean."""

    sampler: ClipSampler
    transform: TrainTransform | EvalTransform
    decoder: str
    crop_size: int
    unmirrored: frozenset[int]

    def slots(self, num_videos: int) -> Tensor | None:
        """Where the clips of a training batch are written as they are decoded; None for tests, whose clips differ.

        In a worker it is memory that the main process reads without a copy.
        """
        if not isinstance(self.transform, TrainTransform):
            return None
        shape = (num_videos * self.sampler.num_clips, self.sampler.shape.num_frames, self.crop_size, self.crop_size, 3)
        if get_worker_info() is None:
            return torch.from_numpy(np.empty(shape, np.uint8))  # numpy's is in huge pages, which come at a third
        storage = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call] # as torch's collation does
        return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)

    def views(self, data: bytes, entry: VideoEntry, key: list[int], slots: Tensor | None) -> list[View]:
        """All clips of one video, in training at the beginning of `slots`; what is random comes from `key` alone."""
        generator = np.random.default_rng(key)
        frame_numbers = self.sampler(entry.num_frames, entry.fps, generator)
        state = generator.bit_generator.state
        cut = self._cut_while_decoding(data, entry, frame_numbers, generator, slots)
        if cut is None:
            generator.bit_generator.state = state
            cut = self._cut_whole_frames(data, entry, frame_numbers, generator, slots)
        training = isinstance(self.transform, TrainTransform)
        return [
            View(
                clip,
                numbers,
                (numbers.min() / entry.fps, (numbers.max() + 1) / entry.fps),
                window,
                _view_seed(key, view) if training else None,
            )
            for view, (numbers, (clip, window)) in enumerate(zip(frame_numbers, cut, strict=True))
        ]

    def _cut_while_decoding(
        self,
        data: bytes,
        entry: VideoEntry,
        frame_numbers: Integers,
        generator: np.random.Generator,
        slots: Tensor | None,
    ) -> list[Cut] | None:
        """Clips and windows where frames need no resizing and are such as we pack, with PyAV; else None."""
        transform, frame = self.transform, (entry.height, entry.width)
        if self.decoder != "pyav" or not transform.keeps(frame):
            return None
        if isinstance(transform, TrainTransform):
            mirror = entry.label not in self.unmirrored
            windows = [transform.window(frame, generator, mirror) for _ in frame_numbers]
        else:
            windows = [transform.window(frame)] * len(frame_numbers)
        clips = [
            slots[view] if slots is not None and self._is_slot(window) else _empty_clip(frame_numbers.shape[1], window)
            for view, window in enumerate(windows)
        ]
        shown = [window if self._is_slot(window) else window._replace(mirrored=False) for window in windows]
        try:
            decode_windows(data, frame_numbers, shown, [clip.numpy() for clip in clips])
        except OtherFramesError:
            return None
        if slots is not None and isinstance(transform, TrainTransform):
            for slot, clip, window in zip(slots, clips, windows, strict=False):
                if not self._is_slot(window):
                    slot.copy_(transform.finish(clip, window))
        return list(zip(clips, windows, strict=True))

    def _is_slot(self, window: Window) -> bool:
        """Whether a window is a crop already, not to be resized to one."""
        return (window.height, window.width) == (self.crop_size, self.crop_size)

    def _cut_whole_frames(
        self,
        data: bytes,
        entry: VideoEntry,
        frame_numbers: Integers,
        generator: np.random.Generator,
        slots: Tensor | None,
    ) -> list[Cut]:
        """Clips and windows by way of whole frames in RGB."""
        frames = torch.from_numpy(decode_frames(data, frame_numbers.ravel().tolist(), self.decoder))
        cut: list[Cut] = []
        for view, clip in enumerate(torch.split(frames, frame_numbers.shape[1])):
            if isinstance(self.transform, TrainTransform):
                cut.append(self.transform(clip, generator, entry.label not in self.unmirrored))
            else:
                cut.append(self.transform(clip))
            if slots is not None:
                slots[view].copy_(cut[-1][0])
        return cut


def _empty_clip(num_frames: int, window: Window) -> Tensor:
    return torch.from_numpy(np.empty((num_frames, window.height, window.width, 3), np.uint8))


def _view_seed(key: list[int], view: int) -> int:
    """The key of what is done to a view on the device: of its own stream, beside the one that chose its window."""
    return int(np.random.SeedSequence(key, spawn_key=(view,)).generate_state(1, np.uint64)[0] >> np.uint64(1))
