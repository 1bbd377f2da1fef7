"""Files whose frame i any decoder finds: those that decoders are trusted with which answer wrongly for others."""

from collections.abc import Container
from itertools import islice

from datamodules.orientation import orientation_of
from datamodules.packets import holds_idr
from datamodules.sample_table import read_sample_table
from datamodules.seeking import NotIndexedError, packet_time, read_index
from datamodules.video_container import iterate_open, library_errors, open_video
from datamodules.video_streams import candidate_streams


def plainly_indexed(data: bytes, lacking: Container[str] = ()) -> bool:
    """Whether any decoder finds frame i: every frame is shown, and every key frame is a fresh start.

    Not where its codec is among those that the decoder is `lacking`.

    So there is no edit list that cuts frames away, no frame after a key frame that is shown before it (an open group
    of pictures), and in H.264 every key frame is an IDR picture (no intra refresh). There is one video stream, for
    decoders choose among several in their own ways, and it is not mirrored, which they do not see. Files that we packed
    are like that.
    """
    with library_errors("the packets cannot be read"), open_video(data) as (container, stream):
        codec = stream.codec_context.name
        if stream.codec_context.codec.canonical_name in lacking:
            return False
        if len(candidate_streams(container)) > 1:
            return False
        try:
            index = read_index(container, stream)
        except NotIndexedError:
            return False
        if codec == "hevc" or len(index.times) != len(index.packets) or not index.keys or index.keys[0] != 0:
            return False
        latest_key = index.key_times[0]
        for packet in index.packets:
            if packet.is_keyframe:
                latest_key = packet_time(packet)
                if codec == "h264" and not holds_idr(packet, stream.codec_context.extradata):
                    return False
            elif packet_time(packet) < latest_key:
                return False
    return read_sample_table(data) is not None or not _is_mirrored(data)


def _is_mirrored(data: bytes) -> bool:
    with open_video(data) as (container, stream):
        return any(orientation_of(frame).mirrored for frame in islice(iterate_open(container, stream), 1))
