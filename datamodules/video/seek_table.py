"""Seek table: the frames of a file and the key frames from which a part of it is decoded, exactly as of the whole file.

A part begins at the key frame before it. Every decoded frame's timestamp is compared with the table, and a frame that
the decoder marks as corrupt counts as a difference (the first frames after a gradual intra refresh): where a key frame
misleads, `KeyFrameError` says so, and the caller decodes the file from its beginning, with a table made so.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import av
import av.container
import av.video
import numpy as np
import numpy.typing as npt

from datamodules.video.frame_table import FrameTable, PacketTrust, read_frames_and_packets
from datamodules.video.packets import PacketInfo
from datamodules.video.video_container import Source, iterate_frames, open_video

Integers = npt.NDArray[np.int64]


class KeyFrameError(Exception):
    """The frames decoded from a key frame, or from the beginning, are not those of the table."""


class SeekTable(NamedTuple):
    """The frames of a file, with the timestamps by which they are recognized after a seek.

    Attributes:
        frames: the frame table.
        timestamps: presentation timestamps of the frames as the file has them, ascending; int64 (F,), or (0,) where
            the file can only be decoded from its beginning.
        keys: presentation and decoding timestamps of the key frames, ascending; int64 (N, 2).
    """

    frames: FrameTable
    timestamps: Integers
    keys: Integers


def read_seek_table(
    source: Source, trust: PacketTrust = "exact", report_step: Callable[[], None] = lambda: None
) -> SeekTable:
    """Reads all packets of a file once; decodes it where they do not number the frames.

    Args:
        source: the bytes of a video file, or its path.
        trust: `exact`, or `nothing` for a file whose key frames mislead; see `read_frames_and_packets`.
        report_step: called after each packet read and each frame decoded.

    Raises:
        DecodeError: the file cannot be opened or read, or needs decoding and does not decode.
    """
    frames, packets = read_frames_and_packets(source, trust, report_step)
    timestamps = np.array(sorted(packet.pts or 0 for packet in packets if packet.shown), np.int64)
    keys = np.array([_key(packet) for packet in packets if packet.key], np.int64).reshape(-1, 2)
    if not len(keys) or (np.diff(timestamps) <= 0).any() or (np.diff(keys[:, 0]) <= 0).any():
        return SeekTable(frames, np.empty(0, np.int64), np.empty((0, 2), np.int64))
    return SeekTable(frames, timestamps, keys)


def _key(packet: PacketInfo) -> tuple[int, int]:
    shown_at = packet.pts or 0
    return shown_at, shown_at if packet.dts is None else packet.dts


def iterate_part(
    source: Source, table: SeekTable, first: int, stop: int, report_step: Callable[[], None] = lambda: None
) -> Iterator[av.VideoFrame]:
    """Decodes the frames from number `first` to before `stop`, one at a time, as stored (see `orientation_of`).

    Args:
        source: the bytes of a video file, or its path.
        table: the file's seek table.
        first: number of the first frame, from 0.
        stop: number of the frame after the last one; above `first`.
        report_step: called after each packet read and each frame decoded.

    Raises:
        KeyFrameError: the file is not as its table, or a frame is damaged.
        DecodeError: the file cannot be opened, or is decoded from its beginning and a frame does not decode.
    """
    if len(table.timestamps):
        try:
            yield from _part_from_key_frame(source, table, first, stop, report_step)
        except av.FFmpegError:
            raise KeyFrameError from None
    else:
        yield from _part_from_beginning(source, first, stop, report_step)


def _part_from_key_frame(
    source: Source, table: SeekTable, first: int, stop: int, report_step: Callable[[], None]
) -> Iterator[av.VideoFrame]:
    key = int(np.searchsorted(table.keys[:, 0], table.timestamps[first], "right")) - 1
    if key < 0:
        raise KeyFrameError
    key_time = int(table.keys[key, 0])
    number = int(np.searchsorted(table.timestamps, key_time))
    with open_video(source) as (container, stream):
        packets = _packets_from(container, stream, table.keys, key, report_step)
        for frame in _decode_all(packets, stream.codec_context):
            report_step()
            if frame.pts is not None and frame.pts < key_time:
                continue  # open group of pictures: the frame follows the key frame and is shown before it
            if frame.pts != table.timestamps[number] or frame.is_corrupt:
                raise KeyFrameError
            if number >= first:
                yield frame
            number += 1
            if number == stop:
                return
    raise KeyFrameError


def _part_from_beginning(
    source: Source, first: int, stop: int, report_step: Callable[[], None]
) -> Iterator[av.VideoFrame]:
    for number, frame in enumerate(iterate_frames(source)):
        report_step()
        if number >= first:
            yield frame
        if number == stop - 1:
            return
    raise KeyFrameError


def _packets_from(
    container: av.container.InputContainer,
    stream: av.video.VideoStream,
    keys: Integers,
    key: int,
    report_step: Callable[[], None],
) -> "Iterator[av.Packet[Any]]":
    """The packets from a key frame on. Seeks that end behind it are repeated from ever earlier key frames."""
    for step in count():
        start = max(0, key + 1 - 2**step)
        container.seek(int(keys[start, 1]), stream=stream)  # also flushes the decoder
        packets = (packet for packet in container.demux(stream) if packet.size)
        for packet in packets:
            report_step()
            if packet.pts == keys[key, 0] and packet.is_keyframe:
                yield packet
                yield from packets
                return
            if packet.is_keyframe and packet.pts is not None and packet.pts > keys[key, 0]:
                break
        if start == 0:
            raise KeyFrameError


def _decode_all(packets: "Iterator[av.Packet[Any]]", decoder: av.VideoCodecContext) -> Iterator[av.VideoFrame]:
    for packet in packets:
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
