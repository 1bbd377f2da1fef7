"""Streams to read: transport streams, ffmpeg as a sender, named pipes, and the command run on them."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import av
import numpy as np
import pytest

from pipeline.__main__ import main

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg to send a stream")

LIVE_VIDEO = ["-re", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-c:v", "libx264", "-preset", "ultrafast"]
LIVE_VIDEO += ["-g", "12", "-bf", "0", "-pix_fmt", "yuv420p"]  # words for ffmpeg: a paced video without end


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def moving_video(
    num_frames: int,
    width: int = 64,
    height: int = 48,
    container: str = "mpegts",
    codec: str = "mpeg2video",
    first: int = 0,
    rate: int = 25,
) -> bytes:
    """A bar that moves over noise, a frame like no other; its clock begins with frame `first`."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 120, (height, width, 3), dtype=np.uint8)
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 0
        for number in range(first, first + num_frames):
            picture = noise.copy()
            picture[:, 3 * number % width :][:, : width // 8] = 40 + 5 * number % 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@contextmanager
def fed_pipe(folder: Path, *parts: bytes) -> Iterator[Path]:
    """A named pipe to which these bytes are written, as fast as they are read."""
    path = folder / "pipe"
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in parts:
                pipe.write(part)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    yield path
    writer.join(60)
    assert not writer.is_alive()


class Printed(list[dict[str, Any]]):
    """The JSON lines that the command printed; its exit status; what it wrote on standard error."""

    def __init__(self, out: str, err: str, status: int) -> None:
        super().__init__(json.loads(line) for line in out.splitlines())
        self.err, self.status = err, status

    @property
    def windows(self) -> list[dict[str, Any]]:
        return [line for line in self if "event" not in line]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self if "event" in line]


def classify(capsys: pytest.CaptureFixture[str], source: object, *words: str) -> Printed:
    capsys.readouterr()
    status = main(["classify", "--live", str(source), *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return Printed(captured.out, captured.err, status)


@contextmanager
def ffmpeg(*words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """ffmpeg with these words, killed at the end."""
    process = subprocess.Popen(["ffmpeg", "-nostdin", "-loglevel", "error", *words], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def standard_input() -> Iterator[io.RawIOBase]:
    """The write end of a pipe whose read end is this process's standard input."""
    read, write = os.pipe()
    before = os.dup(0)
    os.dup2(read, 0)
    os.close(read)
    try:
        with os.fdopen(write, "wb", buffering=0) as pipe:
            yield pipe
    finally:
        os.dup2(before, 0)
        os.close(before)


@contextmanager
def standard_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """The read end of a pipe that is this process's standard output."""
    read, write = os.pipe()
    with os.fdopen(read) as lines, os.fdopen(write, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        yield lines
        monkeypatch.undo()
