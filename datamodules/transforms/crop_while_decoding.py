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
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from datamodules.batch import Window
from datamodules.sampling.clip_sampling import Integers
from datamodules.transforms.yuv420 import color_factors, split_planes
from datamodules.video.header_frames import frames_by_header
from datamodules.video.orientation import UPRIGHT, orientation_of
from datamodules.video.pyav_decoder import Frames
from datamodules.video.video_container import DecodeError, Source, library_errors

Planes = tuple["av.video.plane.VideoPlane", ...]
Words = npt.NDArray[np.uint64]

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

    def write_frame(self, frame: av.VideoFrame, planes: Planes, position: int) -> None: ...


def _decode_into(data: Source, frame_numbers: Integers, window: Window, writers: Sequence[_ClipWriter]) -> None:
    """Decodes the frames of all clips, int64 (N, T), in order, and passes each to the clips that contain it."""
    destinations: dict[int, list[tuple[_ClipWriter, int]]] = defaultdict(list)
    for writer, numbers in zip(writers, frame_numbers.tolist(), strict=True):
        for position, number in enumerate(numbers):
            destinations[number].append((writer, position))
    wanted = sorted(destinations)
    if wanted[0] < 0:
        raise UnsupportedFramesError
    try:
        with library_errors("pyav cannot decode the video"):
            for number, frame in frames_by_header(data, wanted):
                planes = _supported_planes(frame, window)
                for writer, position in destinations[number]:
                    writer.write_frame(frame, planes, position)
    except DecodeError as error:
        raise UnsupportedFramesError from error


def _supported_planes(frame: av.VideoFrame, window: Window) -> Planes:
    """The three planes of a frame; raises DecodeError if it is not of the kind that is cropped here."""
    fits = frame.format.name == "yuv420p" and (frame.height, frame.width) == (window.frame_height, window.frame_width)
    if not fits or frame.height % 2 or frame.width % 2 or orientation_of(frame) != UPRIGHT:
        raise DecodeError("not such frames as are cut here")
    return frame.planes


class _Part(NamedTuple):
    """A part of a plane, in samples."""

    top: int
    left: int
    height: int
    width: int

    def of(self, plane: "av.video.plane.VideoPlane") -> Frames:
        """A view of the part: uint8 (height, width)."""
        row_bytes = plane.line_size  # rows are padded
        start = self.top * row_bytes + self.left
        size = (self.height, self.width)
        return np.ndarray(size, np.uint8, plane, start, (row_bytes, 1))  # type: ignore[arg-type] # NumPy's stub


def _parts(top: int, left: int, height: int, width: int) -> list[_Part]:
    """The part of each plane, Y, U and V, given in pairs of rows and columns."""
    return [_Part(pair * top, pair * left, pair * height, pair * width) for pair in (2, 1, 1)]


