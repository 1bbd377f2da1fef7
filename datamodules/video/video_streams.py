"""Choice of the video stream: files also hold previews, cover pictures and smaller copies as video streams."""

from collections.abc import Callable, Mapping, Sequence

import av
import av.container
import av.stream
import av.video

_Disposition = av.stream.Disposition
_MIN_PACKETS = 2  # a stream of a single packet is a picture


def candidate_streams(container: av.container.InputContainer) -> list[av.video.VideoStream]:
    """The video streams that are not attached pictures (covers), in file order."""
    return [stream for stream in container.streams.video if not stream.disposition & _Disposition.attached_pic]


def choose_stream(
    streams: Sequence[av.video.VideoStream], count_packets: Callable[[], Mapping[int, int]]
) -> av.video.VideoStream:
    """The stream that FFmpeg and players choose: the default one, then the largest, then the first; never a picture.

    Args:
        streams: candidates, at least one.
        count_packets: returns the number of packets of each stream by the stream's index, counted up to 2; called only
            where there are several streams and the container does not state their lengths.
    """
    readable = [stream for stream in streams if stream.codec_context is not None] or list(streams)
    if len(readable) > 1:
        counts: Mapping[int, int] = {stream.index: stream.frames for stream in readable}
        if not all(counts.values()):
            counts = count_packets()
        moving = [stream for stream in readable if counts.get(stream.index, 0) >= _MIN_PACKETS]
        readable = moving or readable
    return max(readable, key=_preference)


def count_up_to_two_packets(
    container: av.container.InputContainer, streams: Sequence[av.video.VideoStream]
) -> dict[int, int]:
    """Number of packets of each stream by its index, counted up to 2, which distinguishes a picture from a video."""
    counts = {stream.index: 0 for stream in streams}
    for packet in container.demux(list(streams)):
        if packet.size:
            counts[packet.stream_index] += 1
            if min(counts.values()) >= _MIN_PACKETS:
                break
    return counts


def _preference(stream: av.video.VideoStream) -> tuple[bool, int, int]:
    context = stream.codec_context
    area = 0 if context is None else context.width * context.height
    return bool(stream.disposition & _Disposition.default), area, -stream.index
