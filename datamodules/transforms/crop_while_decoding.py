"""Cropping while decoding: converts only the pixels inside the crop windows, and copies them once.

The result equals, bit for bit, that of converting whole frames and cropping them: FFmpeg's conversion of planar YUV
4:2:0 to RGB at the same size uses one chroma sample for each 2 x 2 pixels, without interpolation. So whole pairs of
rows and columns are cut from the planes, several frames are stacked vertically and converted in one call; or the planes
themselves are returned (`decode_planes`), for conversion on the device.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from datamodules.batch import Window
from datamodules.sampling.clip_sampling import Integers
from datamodules.transforms.yuv420 import color_factors, split_planes
from datamodules.video.header_frames import frames_by_header
from datamodules.video.orientation import UPRIGHT, orientation_of
from datamodules.video.pyav_decoder import Frames
from datamodules.video.video_container import DecodeError, Source, library_errors

_FRAMES_PER_CONVERSION = 8  # frames converted in one call: their pixels fit in the processor's cache

_kept = threading.local()  # this thread's pixel converters and their input frames, by size


class UnsupportedFramesError(Exception):
    """The frames cannot be cropped while decoding; use `datamodules.video.decoding`."""


def decode_windows(data: Source, frame_numbers: Integers, windows: Sequence[Window], out: Sequence[Frames]) -> None:
    """Decodes the frames of clips and writes the pixels of each clip's window.

    Args:
        data: the bytes of a video file, or its path.
        frame_numbers: int64 (N, T), not negative.
        windows: N windows, mirrored if `mirrored` is set.
        out: N arrays uint8 (T, height, width, 3) of the windows' sizes, RGB, to write to.

    Raises:
        UnsupportedFramesError: the frames are not planar YUV 4:2:0 of the size that the windows state, not upright, not
            listed in the header, or damaged. Some of `out` may have been written.
    """
    writers = [
        _RgbWriter(window, clip_pixels, number)
        for number, (window, clip_pixels) in enumerate(zip(windows, out, strict=True))
    ]
    _decode_into(data, frame_numbers, windows[0], writers)
    for writer in writers:
        writer.convert()


def decode_planes(
    data: Source, frame_numbers: Integers, windows: Sequence[Window], out: Sequence[Frames]
) -> list[tuple[int, ...]]:
    """Decodes the frames of clips and writes the planes of each clip's window: whole pairs, not mirrored.

    Args:
        data: the bytes of a video file, or its path.
        frame_numbers: int64 (N, T), not negative.
        windows: N windows.
        out: N arrays uint8 (T, 3h, 2w) to write to, in the layout of `datamodules.transforms.yuv420`, with h and w the
            `num_enclosing_pairs` the window's height and width; places outside the frame are set to 0.

    Returns:
        The color conversion factors of each clip: `datamodules.transforms.yuv420.color_factors`.

    Raises:
        UnsupportedFramesError: as in `decode_windows`; or the color matrix is unknown, or differs within a clip.
    """
    writers = [_PlaneWriter(window, clip_planes) for window, clip_planes in zip(windows, out, strict=True)]
    _decode_into(data, frame_numbers, windows[0], writers)
    return [writer.factors() for writer in writers]


class _ClipWriter(Protocol):
    """Writer of one clip, which takes its frames one by one."""

    def write_frame(self, frame: av.VideoFrame, planes: list[Frames], position: int) -> None: ...


def _decode_into(data: Source, frame_numbers: Integers, window: Window, writers: Sequence[_ClipWriter]) -> None:
    """Decodes the frames of all clips, int64 (N, T), in order, and passes each to the clips that contain it."""
    if frame_numbers.min(initial=0) < 0:
        raise UnsupportedFramesError
    destinations: dict[int, list[tuple[_ClipWriter, int]]] = defaultdict(list)
    for writer, numbers in zip(writers, frame_numbers.tolist(), strict=True):
        for position, number in enumerate(numbers):
            destinations[number].append((writer, position))
    try:
        with library_errors("pyav cannot decode the video"):
            for number, frame in frames_by_header(data, sorted(destinations)):
                planes = _plane_views(frame, window)
                for writer, position in destinations[number]:
                    writer.write_frame(frame, planes, position)
    except DecodeError as error:
        raise UnsupportedFramesError from error


def _plane_views(frame: av.VideoFrame, window: Window) -> list[Frames]:
    """Views of the three planes of a frame with their row padding: uint8 (rows, bytes per row)."""
    fits = frame.format.name == "yuv420p" and (frame.height, frame.width) == (window.frame_height, window.frame_width)
    if not fits or frame.height % 2 or frame.width % 2 or orientation_of(frame) != UPRIGHT:
        raise DecodeError("not such frames as are cut here")
    return [_plane_view(plane) for plane in frame.planes]


def _plane_view(plane: "av.video.plane.VideoPlane") -> Frames:
    view: Frames = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)  # rows are padded
    return view


class _PlaneWriter:
    """Writes the planes of one clip: the pairs of rows and columns that contain its window.

    Args:
        window: the window in the frame.
        out: array that the planes are written to, uint8 (T, 3h, 2w).
    """

    def __init__(self, window: Window, out: Frames) -> None:
        self._out_planes = split_planes(out)
        _, rows, columns = self._out_planes[1].shape
        self._top, self._left = window.top // 2, window.left // 2
        self._height = min(rows, window.frame_height // 2 - self._top)
        self._width = min(columns, window.frame_width // 2 - self._left)
        self._colors: set[tuple[int, int]] = set()
        for plane_out, pair in zip(self._out_planes, (2, 1, 1), strict=True):
            plane_out[:, pair * self._height :] = 0
            plane_out[:, :, pair * self._width :] = 0

    def write_frame(self, frame: av.VideoFrame, planes: list[Frames], position: int) -> None:
        """Copies the pairs of a frame into the clip, as its frame number `position`."""
        self._colors.add((int(frame.colorspace), int(frame.color_range)))
        for plane_out, plane, pair in zip(self._out_planes, planes, (2, 1, 1), strict=True):
            top, left, height, width = (pair * n for n in (self._top, self._left, self._height, self._width))
            plane_out[position, :height, :width] = plane[top : top + height, left : left + width]

    def factors(self) -> tuple[int, ...]:
        """The color conversion factors of the clip."""
        factors = color_factors(*self._colors.pop()) if len(self._colors) == 1 else None
        if factors is None:
            raise UnsupportedFramesError
        return factors


class _RgbWriter:
    """Writes the RGB pixels of one clip: stacks the windows of several frames, and converts them in one call.

    Args:
        window: the window in the frame.
        out: array that the pixels are written to, uint8 (T, height, width, 3).
        number: index of the clip among those decoded together, each of which has its own buffer.
    """

    def __init__(self, window: Window, out: Frames, number: int) -> None:
        self._out = out
        self._offset_in_pair = (window.top % 2, window.left % 2)  # whole pairs are cut: up to one extra row and column
        self._top, self._left = window.top // 2, window.left // 2
        self._height = (window.top + window.height + 1) // 2 - self._top  # in pairs
        self._width = (window.left + window.width + 1) // 2 - self._left
        if window.mirrored:  # the whole strip is mirrored, padding included
            self._offset_in_pair = (
                window.top % 2,
                _round_up_to_words(self._width) * 2 - window.left % 2 - window.width,
            )
        self._mirrored = window.mirrored
        self._positions: list[int] = []
        self._slices = [_plane_slices(pair, self._top, self._left, self._height, self._width) for pair in (2, 1, 1)]
        self._kept = _conversion_buffer(self._height, self._width, number)

    def write_frame(self, frame: av.VideoFrame, planes: list[Frames], position: int) -> None:
        """Copies the window of a frame into the strip, as the clip's frame `position`."""
        if not self._positions:
            self._kept.source.colorspace, self._kept.source.color_range = frame.colorspace, frame.color_range
        for slot, plane, plane_slice in zip(self._kept.slots[len(self._positions)], planes, self._slices, strict=True):
            slot[...] = plane[plane_slice]
        self._positions.append(position)
        if len(self._positions) == _FRAMES_PER_CONVERSION:
            self.convert()

    def convert(self) -> None:
        """Converts the frames collected since the last conversion, if any, and writes their pixels."""
        if not self._positions:
            return
        if self._mirrored:
            for plane_in in self._kept.planes:
                words = plane_in.view(np.uint64)
                words[...] = words[:, ::-1].byteswap()
        plane = self._kept.converter.reformat(self._kept.source, format="rgb24", threads=1).planes[0]
        rows, columns = 2 * self._height, 2 * _round_up_to_words(self._width)
        pixels = _plane_view(plane)[:, : 3 * columns].reshape(_FRAMES_PER_CONVERSION, rows, columns, 3)
        top, left = self._offset_in_pair
        _, height, width, _ = self._out.shape
        for number, position in enumerate(self._positions):
            self._out[position] = pixels[number, top : top + height, left : left + width]
        self._positions.clear()


