"""What is a video and what is none, by content: files of each kind, written here, under names that say nothing."""

import io
import os
import random
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.annotations.content_sniffing import are_videos, is_video


def moving(container: str, codec: str, num_frames: int = 4, pixels: str = "yuv420p", tag: str = "") -> bytes:
    """A video of a few frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format="rgb24")
            output.mux(stream.encode(frame.reformat(format=pixels)))
        output.mux(stream.encode())
    return buffer.getvalue()


def sound(container: str, codec: str) -> bytes:
    """A second of a tone."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48000)
        tone = np.sin(np.arange(48000) / 20).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for part in av.AudioResampler(stream.format, "mono", 48000, stream.frame_size or None).resample(frame):
            output.mux(stream.encode(part))
        output.mux(stream.encode())
    return buffer.getvalue()


def archive(kind: str) -> bytes:
    """A zip or tar that holds a video."""
    buffer = io.BytesIO()
    video = moving("mp4", "libx264")
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as packed:
            packed.writestr("a.mp4", video)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo("a.mp4")
            member.size = len(video)
            tar.addfile(member, io.BytesIO(video))
    return buffer.getvalue()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).normal(size=1000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mov", "mjpeg", "yuvj420p"),
        ("3gp", "mpeg4", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("matroska", "libx264", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("mpegts", "libx264", "yuv420p"),
        ("mpeg", "mpeg1video", "yuv420p"),
        ("asf", "mpeg4", "yuv420p"),
        ("flv", "flv", "yuv420p"),
        ("h264", "libx264", "yuv420p"),
        ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
        ("gif", "gif", "rgb8"),
        ("apng", "apng", "rgb24"),
    ],
)
def test_videos(tmp_path: Path, container: str, codec: str, pixels: str) -> None:
    (tmp_path / "a").write_bytes(moving(container, codec, pixels=pixels))
    assert is_video(str(tmp_path / "a"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a.mp4 1\n",
        "path;label\n".encode("utf-16"),
        "caf\u00e9\n".encode("latin-1") * 500,
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
        bytes(100_000),
        random.Random(0).randbytes(100_000),
        array(),
        archive("zip"),
        archive("tar"),
        moving("image2pipe", "png", 1, "rgb24"),
        moving("image2pipe", "mjpeg", 1, "yuvj420p"),
        moving("image2pipe", "ppm", 1, "rgb24"),
        moving("gif", "gif", 1, "rgb8"),
        moving("apng", "apng", 1, "rgb24"),
        sound("wav", "pcm_s16le"),
        sound("ipod", "aac"),
        sound("adts", "aac"),
        sound("matroska", "flac"),
        b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000),
    ],
)
def test_others(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert not is_video(str(tmp_path / "a"))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "unreadable").symlink_to("/proc/self/mem")  # a read at 0 gives EIO, to root too
    names = ["pipe", "link", "unreadable", "."]
    assert are_videos([str(tmp_path / name) for name in names]) == [False, None, None, False]


def test_many_are_looked_at_in_order(tmp_path: Path) -> None:
    video = moving("mp4", "libx264")
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"words" if number % 3 else video)
    assert are_videos([str(tmp_path / str(number)) for number in range(300)]) == [n % 3 == 0 for n in range(300)]


def test_few_bytes_are_read_of_what_is_none(tmp_path: Path) -> None:
    """Of a hundred thousand arrays on a network disk too."""
    path = tmp_path / "a"
    path.write_bytes(random.Random(1).randbytes(2**23))
    before = _bytes_read()
    assert not is_video(str(path))
    assert _bytes_read() - before < 2**19


def _bytes_read() -> int:
    """Of all system calls that read, in this process."""
    return int(Path("/proc/self/io").read_text().split()[1])
