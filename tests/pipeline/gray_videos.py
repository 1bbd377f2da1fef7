"""Small real videos to pack, one that hangs, and ways to look at what came out."""

import csv
import hashlib
import io
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.quarantine import read_quarantine
from datamodules.encoding.transcoding import encode_frames

NUM_VIDEOS = 12


def make_video(number: int, num_frames: int = 10) -> bytes:
    """Number n is a gray level that can be told after encoding; 48x32 pixels at 10 frames a second."""
    frame = np.full((32, 48, 3), 20 * number, np.uint8)
    return encode_frames([frame] * num_frames, fps=10.0)


def split_of(number: int) -> str:
    return "test" if number % 3 == 0 else "train"


def write_list(path: Path, numbers: list[int], extra: str = "split") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", extra])
        for number in numbers:
            label = ("walk", "run")[number % 2]
            writer.writerow([f"{label}/{number}.mp4", label, f"g{number % 3}", split_of(number)])
    return path


def write_originals(root: Path) -> Path:
    """Twelve videos in two folders, and list.csv."""
    for number in range(NUM_VIDEOS):
        path = root / ("walk", "run")[number % 2] / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_video(number))
    write_list(root / "list.csv", list(range(NUM_VIDEOS)))
    return root


def write_long_video(seconds: int, width: int, height: int, container: str = "mp4", codec: str = "libx264") -> bytes:
    """A video of any length and size, quickly made: one second is encoded, 25 frames of a moving bar, and repeated."""
    second, file = io.BytesIO(), io.BytesIO()
    with av.open(second, "w", format="matroska") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.max_b_frames, stream.codec_context.gop_size = 0, 25
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "30"}
        for number in range(25):
            picture = np.full((height, width, 3), 90, np.uint8)
            picture[:, number * width // 25 :][:, : width // 25] = 200
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    second.seek(0)
    with av.open(second) as source, av.open(file, "w", format=container) as output:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        stream = output.add_stream_from_template(source.streams.video[0])
        for number in range(25 * seconds):
            packet = av.Packet(packets[number % 25])
            packet.pts = packet.dts = number
            packet.duration, packet.time_base, packet.stream = 1, Fraction(1, 25), stream
            packet.is_keyframe = number % 25 == 0
            output.mux(packet)
    return file.getvalue()


def make_endless(path: Path) -> None:
    """A whole video of ten frames, whose last time stamp says 2.5 hours: at 10 frames a second, 90,000 frames.

    Encoding those takes a quarter of an hour, as they are wide: what a hang looks like from outside, also on a machine
    that stands still for minutes. (More hours would be refused as damaged.)
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 10240, 320, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((320, 10240, 3), 100, np.uint8), format="rgb24")
            frame.pts = number if number < 9 else 90_000
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir() if path.is_file()}


def reasons(root: Path) -> dict[str, str]:
    return {refusal.path: refusal.reason for refusal in read_quarantine(root).values()}


def keys(root: Path) -> set[str]:
    index = DatasetIndex.open(root)
    return set(index.column("key", index.rows("all")))


def command(out: Path, videos: Path, *more: str) -> list[str]:
    words = [
        "pack",
        "--annotations",
        str(videos / "list.csv"),
        "--out",
        str(out),
        "--videos-per-shard",
        "3",
        "--fps",
        "10",
    ]
    return [sys.executable, "-m", "pipeline", *words, *more]


def wait_for(condition: Callable[[], object], seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def noisy_videos(folder: Path) -> Path:
    """Videos of about 40 kB, in a list."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = ["path,label,split"]
    for number in range(6):
        frames = generator.integers(0, 256, (4, 64, 96, 3), dtype=np.uint8)
        (folder / f"{number}.mp4").write_bytes(encode_frames(list(frames), fps=10.0))
        lines.append(f"{number}.mp4,a,train")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder
