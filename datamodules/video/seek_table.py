"""Seek table: the frames of a file and the key frames from which a part of it is decoded, exactly as of the whole file.

A part begins at the key frame before it. Where packets number the frames (mp4, Matroska), every decoded frame's
timestamp is compared with the table, and a frame that the decoder marks as corrupt counts as a difference: the first
frames after a gradual intra refresh, for instance. Other files (transport streams, AVI), and those whose key frames
misled once, are decoded once as a whole; from then on each frame of a part is compared with the checksum of its pixels,
and earlier key frames are tried until all agree, at last the beginning of the file. Where frames have no times of their
own (joined transport streams, whose clock restarts; AVI with B-frames), they are counted from the key frame, which is
found by its position in the file or by its number.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count, dropwhile, islice
from typing import Any, Literal, NamedTuple

import av
import av.container
import av.video
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from datamodules.video.frame_table import FrameTable, PacketTrust, read_frames_and_packets
from datamodules.video.packets import PacketInfo
from datamodules.video.video_container import DecodeError, Source, iterate_frames, open_video

Integers = npt.NDArray[np.int64]
Address = Literal["pts", "dts", "pos"]  # what a key frame's packet is found by: its timestamps, or its place in bytes

# Containers in which reading may begin at any byte; FFmpeg's names.
_BYTE_STREAMS = ("mpegts", "mpeg", "h264", "hevc", "mpegvideo", "m4v")


class KeyFrameError(Exception):
    """The frames decoded from a key frame, or from the beginning, are not those of the table."""


class SeekTable(NamedTuple):
    """The frames of a file, with the timestamps by which they are recognized after a seek.

    Attributes:
        frames: the frame table.
        timestamps: presentation timestamps of the frames as the file has them, ascending, or their numbers where
            `address` is not `pts`; int64 (F,), or (0,) where the file can only be decoded from its beginning.
        keys: presentation and decoding timestamps of the key frames, ascending; int64 (N, 2). Where `address` is not
            `pts`: the numbers of the frames, and the addresses of their packets.
        checksums: of the frames' pixels, int64 (F,); (0,) where the packets number the frames.
        address: `pts`: frames are recognized by their timestamps; `dts` or `pos`: they have none that ascend and are
            counted from a key frame, whose packet has this decoding timestamp, or this position in the file in bytes.
    """

    frames: FrameTable
    timestamps: Integers
    keys: Integers
    checksums: Integers
    address: Address = "pts"

    def starting_keys(self, first: int) -> list[int | None]:
        """The numbers of key frames to decode frame `first` from, in the order to try; None is the file's beginning."""
        if not len(self.timestamps):
            return [None]
        nearest = int(np.searchsorted(self.keys[:, 0], self.timestamps[first], "right")) - 1
        if not len(self.checksums):
            return [nearest]
        earlier: list[int | None] = [nearest + 1 - 2**step for step in range(64) if nearest + 1 - 2**step >= 0]
        return [*earlier, None]


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
    recorded = _FrameChecksums()
    frames, packets, numbered, container = read_frames_and_packets(source, trust, report_step, recorded.add)
    none = np.empty(0, np.int64)
    if numbered:
        timestamps, checksums = sorted(packet.pts or 0 for packet in packets if packet.shown), none
    else:
        if not recorded.timestamps:  # counted by packets whose timestamps are none of the frames', as in AVI
            try:
                frames = read_frames_and_packets(source, "nothing", report_step, recorded.add).table
            except DecodeError:  # one place is damaged; parts before it are decoded from the beginning
                return SeekTable(frames, none, np.empty((0, 2), np.int64), none)
        timestamps, checksums = recorded.timestamps, np.array(recorded.checksums, np.int64)
    keys = np.array([_key_times(packet) for packet in packets if packet.key], np.int64).reshape(-1, 2)
    times = np.array(timestamps, np.int64)
    if not len(keys) or times[0] < keys[0, 0] or (np.diff(times) <= 0).any() or (np.diff(keys[:, 0]) <= 0).any():
        return _counted_table(frames, packets, container, recorded)
    return SeekTable(frames, times, keys, checksums)


def _counted_table(
    frames: FrameTable, packets: Sequence[PacketInfo], container: str, recorded: "_FrameChecksums"
) -> SeekTable:
    """A table of frames that are counted from key frames, found by the packets' places; without keys if there are none.

    The decoder marks the frames of key packets, in the same order.
    """
    address: Address = "dts" if container == "avi" else "pos"
    places = [packet.dts if container == "avi" else packet.position for packet in packets if packet.key]
    found = [pair for pair in zip(recorded.key_frames, places, strict=False) if pair[1] is not None]
    keys, numbers = np.array(found, np.int64).reshape(-1, 2), np.arange(frames.num_frames)
    is_seekable = container in ("avi", *_BYTE_STREAMS) and len(places) == len(recorded.key_frames)
    if not is_seekable or not len(keys) or (np.diff(keys, axis=0) <= 0).any():
        none = np.empty(0, np.int64)
        return SeekTable(frames, none, np.empty((0, 2), np.int64), none)
    return SeekTable(frames, numbers, keys, np.array(recorded.checksums, np.int64), address)


