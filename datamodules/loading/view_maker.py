"""ViewMaker: makes the views of a video from its bytes: samples frames and windows, decodes, crops and mirrors.

For frames cropped at their stored size, only the windows are converted and written, in training directly to the batch
(`datamodules.transforms.crop_while_decoding`), or copied as planes that are converted on the device
(`datamodules.transforms.yuv420`); otherwise whole frames are decoded, resized and cropped
(`datamodules.transforms.clip_transforms`). Pixels and random numbers are the same in all cases.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import STREAM_CHANNELS, Stream, Window
from datamodules.dataset.dataset_index import VideoEntry
from datamodules.optical_flow.frame_source import (
    ComputedFlow,
    FrameSource,
    PackedFlow,
    decode_channels,
    num_clip_frames,
    rgb_source,
)
from datamodules.sampling.clip_sampling import ClipSampler, Integers, Seconds
from datamodules.sampling.frame_times import time_span
from datamodules.storage.available_memory import available_memory
from datamodules.transforms.clip_stream import iterate_clips
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.crop_while_decoding import UnsupportedFramesError, decode_planes, decode_windows
from datamodules.transforms.yuv420 import Pixels, num_enclosing_pairs
from datamodules.video.decoding import DecodeError, Source, read_frame_times
from datamodules.video.pyav_decoder import Frames


class View(NamedTuple):
    """View of a video as a worker produces it.

    Attributes:
        clip: uint8 (T, H, W, C), or planes (T, 3h, 2w).
        frame_numbers: int64 (T,).
        times: start of the earliest and end of the latest frame, in seconds.
        moments: float64 (T,), when each frame is first shown, in seconds.
        window: window of the frame that the clip shows.
        seed: seed of the augmentation on the device; None in evaluation.
        colors: coefficients for converting planes to RGB; empty for RGB.
    """

    clip: Tensor
    frame_numbers: Integers
    times: tuple[float, float]
    moments: Seconds
    window: Window
    seed: int | None
    colors: tuple[int, ...]


class _CroppedClip(NamedTuple):
    """A clip, its window, and for planes the coefficients for conversion to RGB."""

    clip: Tensor
    window: Window
    colors: tuple[int, ...] = ()


class _VideoSource(NamedTuple):
    """A video to crop; `slots` is the memory that its clips are written to, None if they are allocated one by one."""

    data: FrameSource
    entry: VideoEntry
    frame_numbers: Integers
    generator: np.random.Generator
    slots: Frames | None


class VideoTooLargeError(ValueError):
    """Raised when the clips of one video exceed the available memory."""


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of videos; the attributes are those of `datamodules.loading.clip_reader.ClipReader`."""

    sampler: ClipSampler
    transform: TrainTransform | EvalTransform
    decoder: str
    crop_size: int
    unmirrored: frozenset[int]
    pixels: Pixels = "rgb"
    stream: Stream = "rgb"

    def slots_shape(self, num_videos: int) -> tuple[int, ...] | None:
        """Shape of a training batch, whose clips are written as decoded; None in tests, where clips differ in shape."""
        if not isinstance(self.transform, TrainTransform):
            return None
        return num_videos * self.sampler.num_clips, *self._clip_shape(self.crop_size, self.crop_size)

    def _clip_shape(self, height: int, width: int, num_frames: int | None = None) -> tuple[int, ...]:
        """Shape of a clip of a window of this size; `num_frames` defaults to the sampler's."""
        num_frames = self.sampler.shape.num_frames if num_frames is None else num_frames
        if self.pixels == "i420":
            return num_frames, 3 * num_enclosing_pairs(height), 2 * num_enclosing_pairs(width)
        return num_frames, height, width, STREAM_CHANNELS[self.stream]

    def views(self, data: FrameSource, entry: VideoEntry, key: list[int], slots: Frames | None) -> list[View]:
        """Makes all views of one video, in training at the beginning of `slots`; random numbers depend on `key` alone.

        Raises:
            DecodeError: the video cannot be decoded.
            UnsupportedFramesError: planes are requested, and the video cannot be cropped in planes.
            VideoTooLargeError: its clips exceed the available memory.
        """
        generator = np.random.default_rng(key)
        times = read_times(entry, rgb_source(data))
        num_frames = num_clip_frames(entry.num_frames, self.stream)
        sampled = None if times is None else times[:num_frames]
        frame_numbers = self.sampler(num_frames, entry.fps, generator, sampled)
        if slots is None:
            _refuse_too_large(frame_numbers, self.crop_size, STREAM_CHANNELS[self.stream])
        video = _VideoSource(data, entry, frame_numbers, generator, slots)
        if self.pixels == "i420":
            cropped = self._crop_planes(video)
        else:
            state = generator.bit_generator.state
            cropped_early = self._crop_while_decoding(video)
            if cropped_early is None:
                generator.bit_generator.state = state
            cropped = self._crop_whole_frames(video) if cropped_early is None else cropped_early
        training = isinstance(self.transform, TrainTransform)
        return [
            View(
                clip,
                numbers,
                time_span(min(listed), max(listed), entry.fps, times),
                numbers / entry.fps if times is None else times[numbers],
                window,
                _view_seed(key, view) if training else None,
                colors,
            )
            for view, (numbers, listed, (clip, window, colors)) in enumerate(
                zip(frame_numbers, frame_numbers.tolist(), cropped, strict=True)
            )
        ]

    def _windows(self, video: _VideoSource) -> list[Window]:
        """Chooses the window of each clip, for frames that are not resized."""
        transform, frame = self.transform, (video.entry.height, video.entry.width)
        if isinstance(transform, TrainTransform):
            mirror = self._is_mirrored(video)
            return [transform.window(frame, video.generator, mirror) for _ in video.frame_numbers]
        return [transform.window(frame)] * len(video.frame_numbers)

    def _allocate_clips(self, video: _VideoSource, windows: list[Window]) -> list[Frames]:
        """Returns the memory of each clip: its slot if the window has the size of a crop, else a new array."""
        slots, num_frames = video.slots, video.frame_numbers.shape[1]
        return [
            slots[view]
            if slots is not None and self._has_crop_size(window)
            else np.empty(self._clip_shape(window.height, window.width, num_frames), np.uint8)
            for view, window in enumerate(windows)
        ]

    def _crop_planes(self, video: _VideoSource) -> list[_CroppedClip]:
        """Crops in planes with PyAV, for frames that need no resizing and have the format that `pack` writes."""
        windows = self._windows(video)
        clips = self._allocate_clips(video, windows)
        assert not isinstance(video.data, (PackedFlow, ComputedFlow)), "`DataOptions.check` refuses planes of flow"
        colors = decode_planes(video.data, video.frame_numbers, windows, clips)
        return [_CroppedClip(*cropped) for cropped in zip(map(torch.from_numpy, clips), windows, colors, strict=True)]

    def _crop_while_decoding(self, video: _VideoSource) -> list[_CroppedClip] | None:
        """Crops while decoding with PyAV; None if frames need resizing or have another format than `pack` writes."""
        transform, slots = self.transform, video.slots
        if self.stream != "rgb" or isinstance(video.data, (PackedFlow, ComputedFlow)):
            return None
        if self.decoder != "pyav" or not transform.crops_without_resize((video.entry.height, video.entry.width)):
            return None
        windows = self._windows(video)
        clips = self._allocate_clips(video, windows)
        decoded_windows = [
            window if self._has_crop_size(window) else window._replace(mirrored=False) for window in windows
        ]
        try:
            decode_windows(video.data, video.frame_numbers, decoded_windows, clips)
        except UnsupportedFramesError:
            return None
        if slots is not None and isinstance(transform, TrainTransform):
            for view, (clip, window) in enumerate(zip(clips, windows, strict=True)):
                if not self._has_crop_size(window):
                    slots[view] = transform.resize_and_flip(torch.from_numpy(clip), window).numpy()
        return [_CroppedClip(*cropped) for cropped in zip(map(torch.from_numpy, clips), windows, strict=True)]

    def _is_mirrored(self, video: _VideoSource) -> bool:
        """Whether clips of the video may be mirrored: none of its classes is among those that never are."""
        return self.unmirrored.isdisjoint(video.entry.labels or (video.entry.label,))

    def _has_crop_size(self, window: Window) -> bool:
        """Whether a window has the size of a crop, so that it needs no resizing."""
        return (window.height, window.width) == (self.crop_size, self.crop_size)

    def _crop_whole_frames(self, video: _VideoSource) -> list[_CroppedClip]:
        """Crops from whole decoded frames of any channels; in tests each is cropped as soon as it is decoded."""
        numbers, mirror = video.frame_numbers, self._is_mirrored(video)
        if isinstance(self.transform, EvalTransform):
            return [
                _CroppedClip(*cropped) for cropped in iterate_clips(video.data, numbers, self.transform, self.decoder)
            ]
        frames = torch.from_numpy(decode_channels(video.data, numbers.ravel().tolist(), self.decoder))
        cropped: list[_CroppedClip] = []
        for view, clip in enumerate(torch.split(frames, numbers.shape[1])):
            cropped.append(_CroppedClip(*self.transform(clip, video.generator, mirror)))
            if video.slots is not None:
                video.slots[view] = cropped[-1].clip.numpy()
        return cropped


