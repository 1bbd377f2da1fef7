"""How videos are encoded when they are packed: what decoding a random clip takes, the bytes, and what is lost.

    OMP_NUM_THREADS=1 python benchmarks/datasets/rendition.py

Encodes the sample of Kinetics (`$SHARED_DIR/data/kinetics_sample`, else `../shared/data/kinetics_sample`; made videos
where it is not there) with each of some settings, and lets FFmpeg decode random windows of all videos, from the key
frame before them on, one thread, the settings taking turns. Luma is held against that of a lossless encoding (crf 0) of
the same size: PSNR in dB, the mean over frames.
"""

import argparse
import io
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading, sample_folder
from benchmarks.turns import count, load, ratio, take_turns
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.encoding.transcoding import EncodeProfile, transcode

CLIPS = {"64 frames of short side 256": (64, 256), "16 frames of short side 128": (16, 128)}
SETTINGS: dict[str, dict[str, Any]] = {
    "as packed": {},
    "not fast_decode": {"fast_decode": False},
    "key_frame_interval 4": {"key_frame_interval": 4},
    "key_frame_interval 8": {"key_frame_interval": 8},
    "key_frame_interval 32": {"key_frame_interval": 32},
    "crf 20": {"crf": 20},
    "crf 26": {"crf": 26},
    "preset medium": {"preset": "medium"},
}


class OpenedVideo(NamedTuple):
    """A video that can be decoded from any of its key frames on, without anything being read."""

    container: av.container.InputContainer  # its decoder lives as long as it
    decoder: av.VideoCodecContext
    packets: "list[av.Packet[Any]]"
    keys: list[int]


def opened(data: bytes) -> OpenedVideo:
    """Opens a video and reads its packets."""
    container = av.open(io.BytesIO(data))
    stream = container.streams.video[0]
    stream.thread_type, stream.thread_count = "NONE", 1
    packets = [packet for packet in container.demux(stream) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    return OpenedVideo(container, stream.codec_context, packets, keys)


def decoding(videos: list[OpenedVideo], frames: int, windows: int) -> Callable[[], None]:
    """Decodes windows of every video: the same ones, whatever the settings."""

    def run() -> None:
        chosen = random.Random(frames)
        for _, decoder, packets, keys in videos * windows:
            start = chosen.randint(0, max(0, len(packets) - frames))
            decoder.flush_buffers()
            for packet in packets[max(key for key in keys if key <= start) : start + frames]:
                decoder.decode(packet)
            decoder.decode(None)

    return run


def lumas(data: bytes) -> list[np.ndarray]:
    """The luma of every frame, uint8 (H, W)."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]


def decibels(encoded: list[bytes], lossless: list[bytes]) -> float:
    """PSNR of luma, the mean over all frames."""
    found = []
    for one, other in zip(encoded, lossless, strict=True):
        for ours, true in zip(lumas(one), lumas(other), strict=True):
            error = np.square(ours.astype(np.float32) - true).mean()
            found.append(10 * np.log10(255**2 / max(float(error), 1e-9)))
    return statistics.mean(found)


def sources(folder: Path) -> list[Path]:
    """The videos to encode."""
    sample = sample_folder() / "videos"
    if not sample.is_dir():
        print(f"{sample} is not there: made videos instead")
        options = SyntheticDatasetOptions(seed=1, train=0, val=0, num_frames=150, width=456, height=256)
        make_synthetic_dataset(folder, options)
    return sorted((sample if sample.is_dir() else folder / "videos").glob("*/*.mp4"))


def main() -> None:
    """Prints a table for each size of clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--windows", type=positive, default=4, help="of each video in a round")
    parser.add_argument("--limit", type=positive, help="take no more videos than that")
    options = parser.parse_args()
    print_heading("av", "numpy")
    with tempfile.TemporaryDirectory() as folder:
        videos = [path.read_bytes() for path in sources(Path(folder))][: options.limit]
    for name, (frames, short_side) in CLIPS.items():
        plain = EncodeProfile(short_side=short_side)
        encoded, seconds = {}, {}
        for setting, changes in SETTINGS.items():
            began = time.process_time()
            encoded[setting] = [transcode(video, replace(plain, **changes)).data for video in videos]
            seconds[setting] = (time.process_time() - began) / len(videos)
        lossless = [transcode(video, replace(plain, crf=0, preset="ultrafast")).data for video in videos]
        ways = {
            setting: decoding([opened(one) for one in encoded[setting]], frames, options.windows)
            for setting in SETTINGS
        }
        spent = take_turns(ways, options.rounds)
        print(f"\n{name}, {count(len(videos), 'video')}, {count(options.rounds, 'round')}, {load()}\n")
        print(
            "| | ms a clip | as packed / this | MB | of as packed | PSNR, dB | packing, s a video |\n"
            + "| --- " * 7
            + "|"
        )
        for setting in SETTINGS:
            took = statistics.median(one.processor for one in spent[setting]) / (len(videos) * options.windows)
            size, usual = (sum(map(len, encoded[which])) for which in (setting, "as packed"))
            cells = [f"{1000 * took:.2f}", ratio(spent["as packed"], spent[setting]), f"{size / 1e6:.2f}"]
            cells += [f"{size / usual:.2f}", f"{decibels(encoded[setting], lossless):.1f}", f"{seconds[setting]:.2f}"]
            print(f"| {setting} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