class _PlaneWriter:
    """Writes the planes of one clip: the pairs of rows and columns that contain its window.

    Args:
        window: the window in the frame.
        out: array that the planes are written to, uint8 (T, 3h, 2w).
    """

    def __init__(self, window: Window, out: Frames) -> None:
        self._out_planes = split_planes(out)
        _, rows, columns = self._out_planes[1].shape
        top, left = window.top // 2, window.left // 2
        height, width = min(rows, window.frame_height // 2 - top), min(columns, window.frame_width // 2 - left)
        self._parts = _parts(top, left, height, width)
        self._colors: set[tuple[int, int]] = set()
        for plane_out, part in zip(self._out_planes, self._parts, strict=True):
            plane_out[:, part.height :] = 0
            plane_out[:, :, part.width :] = 0

    def write_frame(self, frame: av.VideoFrame, planes: Planes, position: int) -> None:
        """Copies the pairs of a frame into the clip, as its frame number `position`."""
        self._colors.add((int(frame.colorspace), int(frame.color_range)))
        for plane_out, plane, part in zip(self._out_planes, planes, self._parts, strict=True):
            plane_out[position, : part.height, : part.width] = part.of(plane)

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
        top, left = window.top // 2, window.left // 2
        self._height = (window.top + window.height + 1) // 2 - top  # in pairs
        self._width = (window.left + window.width + 1) // 2 - left
        if window.mirrored:  # the whole strip is mirrored, padding included
            self._offset_in_pair = (
                window.top % 2,
                _round_up_to_words(self._width) * 2 - window.left % 2 - window.width,
            )
        self._mirrored = window.mirrored
        self._positions: list[int] = []
        self._parts = _parts(top, left, self._height, self._width)
        self._kept = _conversion_buffer(self._height, self._width, number)

    def write_frame(self, frame: av.VideoFrame, planes: Planes, position: int) -> None:
        """Copies the window of a frame into the strip, as the clip's frame `position`."""
        if not self._positions:
            self._kept.source.colorspace, self._kept.source.color_range = frame.colorspace, frame.color_range
        for slot, plane, part in zip(self._kept.slots[len(self._positions)], planes, self._parts, strict=True):
            slot[...] = part.of(plane)
        self._positions.append(position)
        if len(self._positions) == _FRAMES_PER_CONVERSION:
            self.convert()

    def convert(self) -> None:
        """Converts the frames collected since the last conversion, if any, and writes their pixels."""
        if not self._positions:
            return
        if self._mirrored:
            for words, mirrored_words in self._kept.words:
                words[...] = mirrored_words
        plane = self._kept.converter.reformat(self._kept.source, format="rgb24", threads=1).planes[0]
        row_bytes = plane.line_size
        top, left = self._offset_in_pair
        shape, strides = (len(self._positions), *self._out.shape[1:]), (2 * self._height * row_bytes, row_bytes, 3, 1)
        start = top * row_bytes + 3 * left
        self._out[self._positions] = np.ndarray(shape, np.uint8, plane, start, strides)  # type: ignore[arg-type]
        self._positions.clear()


def _round_up_to_words(width: int) -> int:
    """The width rounded up to a multiple of 8 bytes: rows are mirrored in 8-byte words."""
    return -(-width // 8) * 8


class _ConversionBuffer(NamedTuple):
    """Buffer and converter for windows of one size, kept because creating them costs as much as a conversion.

    Attributes:
        source: the frame that windows are collected in.
        words: its planes in 8-byte words, uint64 (rows, words), and views of them with every row mirrored.
        slots: views of the planes for each of the collected frames, of the window's size.
        converter: pixel converter for such frames.
    """

    source: av.VideoFrame
    words: list[tuple[Words, Words]]
    slots: list[list[Frames]]
    converter: VideoReformatter


def _conversion_buffer(height: int, width: int, number: int) -> _ConversionBuffer:
    """The buffer for windows of `height` x `width` pairs in clip `number`; created on first use."""
    buffers: dict[tuple[int, int, int], _ConversionBuffer] = _kept.__dict__.setdefault("strips", {})
    if len(buffers) > 64:  # windows of random sizes
        buffers.clear()
    if (height, width, number) not in buffers:
        frame = av.VideoFrame(2 * _round_up_to_words(width), 2 * height * _FRAMES_PER_CONVERSION, "yuv420p")
        whole = _parts(0, 0, height * _FRAMES_PER_CONVERSION, _round_up_to_words(width))
        words = [part.of(plane).view(np.uint64) for part, plane in zip(whole, frame.planes, strict=True)]
        mirrored = [plane[:, ::-1].view(plane.dtype.newbyteorder()) for plane in words]
        slots = [
            [
                part.of(plane)
                for part, plane in zip(_parts(position * height, 0, height, width), frame.planes, strict=True)
            ]
            for position in range(_FRAMES_PER_CONVERSION)
        ]
        words_and_mirrored = list(zip(words, mirrored, strict=True))
        buffers[height, width, number] = _ConversionBuffer(frame, words_and_mirrored, slots, VideoReformatter())
    return buffers[height, width, number]
