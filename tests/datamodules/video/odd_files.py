"""Files as recorders, cutters and `cat` leave them, made here: joined, cut without encoding, with several streams."""

import io
from fractions import Fraction

import av
import numpy as np

from tests.ordinary_priority import ordinary_priority

BITS = 8
WIDTH, HEIGHT = 128, 96


def numbered_frame(number, width=WIDTH, height=HEIGHT):
    """A frame whose upper half shows its number as eight black or white bars, the lowest bit first."""
    frame = np.full((height, width, 3), 128, np.uint8)
    for bit in range(BITS):
        frame[: height // 2, width * bit // BITS : width * (bit + 1) // BITS] = 235 if number >> bit & 1 else 16
    return frame


def read_number(frame):
    """The number that a decoded frame shows."""
    height, width = frame.shape[:2]
    columns = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(
        int(frame[height // 8 : 3 * height // 8, column].mean() > 125) << bit for bit, column in enumerate(columns)
    )


def numbered_video(
    codec, container, numbers, fps=25, b_frames=0, key_every=12, times=None, pixels="yuv420p", **options
):
    """A file whose frames show their numbers; `times`, in milliseconds, where they are not evenly spaced."""
    file = io.BytesIO()
    with ordinary_priority(), av.open(file, "w", format=container) as output:
        add_numbered(output, codec, numbers, fps, b_frames, key_every, times, pixels, options)
    return file.getvalue()


def add_numbered(output, codec, numbers, fps, b_frames, key_every, times, pixels, options, size=(WIDTH, HEIGHT)):
    """Encode numbered frames into a new stream of an open container, and nothing else."""
    stream = output.add_stream(codec, rate=fps)
    stream.width, stream.height, stream.pix_fmt = *size, pixels
    stream.options = {name.replace("_", "-"): str(value) for name, value in options.items()}
    context = stream.codec_context
    context.gop_size, context.max_b_frames, context.thread_count = key_every, b_frames, 1
    time_base = Fraction(1, 1000) if times else Fraction(1, fps)
    context.time_base = time_base
    for place, number in enumerate(numbers):
        frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = times[place] if times else place, time_base
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
    return stream


def cut_without_encoding(data, container, first_packet):
    """The packets from a number on, as `ffmpeg -ss ... -c copy` leaves them."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size][first_packet:]
        start = min(packet.dts for packet in packets)
        for packet in packets:
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, stream
            output.mux(packet)
    return file.getvalue()


def plain_decode(data, stream=0):
    """The numbers of all frames that FFmpeg gives from start to end, in its order."""
    with av.open(io.BytesIO(data)) as container:
        return [read_number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=stream)]