def _round_up_to_words(width: int) -> int:
    """The width rounded up to a multiple of 8 bytes: rows are mirrored in 8-byte words."""
    return -(-width // 8) * 8


class _ConversionBuffer(NamedTuple):
    """Buffer and converter for windows of one size, kept because creating them costs as much as a conversion.

    Attributes:
        source: the frame that windows are collected in.
        planes: its planes, uint8 (rows, bytes per row), each row a multiple of 8 bytes.
        slots: views of the planes for each of the collected frames, of the window's size.
        converter: pixel converter for such frames.
    """

    source: av.VideoFrame
    planes: list[Frames]
    slots: list[list[Frames]]
    converter: VideoReformatter


def _conversion_buffer(height: int, width: int, number: int) -> _ConversionBuffer:
    """The buffer for windows of `height` x `width` pairs in clip `number`; created on first use."""
    buffers: dict[tuple[int, int, int], _ConversionBuffer] = _kept.__dict__.setdefault("strips", {})
    if len(buffers) > 64:  # windows of random sizes
        buffers.clear()
    if (height, width, number) not in buffers:
        frame = av.VideoFrame(2 * _round_up_to_words(width), 2 * height * _FRAMES_PER_CONVERSION, "yuv420p")
        planes = [
            _plane_view(plane)[:, : pair * _round_up_to_words(width)]
            for plane, pair in zip(frame.planes, (2, 1, 1), strict=True)
        ]
        slots = [
            [
                plane[_plane_slices(pair, position * height, 0, height, width)]
                for plane, pair in zip(planes, (2, 1, 1), strict=True)
            ]
            for position in range(_FRAMES_PER_CONVERSION)
        ]
        buffers[height, width, number] = _ConversionBuffer(frame, planes, slots, VideoReformatter())
    return buffers[height, width, number]


def _plane_slices(pair: int, top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
    """Slices of a plane's rows and columns, given in pairs; `pair` is the plane's samples per pair (2: Y; 1: U, V)."""
    return slice(pair * top, pair * (top + height)), slice(pair * left, pair * (left + width))
