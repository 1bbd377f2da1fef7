"""From the bytes of a video to the clips of a batch: which frames, which window of them, decoded, cut, mirrored.

Where frames are cut as they are stored, only the windows are converted and written, in training straight into the batch
(`datamodules.transforms.crop_while_decoding`), or copied in planes, to be converted on the device
(`datamodules.transforms.yuv420`); else whole frames are decoded, resized and cut
(`datamodules.transforms.clip_transforms`). The pixels and the random numbers are the same either way.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Window
from datamodules.dataset.dataset_index import VideoEntry
from datamodules.sampling.clip_sampling import ClipSampler, Integers, Seconds
from datamodules.sampling.frame_times import span_of
from datamodules.storage.available_memory import available_memory
from datamodules.transforms.clip_stream import iterate_clips
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.crop_while_decoding import OtherFramesError, decode_planes, decode_windows
from datamodules.transforms.yuv420 import Pixels, box_of
from datamodules.video.decoding import DecodeError, decode_frames, read_frame_times


class View(NamedTuple):
    """A clip as a worker makes it.

    Attributes:
        clip: uint8 (T, H, W, C), or in planes (T, 3h, 2w).
        frame_numbers: int64 (T,).
        times: seconds from when its earliest frame begins to be shown to when its latest one ends.
        window: what it shows.
        seed: of what is done to it on the device, or None.
        colors: what planes are converted with, or none.
    """

    clip: Tensor
    frame_numbers: Integers
    times: tuple[float, float]
    window: Window
    seed: int | None
    colors: tuple[int, ...]


class _Cut(NamedTuple):
    """A clip, where it was cut, and what it is to be converted with, if it is in planes."""

    clip: Tensor
    window: Window
    colors: tuple[int, ...] = ()


class _Video(NamedTuple):
    """A video whose clips are to be cut: where they are written, if that is known, is `slots`."""

    data: bytes
    entry: VideoEntry
    frame_numbers: Integers
    generator: np.random.Generator
    slots: Tensor | None


class VideoTooLargeError(ValueError):
    """The clips of one video are larger than the memory that is left."""


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of videos; see `datamodules.loading.clip_reader.ClipReader` for what its attributes mean."""

    sampler: ClipSampler
    transform: TrainTransform | EvalTransform
    decoder: str
    crop_size: int
    unmirrored: frozenset[int]
    pixels: Pixels = "rgb"

    def slots_shape(self, num_videos: int) -> tuple[int, ...] | None:
        """Of a training batch, whose clips are written as they are decoded; None for tests, whose clips differ."""
        if not isinstance(self.transform, TrainTransform):
            return None
        return num_videos * self.sampler.num_clips, *self._clip_shape(self.crop_size, self.crop_size)

    def _clip_shape(self, height: int, width: int, num_frames: int | None = None) -> tuple[int, ...]:
        """Of a clip that shows a window of this size; of as many frames as the sampler's, if it is not told."""
        num_frames = self.sampler.shape.num_frames if num_frames is None else num_frames
        if self.pixels == "i420":
            return num_frames, 3 * box_of(height), 2 * box_of(width)
        return num_frames, height, width, 3

    def views(self, data: bytes, entry: VideoEntry, key: list[int], slots: Tensor | None) -> list[View]:
        """All clips of one video, in training at the beginning of `slots`; what is random comes from `key` alone.

        Raises:
            DecodeError: the video does not decode.
            OtherFramesError: planes are wanted, and it cannot be cut in planes.
            VideoTooLargeError: its clips together are larger than the memory that is left.
        """
        generator = np.random.default_rng(key)
        times = times_of(entry, data)
        frame_numbers = self.sampler(entry.num_frames, entry.fps, generator, times)
        if slots is None:
            _refuse_too_large(frame_numbers, self.crop_size)
        video = _Video(data, entry, frame_numbers, generator, slots)
        if self.pixels == "i420":
            cut = self._cut_planes(video)
        else:
            state = generator.bit_generator.state
            while_decoding = self._cut_while_decoding(video)
            if while_decoding is None:
                generator.bit_generator.state = state
            cut = self._cut_whole_frames(video) if while_decoding is None else while_decoding
        training = isinstance(self.transform, TrainTransform)
        return [
            View(
                clip,
                numbers,
                span_of(int(numbers.min()), int(numbers.max()), entry.fps, times),
                window,
                _view_seed(key, view) if training else None,
                colors,
            )
            for view, (numbers, (clip, window, colors)) in enumerate(zip(frame_numbers, cut, strict=True))
        ]

    def _windows(self, video: _Video) -> list[Window]:
        """The window of each clip, of frames that are not resized."""
        transform, frame = self.transform, (video.entry.height, video.entry.width)
        if isinstance(transform, TrainTransform):
            mirror = video.entry.label not in self.unmirrored
            return [transform.window(frame, video.generator, mirror) for _ in video.frame_numbers]
        return [transform.window(frame)] * len(video.frame_numbers)

    def _places(self, video: _Video, windows: list[Window]) -> list[Tensor]:
        """Where each clip is written: its slot, if its window fits there, or memory of its own."""
        slots, num_frames = video.slots, video.frame_numbers.shape[1]
        return [
            slots[view]
            if slots is not None and self._is_slot(window)
            else torch.from_numpy(np.empty(self._clip_shape(window.height, window.width, num_frames), np.uint8))
            for view, window in enumerate(windows)
        ]

    def _cut_planes(self, video: _Video) -> list[_Cut]:
        """Clips and windows in planes, of frames that need no resizing and are such as we pack, with PyAV."""
        windows = self._windows(video)
        clips = self._places(video, windows)
        colors = decode_planes(video.data, video.frame_numbers, windows, [clip.numpy() for clip in clips])
        return [_Cut(*cut) for cut in zip(clips, windows, colors, strict=True)]

    def _cut_while_decoding(self, video: _Video) -> list[_Cut] | None:
        """Clips and windows where frames need no resizing and are such as we pack, with PyAV; else None."""
        transform, slots = self.transform, video.slots
        if self.decoder != "pyav" or not transform.keeps((video.entry.height, video.entry.width)):
            return None
        windows = self._windows(video)
        clips = self._places(video, windows)
        shown = [window if self._is_slot(window) else window._replace(mirrored=False) for window in windows]
        try:
            decode_windows(video.data, video.frame_numbers, shown, [clip.numpy() for clip in clips])
        except OtherFramesError:
            return None
        if slots is not None and isinstance(transform, TrainTransform):
            for slot, clip, window in zip(slots, clips, windows, strict=False):
                if not self._is_slot(window):
                    slot.copy_(transform.finish(clip, window))
        return [_Cut(*cut) for cut in zip(clips, windows, strict=True)]

    def _is_slot(self, window: Window) -> bool:
        """Whether a window is a crop already, not to be resized to one."""
        return (window.height, window.width) == (self.crop_size, self.crop_size)

    def _cut_whole_frames(self, video: _Video) -> list[_Cut]:
        """Clips and windows by way of whole frames in RGB; in tests each frame is cropped as soon as it is decoded."""
        numbers, mirror = video.frame_numbers, video.entry.label not in self.unmirrored
        if isinstance(self.transform, EvalTransform):
            return [_Cut(*cut) for cut in iterate_clips(video.data, numbers, self.transform, self.decoder)]
        frames = torch.from_numpy(decode_frames(video.data, numbers.ravel().tolist(), self.decoder))
        cut: list[_Cut] = []
        for view, clip in enumerate(torch.split(frames, numbers.shape[1])):
            cut.append(_Cut(*self.transform(clip, video.generator, mirror)))
            if video.slots is not None:
                video.slots[view].copy_(cut[-1].clip)
        return cut


