"""Files whose frame i any decoder finds: those that decoders are trusted with which answer wrongly for others."""

from collections.abc import Container
from itertools import islice
from typing import Any, NamedTuple

import av

from datamodules.video.header_frames import NotIndexedError
from datamodules.video.mp4_sample_table import read_sample_table
from datamodules.video.orientation import orientation_of
from datamodules.video.packets import holds_idr
from datamodules.video.pyav_decoder import read_index
from datamodules.video.video_container import Source, iterate_open, library_errors, open_video
from datamodules.video.video_streams import candidate_streams


class _Seen(NamedTuple):
    """What is asked of a packet: when its frame is shown, whether it is a key frame, and a fresh start."""

    time: int
    is_key: bool
    is_fresh: bool


def seeks_exactly(source: Source, lacking: Container[str] = ()) -> bool:
    """Whether any decoder finds frame i: every frame is shown, and every key frame is a fresh start.

    Not where its codec is among those that the decoder is `lacking`.

    So there is no edit list that cuts frames away, no frame after a key frame that is shown before it (an open group
    of pictures), and in H.264 every key frame is an IDR picture (no intra refresh). There is one video stream, for
    decoders choose among several in their own ways, and it is not mirrored, which they do not see. Files that we packed
    are like that.
    """
    with library_errors("the packets cannot be read"), open_video(source) as (container, stream):
        codec = stream.codec_context.name
        if stream.codec_context.codec.canonical_name in lacking:
            return False
        if len(candidate_streams(container)) > 1:
            return False

        def look(packet: "av.Packet[Any]") -> _Seen:
            fresh = codec != "h264" or (packet.is_keyframe and holds_idr(packet, stream.codec_context.extradata))
            return _Seen(packet.pts or 0, packet.is_keyframe, fresh)  # without a time it is not indexed

        try:
            index = read_index(container, stream, look)
        except NotIndexedError:
            return False
        if codec == "hevc" or len(index.times) != len(index.packets) or not index.keys or index.keys[0] != 0:
            return False
        latest_key = index.key_times[0]
        for packet in index.packets:
            if packet.is_key:
                latest_key = packet.time
                if not packet.is_fresh:
                    return False
            elif packet.time < latest_key:
                return False
    plain = isinstance(source, bytes) and read_sample_table(source) is not None
    return plain or not _is_mirrored(source)


def _is_mirrored(source: Source) -> bool:
    with open_video(source) as (container, stream):
        return any(orientation_of(frame).mirrored for frame in islice(iterate_open(container, stream), 1))