# Maximum number of copies of a video's clips in memory: cropped, as a batch, and in the main process.
_COPIES = 3
_MIN_CHECKED_BYTES = 2**28


def _refuse_too_large(frame_numbers: Integers, crop_size: int, channels: int) -> None:
    """Raises VideoTooLargeError if a video's clips do not fit into memory, before the system kills the process."""
    needed_bytes = _COPIES * channels * frame_numbers.size * crop_size**2
    if needed_bytes < _MIN_CHECKED_BYTES:
        return
    available_bytes = available_memory()
    if needed_bytes > available_bytes:
        clips, frames = frame_numbers.shape
        raise VideoTooLargeError(
            f"its {clips} clips of {frames} frames take {needed_bytes / 2**30:.1f} GB and "
            f"{available_bytes / 2**30:.1f} are left: take fewer clips (num_clips), a larger clip_step or a "
            "lower rate, or pack it in parts"
        )


def read_times(entry: VideoEntry, data: Source | None) -> Seconds | None:
    """Reads the presentation timestamps of a video with a variable frame rate.

    Args:
        entry: the video's row of the index.
        data: bytes of the video, or its path; read only for a variable rate; None is as for evenly spaced frames.

    Returns:
        float64 (F,), seconds from the first frame, ascending; None for evenly spaced frames.

    Raises:
        DecodeError: the video cannot be read, or has another number of frames than the index says.
    """
    if not entry.variable_rate or data is None:
        return None
    times = read_frame_times(data)
    if len(times) != entry.num_frames:
        raise DecodeError(f"it says when {len(times)} frames are shown, and the index has {entry.num_frames} frames")
    return times


def _view_seed(key: list[int], view: int) -> int:
    """Returns the seed of a view's augmentation on the device, independent of the stream that chose its window."""
    return int(np.random.SeedSequence(key, spawn_key=(view,)).generate_state(1, np.uint64)[0] >> np.uint64(1))
