"""What the packets of a video stream say before any decoding, and whether they number the frames.

Read by `datamodules.video.frame_table`, which counts and times frames, and by `datamodules.video.pyav_decoder`, which
finds one of them.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import av

# Containers that list each packet with its time, and in which FFmpeg does not guess where a packet ends.
_LISTING_FORMATS = ("mp4", "matroska", "avi")

_DIVX_PACKED = re.compile(rb"DivX\d+[Bb]\d+p")  # MPEG-4 user data of encoders that put two frames into one packet
_MAX_EMPTY_VOP_BYTES = 8  # of an MPEG-4 packet that only says that nothing has changed: no frame comes out


class PacketFacts(NamedTuple):
    """What a packet says.

    Attributes:
        pts: presentation time, in the stream's time base, or None.
        dts: decoding time, or None.
        duration: in the stream's time base; 0 where it does not say.
        key: decoding may begin here.
        fresh: nothing that follows refers to what is before it, as far as the codec tells; H.264 also marks the
            beginning of a gradual refresh as key.
        shown: a frame comes out: it lies within the edit list and is not for reference only.
        certain: nothing speaks against its giving just one frame, or none if it is not `shown`.
    """

    pts: int | None
    dts: int | None
    duration: int
    key: bool
    fresh: bool
    shown: bool
    certain: bool


def facts_of(packet: "av.Packet[Any]", decoder: av.VideoCodecContext) -> PacketFacts:
    """Reads a packet that is not empty.

    Args:
        packet: of a video stream.
        decoder: of the stream.
    """
    codec = decoder.name
    certain = codec != "mpeg4" or (packet.size > _MAX_EMPTY_VOP_BYTES and not _is_packed(packet))
    certain = certain and not packet.is_corrupt
    shown = not packet.is_discard and not holds_no_frame(packet, codec)
    fresh = packet.is_keyframe and (codec != "h264" or holds_idr(packet, decoder.extradata))
    return PacketFacts(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, fresh, shown, certain)


def holds_no_frame(packet: "av.Packet[Any]", codec: str) -> bool:
    """Whether a packet is for reference only: VP8 (RFC 6386, section 9.1) and VP9 (its bitstream, section 7.2)."""
    if codec in ("vp8", "libvpx"):
        return not memoryview(packet)[0] & 0x10
    if codec in ("vp9", "libvpx-vp9"):
        data = memoryview(packet)
        first, last = data[0], data[-1]
        superframe = last & 0xE0 == 0xC0  # ends with an index of several frames, of which one is shown (annex B)
        reserved_profile = first & 0x30 == 0x30
        existing, show = first & 0x08, first & 0x02
        return first >> 6 == 2 and not superframe and not reserved_profile and not existing and not show
    return False


def holds_idr(packet: "av.Packet[Any]", extradata: bytes | None) -> bool:
    """Whether an H.264 packet holds an IDR slice, as mp4 and Matroska store it (lengths before NAL units); else False.

    Args:
        packet: an access unit.
        extradata: ISO/IEC 14496-15's configuration record; of another form, as in transport streams, nothing is said.
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


def in_order(packets: Sequence[PacketFacts]) -> bool:
    """Whether the packets can number the frames at all: one clock, from a key frame on, and no frame twice.

    Not where decoding times go back or two frames have one time (joined files), where the first packet is no key frame
    or frames that follow it are shown before it (cut files: what they refer to is gone), or where a packet may give
    another number of frames than one.
    """
    shown = [packet for packet in packets if packet.shown]
    if not shown or not all(packet.certain for packet in packets) or not packets[0].fresh or clock_restarts(packets):
        return False
    times = [packet.pts for packet in shown if packet.pts is not None]
    if len(times) != len(shown):  # without any presentation times, decoding times number the frames
        return not times and all(packet.dts is not None for packet in packets)
    first = packets[0].pts
    return len(set(times)) == len(times) and (first is None or not packets[0].shown or min(times) >= first)


def clock_restarts(packets: Sequence[PacketFacts]) -> bool:
    """Whether decoding times go back, as in files that were joined."""
    decoding = [packet.dts for packet in packets if packet.dts is not None]
    return any(before > after for before, after in pairwise(decoding))


def packets_number_frames(packets: Sequence[PacketFacts], container_format: str) -> bool:
    """Whether frame i is that of the i-th packet in presentation order, so that nothing need be decoded to count them.

    Args:
        packets: of the whole stream, in the order of the file.
        container_format: FFmpeg's name, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    """
    return any(name in container_format for name in _LISTING_FORMATS) and in_order(packets)
