"""How many frame pairs a second does optical flow take on a core: DIS beside TV-L1, and packing with and without it?

    OMP_NUM_THREADS=1 python benchmarks/datasets/flow.py --short-side 128 256

Takes the sample of Kinetics (`$SHARED_DIR/data/kinetics_sample`, else `../shared/data/kinetics_sample`; made videos
where it is not there), or the videos under `--videos`. At each size the first pairs of consecutive frames of every
video are estimated, the methods taking turns; then one process encodes whole videos, as `pack` does, and the flow of
them by DIS. A method whose library is not installed is said not to be measured.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import not_negative, positive, print_heading, sample_folder
from benchmarks.turns import Spent, count, load, ratio, take_turns
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.encoding.transcoding import EncodeProfile, transcode
from datamodules.optical_flow.flow_estimation import (
    FlowMethod,
    FlowUnavailableError,
    convert_frame,
    estimate_flow,
    flow_library,
)
from datamodules.optical_flow.flow_video import encode_flow
from datamodules.video.decoding import iterate_frames

FramePair = tuple[np.ndarray, np.ndarray]
DIS, TVL1, RAFT = "DIS", "TV-L1", "RAFT"
ENCODE, ENCODE_WITH_FLOW = "encoding alone", "encoding and DIS"
METHODS: dict[str, FlowMethod] = {DIS: "dis", TVL1: "tvl1", RAFT: "raft"}


def first_pairs(video: bytes, pairs: int) -> list[FramePair]:
    """The first pairs of consecutive frames: uint8 (H, W, 3) each."""
    frames = islice(iterate_frames(video), pairs + 1)
    return list(pairwise(frame.to_ndarray(format="rgb24") for frame in frames))


def estimating(pairs: Sequence[FramePair], method: FlowMethod) -> Callable[[], None]:
    """Estimates the flow of every pair, of frames that are converted before."""
    converted = [(convert_frame(first, method), convert_frame(second, method)) for first, second in pairs]

    def run() -> None:
        for first, second in converted:
            estimate_flow(first, second, method)

    return run


def encoding(sources: Sequence[bytes], profile: EncodeProfile, with_flow: bool) -> Callable[[], None]:
    """Encodes every video as `pack` does, and what it then stores of flow."""

    def run() -> None:
        for source in sources:
            video = transcode(source, profile).data
            if with_flow:
                encode_flow(video, "dis", profile.key_frame_interval)

    return run


def available_methods() -> dict[str, FlowMethod]:
    """The methods whose libraries are installed; says which are not."""
    available = {}
    for name, method in METHODS.items():
        try:
            flow_library(method)
            available[name] = method
        except (FlowUnavailableError, OSError) as error:
            print(f"{name}: not measured: {error}")
    return available


def print_rows(size: str, spent: dict[str, list[Spent]], pairs: int, against: str) -> None:
    """A row a way: milliseconds a pair and pairs a second of a processor, and times as many as `against`."""
    for name, rounds in spent.items():
        seconds = statistics.median(one.processor for one in rounds) / pairs
        cells = [size, name, f"{1000 * seconds:.2f}", f"{1 / seconds:.2f}"]
        cells.append("1" if name == against else ratio(rounds, spent[against]))
        print(f"| {' | '.join(cells)} |", flush=True)


def measure(sources: Sequence[bytes], short_side: int, options: argparse.Namespace) -> None:
    """Prints the rows of one size."""
    profile = EncodeProfile(short_side=short_side)
    videos = [transcode(source, profile).data for source in sources]
    pairs = [pair for video in videos for pair in first_pairs(video, options.pairs)]
    sizes = sorted({f"{first.shape[1]} x {first.shape[0]}" for first, _ in pairs})
    size = ", ".join(sizes)
    print(f"\n{size}: {count(len(videos), 'video')}, {count(len(pairs), 'pair')}, {load()}\n")
    print("| frames of | | ms a pair | pairs/processor second | times as long as the first |\n" + "| --- " * 5 + "|")
    ways = {name: estimating(pairs, method) for name, method in available_methods().items()}
    print_rows(size, take_turns(ways, options.rounds, options.warm_up), len(pairs), DIS)
    frames = sum(sum(1 for _ in iterate_frames(video)) for video in videos)
    whole = {ENCODE: encoding(sources, profile, False), ENCODE_WITH_FLOW: encoding(sources, profile, True)}
    print_rows(size, take_turns(whole, options.rounds, options.warm_up), frames, ENCODE)


def main() -> None:
    """Prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=sample_folder() / "videos", help="folders of videos")
    parser.add_argument("--limit", type=positive, help="take no more videos than that, in the order of their names")
    parser.add_argument("--short-side", type=positive, nargs="+", default=[128, 256])
    parser.add_argument("--pairs", type=positive, default=5, help="of each video")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--warm-up", type=not_negative, default=1, help="rounds before them that do not count")
    options = parser.parse_args()
    print_heading("opencv-contrib-python-headless", "av", "numpy")
    with tempfile.TemporaryDirectory() as name:
        videos = options.videos
        if not videos.is_dir():
            print(f"{videos} is not there: made videos instead")
            synthetic = SyntheticDatasetOptions(seed=1, train=1, val=0, test=0, num_frames=60, width=456, height=256)
            make_synthetic_dataset(Path(name), synthetic)
            videos = Path(name) / "videos"
        files = sorted(file for ending in ("mp4", "avi") for file in videos.rglob(f"*.{ending}"))
        sources = [file.read_bytes() for file in files[: options.limit]]
    for short_side in options.short_side:
        measure(sources, short_side, options)


if __name__ == "__main__":
    main()
