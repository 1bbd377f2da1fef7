"""Packet facts: timestamps and flags of a video stream's packets, and whether these number the frames without decoding.

`datamodules.video.frame_table` counts and times frames by them; `datamodules.video.pyav_decoder` seeks by them.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import av

# Containers that list every packet with its timestamp, so that FFmpeg does not have to guess packet boundaries.
_LISTING_FORMATS = ("mp4", "matroska", "avi")

_DIVX_PACKED = re.compile(rb"DivX\d+[Bb]\d+p")  # MPEG-4 user data of encoders that put two frames into one packet
_MAX_EMPTY_VOP_BYTES = 8  # size of an MPEG-4 packet that repeats the previous picture: the decoder outputs no frame


class PacketInfo(NamedTuple):
    """Facts about one packet.

    Attributes:
        pts: presentation timestamp in the stream's time base, or None.
        dts: decoding timestamp in the stream's time base, or None.
        duration: in the stream's time base; 0 where the packet does not state it.
        key: a key frame: decoding may begin here.
        clean_start: a key frame after which nothing refers to earlier frames, as far as the codec tells; in H.264 the
            beginning of a gradual intra refresh is also marked as key, and is not fresh.
        shown: the packet yields a frame: it is within the edit list, and not for reference only.
        one_frame: nothing suggests that it yields another number of frames than one, or none if it is not `shown`.
        position: in the file, in bytes; None where the container does not tell.
    """

    pts: int | None
    dts: int | None
    duration: int
    key: bool
    clean_start: bool
    shown: bool
    one_frame: bool
    position: int | None = None


def read_packet_info(packet: "av.Packet[Any]", decoder: av.VideoCodecContext) -> PacketInfo:
    """Reads the facts of a packet that is not empty.

    Args:
        packet: a packet of a video stream.
        decoder: the codec context of that stream.
    """
    codec = decoder.name
    one_frame = codec != "mpeg4" or (packet.size > _MAX_EMPTY_VOP_BYTES and not _is_packed(packet))
    one_frame = one_frame and not packet.is_corrupt
    shown = not packet.is_discard and not is_reference_only(packet, codec)
    clean_start = packet.is_keyframe and (codec != "h264" or has_idr_slice(packet, decoder.extradata))
    length, key = packet.duration or 0, packet.is_keyframe
    return PacketInfo(packet.pts, packet.dts, length, key, clean_start, shown, one_frame, packet.pos)


def is_reference_only(packet: "av.Packet[Any]", codec: str) -> bool:
    """Whether a packet is for reference only: VP8 (RFC 6386, section 9.1), VP9 (its bitstream, section 7.2)."""
    if codec in ("vp8", "libvpx"):
        return not memoryview(packet)[0] & 0x10
    if codec in ("vp9", "libvpx-vp9"):
        data = memoryview(packet)
        first, last = data[0], data[-1]
        superframe = last & 0xE0 == 0xC0  # several frames, one of them shown, and an index (annex B)
        reserved_profile = first & 0x30 == 0x30
        existing, show = first & 0x08, first & 0x02
        return first >> 6 == 2 and not superframe and not reserved_profile and not existing and not show
    return False


def has_idr_slice(packet: "av.Packet[Any]", extradata: bytes | None) -> bool:
    """Whether an H.264 packet holds an IDR slice, as mp4 and Matroska store it (length-prefixed NAL units).

    Args:
        packet: one access unit.
        extradata: the configuration record of ISO/IEC 14496-15; any other form, as in transport streams, gives False.
    """
    if not extradata or extradata[0] != 1 or len(extradata) < 5:
        return False
    prefix = (extradata[4] & 3) + 1
    data = memoryview(packet)
    position = 0
    while position + prefix < len(data):
        if data[position + prefix] & 31 == 5:
            return True
        position += prefix + int.from_bytes(data[position : position + prefix], "big")
    return False


def _is_packed(packet: "av.Packet[Any]") -> bool:
    return packet.is_keyframe and _DIVX_PACKED.search(bytes(memoryview(packet)[:512])) is not None


def packets_are_ordered(packets: Sequence[PacketInfo]) -> bool:
    """Whether the packets can number the frames: one clock, beginning with a key frame, no timestamp twice.

    False where decoding timestamps go back or two frames have the same timestamp (joined files), where the first packet
    is not a key frame or frames after it are shown before it (cut files: their reference frames are gone), and where a
    packet may yield more or fewer frames than one.
    """
    shown = [packet for packet in packets if packet.shown]
    if (
        not shown
        or not all(packet.one_frame for packet in packets)
        or not packets[0].clean_start
        or has_clock_restart(packets)
    ):
        return False
    times = [packet.pts for packet in shown if packet.pts is not None]
    if len(times) != len(shown):  # without any presentation timestamps, decoding timestamps number the frames
        return not times and all(packet.dts is not None for packet in packets)
    first = packets[0].pts
    return len(set(times)) == len(times) and (first is None or not packets[0].shown or min(times) >= first)


def has_clock_restart(packets: Sequence[PacketInfo]) -> bool:
    """Whether decoding timestamps go back, as in joined files."""
    decoding = [packet.dts for packet in packets if packet.dts is not None]
    return any(before > after for before, after in pairwise(decoding))


def packets_number_frames(packets: Sequence[PacketInfo], container_format: str) -> bool:
    """Whether frame i is the i-th packet's in presentation order, so that frames are counted without decoding.

    Args:
        packets: the facts of all packets of the stream, in file order.
        container_format: FFmpeg's name of the container, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    """
    return any(name in container_format for name in _LISTING_FORMATS) and packets_are_ordered(packets)


def num_decodable_frames(packets: Sequence[PacketInfo]) -> int:
    """Number of frames to expect from the packets, without leading pictures that refer to pictures before the cut."""
    first = next((number for number, packet in enumerate(packets) if packet.key), 0)
    second = next((number for number, packet in enumerate(packets) if packet.key and number > first), len(packets))
    start = packets[first].pts if packets else None
    leading = [p for p in packets[first:second] if p.pts is not None and start is not None and p.pts < start]
    return sum(packet.shown for packet in packets[first:]) - sum(packet.shown for packet in leading)
