"""How long does the split guard take for hundreds of thousands of videos, in how much memory, and what does it find?

Made hashes: a video of 10 s has 80, of five scenes that change by two bits a frame. 85 % of the videos are train, 5 %
val, 10 % test. Of every 300 videos one in test is made from one of train: re-encoded, mirrored, or an overlap of 3 s,
with 3 to 9 bits of each frame flipped. Each size runs in a process of its own; its memory is the highest resident
set (VmHWM), of which the videos, as packing holds them, take the part that is printed first. Others are pairs found
that were not made: two scenes of random hashes may be alike for a second by chance.

    python -m benchmarks.datasets.split_guard --videos 10000 100000 300000
"""

import argparse
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from datamodules.leakage.perceptual_hash import HASHES_PER_SECOND, mirror_hashes
from datamodules.leakage.split_leakage import GuardedVideo, find_leaks

FRAMES, SCENES = 80, 5
OVERLAP = 24  # frames


def disturbed(hashes: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The hashes with so many random bits of each flipped (two fewer where a bit is drawn twice)."""
    for number in range(int(counts.max())):
        bits = np.uint64(1) << random.integers(0, 64, len(hashes), dtype=np.uint64)
        hashes = np.where(counts > number, hashes ^ bits, hashes)
    return hashes


def make_hashes(random: np.random.Generator) -> np.ndarray:
    """A video's: uint64 (80,)."""
    scenes = random.integers(1, 2**64, SCENES, dtype=np.uint64)
    steps = np.uint64(1) << random.integers(0, 64, (2, SCENES, FRAMES // SCENES), dtype=np.uint64)
    drift = np.bitwise_xor.accumulate(steps[0] ^ steps[1], axis=1)
    return (scenes[:, None] ^ drift).reshape(-1)


def make_videos(count: int) -> tuple[list[GuardedVideo], dict[tuple[str, str], str]]:
    """The videos, and the pairs among them that show the same, by kind."""
    random = np.random.default_rng(count)
    videos: list[GuardedVideo] = []
    pairs: dict[tuple[str, str], str] = {}
    train: list[GuardedVideo] = []
    for number in range(count):
        split = ("train", "test", "val")[int(np.searchsorted((0.85, 0.95), random.random(), side="right"))]
        hashes = make_hashes(random)
        key = f"v{number:07d}"
        if number % 300 == 299:
            split = "test"
            source = int(random.integers(len(train)))
            kind = ("re-encoded", "mirrored", "overlap of 3 s")[number // 300 % 3]
            other = np.array(train[source].frame_hashes, dtype=np.uint64)
            if kind == "overlap of 3 s":
                other = np.concatenate([other[-OVERLAP:], hashes[OVERLAP:]])
            hashes = disturbed(other, random.integers(3, 10, FRAMES), random)
            hashes = mirror_hashes(hashes) if kind == "mirrored" else hashes
            pairs[f"t{source}", key] = kind
        if split == "train":
            key = f"t{len(train)}"
        values = tuple(hashes.tolist())
        videos.append(GuardedVideo(key, split, (), key, key, values, FRAMES / HASHES_PER_SECOND))
        if split == "train":
            train.append(videos[-1])
    return videos, pairs


def resident_mb(name: str) -> float:
    """`VmRSS`, now, or `VmHWM`, at its highest."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1.024e-3


def measure(count: int, results: Any) -> None:
    """In a process of its own: what it took and found."""
    videos, pairs = make_videos(count)
    before = resident_mb("VmRSS")
    began = time.perf_counter(), time.process_time()
    leaks = find_leaks(videos)
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    found = {tuple(sorted((leak.first, leak.second))) for leak in leaks}
    hits: dict[str, list[bool]] = {}
    for pair, kind in pairs.items():
        hits.setdefault(kind, []).append(tuple(sorted(pair)) in found)
    others = len(found - {tuple(sorted(pair)) for pair in pairs})
    results.put((took, before, resident_mb("VmHWM"), {kind: (sum(of), len(of)) for kind, of in hits.items()}, others))


def main() -> None:
    """Measure and print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=positive, nargs="+", default=[10_000, 100_000, 300_000])
    options = parser.parse_args()
    print_heading("numpy")
    print(
        "| videos | s | CPU s | videos alone, MB | at most, MB | found | others |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    context = multiprocessing.get_context("spawn")
    for count in options.videos:
        results = context.Queue()
        child = context.Process(target=measure, args=(count, results))
        child.start()
        (seconds, cpu), before, most, hits, others = results.get()
        child.join()
        summary = ", ".join(f"{kind} {number} of {of}" for kind, (number, of) in sorted(hits.items()))
        print(
            f"| {count:,} | {seconds:.1f} | {cpu:.1f} | {before:.0f} | {most:.0f} | {summary} | {others} |", flush=True
        )


if __name__ == "__main__":
    main()