class _FrameChecksums:
    """Timestamps and checksums of decoded frames, in their order, and the numbers of the key frames among them."""

    def __init__(self) -> None:
        self.timestamps: list[int] = []
        self.checksums: list[int] = []
        self.key_frames: list[int] = []
        self._converter = VideoReformatter()

    def add(self, frame: av.VideoFrame) -> None:
        if frame.key_frame:
            self.key_frames.append(len(self.checksums))
        self.timestamps.append(-1 if frame.pts is None else frame.pts)
        self.checksums.append(self.checksum(frame))

    def checksum(self, frame: av.VideoFrame) -> int:
        """CRC-32 of the pixels in 8 bits, without the padding of rows."""
        total = 0
        for plane in self._converter.reformat(frame, format="yuv420p", threads=1).planes:
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            total = zlib.crc32(rows[: plane.height, : plane.width].tobytes(), total)
        return total


def _key_times(packet: PacketInfo) -> tuple[int, int]:
    presented = packet.dts if packet.pts is None else packet.pts
    return presented or 0, (presented if packet.dts is None else packet.dts) or 0


def iterate_part(
    source: Source,
    table: SeekTable,
    first: int,
    stop: int,
    key: int | None,
    report_step: Callable[[], None] = lambda: None,
) -> Iterator[av.VideoFrame]:
    """Decodes the frames from number `first` to before `stop`, one at a time, as stored (see `orientation_of`).

    Args:
        source: the bytes of a video file, or its path.
        table: the file's seek table.
        first: number of the first frame, from 0.
        stop: number of the frame after the last one; above `first`.
        key: number of the key frame to begin at, one of `table.starting_keys(first)`.
        report_step: called after each packet read and each frame decoded.

    Raises:
        KeyFrameError: the frames from that key frame on are not those of the table, or one is damaged.
        DecodeError: the file cannot be opened, or is decoded from its beginning and a frame does not decode.
    """
    if key is None:
        yield from _part_from_beginning(source, first, stop, report_step)
        return
    try:
        yield from _part_from_key_frame(source, table, first, stop, key, report_step)
    except av.FFmpegError:
        raise KeyFrameError from None


def _part_from_key_frame(
    source: Source, table: SeekTable, first: int, stop: int, key: int, report_step: Callable[[], None]
) -> Iterator[av.VideoFrame]:
    key_time, counted = int(table.keys[key, 0]), table.address != "pts"
    compared, wanted_from = len(table.checksums) > 0, int(table.timestamps[first])
    number = first if compared else int(np.searchsorted(table.timestamps, key_time))
    recorded = _FrameChecksums()
    with open_video(source) as (container, stream):
        packets = _packets_from(container, stream, table, key, report_step)
        frames = _decode_all(packets, stream.codec_context)
        if counted:
            frames = islice(dropwhile(lambda frame: not frame.key_frame, frames), first - key_time, None)
        for frame in frames:
            report_step()
            if not counted and frame.pts is not None and frame.pts < (wanted_from if compared else key_time):
                continue  # with an open group of pictures also a frame that is shown before the key frame it follows
            if frame.is_corrupt or not (counted or frame.pts == table.timestamps[number]):
                raise KeyFrameError
            if compared and recorded.checksum(frame) != table.checksums[number]:
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
    table: SeekTable,
    key: int,
    report_step: Callable[[], None],
) -> "Iterator[av.Packet[Any]]":
    """The packets from a key frame on. Seeks that end behind it are repeated from ever earlier key frames."""
    wanted = int(table.keys[key, 0 if table.address == "pts" else 1])
    for step in count():
        start = max(0, key + 1 - 2**step)
        if table.address == "pos":
            container.seek(int(table.keys[start, 1]), unsupported_byte_offset=True)
        else:
            container.seek(int(table.keys[start, 1]), stream=stream)  # also flushes the decoder
        packets = (packet for packet in container.demux(stream) if packet.size)
        for packet in packets:
            report_step()
            place = _address_of(packet, table.address)
            if place == wanted and packet.is_keyframe:
                yield packet
                yield from packets
                return
            if packet.is_keyframe and place is not None and place > wanted:
                break
        if start == 0:
            raise KeyFrameError


def _address_of(packet: "av.Packet[Any]", address: Address) -> int | None:
    if address == "pos":
        return packet.pos
    return packet.dts if address == "dts" or packet.pts is None else packet.pts


def _decode_all(packets: "Iterator[av.Packet[Any]]", decoder: av.VideoCodecContext) -> Iterator[av.VideoFrame]:
    for packet in packets:
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
