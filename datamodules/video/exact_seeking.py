"""Test whether any decoder seeks a file exactly; decord and torchcodec are used only for files that pass it."""

from collections.abc import Container
from itertools import islice
from typing import Any, NamedTuple

import av

from datamodules.video.header_frames import NotIndexedError
from datamodules.video.mp4_sample_table import read_sample_table
from datamodules.video.orientation import orientation_of
from datamodules.video.packets import has_idr_slice
from datamodules.video.pyav_decoder import read_index
from datamodules.video.video_container import Source, iterate_open, library_errors, open_video
from datamodules.video.video_streams import candidate_streams


class _PacketSummary(NamedTuple):
    """Facts about one packet: presentation timestamp, whether it is a key frame, whether decoding can start there."""

    time: int
    is_key: bool
    is_clean_start: bool


def seeks_exactly(source: Source, unsupported_codecs: Container[str] = ()) -> bool:
    """Whether frame i is the same in every decoder: all frames are shown, and every key frame a clean start.

    That means: no edit list that cuts frames away, no frame that follows a key frame and is shown before it (open group
    of pictures), and in H.264 every key frame is an IDR picture (no intra refresh). There is one video stream, because
    decoders choose differently among several, and it is not mirrored, which other decoders ignore. Files that this
    project packed pass.

    Args:
        source: the bytes of a video file, or its path.
        unsupported_codecs: FFmpeg's names of the codecs that the decoder lacks; videos of these never pass.
    """
    with library_errors("the packets cannot be read"), open_video(source) as (container, stream):
        codec = stream.codec_context.name
        if stream.codec_context.codec.canonical_name in unsupported_codecs:
            return False
        if len(candidate_streams(container)) > 1:
            return False

        def summarize(packet: "av.Packet[Any]") -> _PacketSummary:
            fresh = codec != "h264" or (packet.is_keyframe and has_idr_slice(packet, stream.codec_context.extradata))
            return _PacketSummary(
                packet.pts or 0, packet.is_keyframe, fresh
            )  # without a timestamp, `read_index` raises

        try:
            index = read_index(container, stream, summarize)
        except NotIndexedError:
            return False
        if codec == "hevc" or len(index.times) != len(index.packets) or not index.keys or index.keys[0] != 0:
            return False
        latest_key = index.key_times[0]
        for packet in index.packets:
            if packet.is_key:
                latest_key = packet.time
                if not packet.is_clean_start:
                    return False
            elif packet.time < latest_key:
                return False
    plain = isinstance(source, bytes) and read_sample_table(source) is not None
    return plain or not _is_mirrored(source)


def _is_mirrored(source: Source) -> bool:
    with open_video(source) as (container, stream):
        return any(orientation_of(frame).mirrored for frame in islice(iterate_open(container, stream), 1))