# A video's clips are in memory at most so often at once: as cut, laid out as one batch, and in the main process.
_COPIES = 3
_ALWAYS_FITS = 2**28


def _refuse_too_large(frame_numbers: Integers, crop_size: int) -> None:
    """Says that a video's clips, which a batch holds together, do not fit, before the system ends the process."""
    needed = _COPIES * 3 * frame_numbers.size * crop_size**2
    if needed < _ALWAYS_FITS:
        return
    left = available_memory()
    if needed > left:
        clips, frames = frame_numbers.shape
        raise VideoTooLargeError(
            f"its {clips} clips of {frames} frames take {needed / 2**30:.1f} GB and {left / 2**30:.1f} are left: take "
            "fewer clips (num_clips), a larger clip_step or a lower rate, or pack it in parts"
        )


def times_of(entry: VideoEntry, data: bytes) -> Seconds | None:
    """When each frame of a video is shown, where the index says that they are not evenly spaced.

    Args:
        entry: the video's row of the index.
        data: its bytes; looked into only where the rate is variable.

    Returns:
        float64 (F,), seconds from the first frame, ascending; None for evenly spaced frames.

    Raises:
        DecodeError: the video cannot be read, or does not have the frames that the index says.
    """
    if not entry.variable_rate:
        return None
    times = read_frame_times(data)
    if len(times) != entry.num_frames:
        raise DecodeError(f"it says when {len(times)} frames are shown, and the index has {entry.num_frames} frames")
    return times


def _view_seed(key: list[int], view: int) -> int:
    """The key of what is done to a view on the device: of its own stream, beside the one that chose its window."""
    return int(np.random.SeedSequence(key, spawn_key=(view,)).generate_state(1, np.uint64)[0] >> np.uint64(1))
