"""Damaged video files by the thousand, and what reading them did to the process that tried."""

import io
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from datamodules.encoding.transcoding import EncodeProfile, inspect, transcode
from datamodules.video.decoding import DecodeError, decode_frames, probe
from tests.ordinary_priority import ordinary_priority

COUNT, WIDTH, HEIGHT = 20, 64, 48
SOURCES = {
    "h264 mp4": ("libx264", "mp4", {"preset": "veryfast"}),
    "h264 fragmented mp4": ("libx264", "mp4", {"preset": "veryfast"}),
    "h264 mkv": ("libx264", "matroska", {"preset": "veryfast"}),
    "h264 avi": ("libx264", "avi", {"preset": "veryfast", "bf": "0"}),
    "hevc mp4": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}),
    "vp8 webm": ("libvpx", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    "vp9 webm": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    "av1 mp4": ("libsvtav1", "mp4", {"preset": "12", "svtav1-params": "lp=1"}),
    "av1 webm": ("libsvtav1", "webm", {"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4 avi": ("mpeg4", "avi", {}),
    "mpeg4 mp4": ("mpeg4", "mp4", {}),
    "mpeg4 mkv": ("mpeg4", "matroska", {}),
}


class FuzzResult(NamedTuple):
    """What one file gave: by function `frames`, a `DecodeError` reason, or the name of another error; and the cost."""

    results: dict[str, str]
    open_files: int
    peak_mib: int


def make_sources() -> dict[str, bytes]:
    """The whole files, by name; those whose encoder this FFmpeg lacks are left out."""
    made = {}
    for name, (codec, container, options) in SOURCES.items():
        if codec in av.codecs_available:
            made[name] = _encode(codec, container, options, fragmented="fragmented" in name)
    return made


def _encode(codec: str, container: str, options: dict[str, str], fragmented: bool) -> bytes:
    file = io.BytesIO()
    muxing = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    with ordinary_priority(), av.open(file, "w", format=container, container_options=muxing) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", options
        stream.codec_context.gop_size, stream.codec_context.thread_count = 8, 1
        for number in range(COUNT):
            picture = np.stack([x * 4, y * 5, np.full_like(x, number * 12)], -1).astype(np.uint8)
            picture[10:20, number * 3 : number * 3 + 8] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def damage(original: bytes, generator: np.random.Generator) -> bytes:
    """The file with one kind of damage, drawn: cut, bits flipped anywhere or in the header, numbers, parts moved."""
    data = bytearray(original)
    size, kind = len(data), int(generator.integers(8))
    if kind == 0:
        del data[int(generator.integers(size)) :]
    elif kind in (1, 2):  # bits anywhere
        for place in generator.integers(0, size, 2 ** int(generator.integers(8))):
            data[place] ^= 1 << int(generator.integers(8))
    elif kind == 3:  # bits of the first or last 5 %, where headers and tables are
        part = max(16, size // 20)
        first = 0 if generator.integers(2) else size - part
        for place in generator.integers(first, first + part, 1 + int(generator.integers(6))):
            data[place] ^= 1 << int(generator.integers(8))
    elif kind == 4:  # extreme numbers
        for place in generator.integers(0, size - 4, 1 + int(generator.integers(3))):
            extremes = (
                b"\xff\xff\xff\xff",
                b"\x7f\xff\xff\xff",
                b"\0\0\0\0",
                b"\x80\0\0\0",
                b"\xff\xff\0\0",
                b"\0\0\xea\x60",
            )
            data[place : place + 4] = extremes[int(generator.integers(len(extremes)))]
    elif kind == 5:  # a part is lost, or comes twice
        start, length = int(generator.integers(size)), int(generator.integers(1, max(2, size // 4)))
        data[start : start + length] = data[start : start + length] * 2 if generator.integers(2) else b""
    elif kind == 6:  # a block of noise or of zeros, as from a bad disk
        start, length = int(generator.integers(size)), int(generator.integers(1, 600))
        noise = generator.bytes(length) if generator.integers(2) else bytes(length)
        data[start : start + length] = noise[: size - start]
    else:  # cut, then made as long as it was
        cut = int(generator.integers(size))
        data[cut:] = bytes(size - cut)
    return bytes(data)


def damaged_files(sources: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` files, the sources by turns, the same for the same seed."""
    generator = np.random.default_rng(seed)
    names = list(sources)
    for number in range(count):
        name = names[number % len(names)]
        yield name, damage(sources[name], generator)


def read_in_every_way(data: bytes) -> FuzzResult:
    """Probes, decodes a few frames, transcodes and inspects, as the feed and packing do; for a process of its own."""
    profile = EncodeProfile(short_side=32, fps=25, preset="ultrafast")
    ways = {
        "probe": lambda: probe(data),
        "decode": lambda: decode_frames(data, [7, 3, 3, 15], "pyav"),
        "transcode": lambda: transcode(data, profile),
        "inspect": lambda: inspect(data),
    }
    results = {}
    for name, read in ways.items():
        try:
            read()
            results[name] = "frames"
        except DecodeError as error:
            results[name] = error.reason
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    # Not getrusage, whose peak begins with that of the parent process.
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return FuzzResult(results, len(list(Path("/proc/self/fd").iterdir())), int(peak) // 1024)
