"""How many clips a second one core loads, beside other loaders and beside FFmpeg's bare decoding of the same frames.

    OMP_NUM_THREADS=1 python -m benchmarks.loading.loader --folder /tmp/loader-benchmark

Packs the sample of Kinetics (`$SHARED_DIR/data/kinetics_sample`, else `../shared/data/kinetics_sample`) and made videos
at short sides 256 and 128, and loads batches of uint8 clips: 64 frames of 224 x 224 from the first, 16 of 112 x 112
from the second. There are 8 videos, and batches of 8: all sides but those of original files read 8 copies of each
(`--copies`), as an epoch begins with work that training does once in hundreds of batches, and as a video that was read
a moment ago is in the processor's cache. Every side is a process of its own with one thread, and they take turns, so
that what else the machine does meets all of them; the ratios of a round are medians with quartiles over the rounds.
They are of seconds of the processor, which a shared machine disturbs less than those of the clock.

`i420` is measured to the batch as it is delivered, in planes; on the CPU it is converted after that, on the device, and
what that takes is said in a line of its own, measured once. With `--device cuda` our rows include it.

The peers are installed with pip into FOLDER/peers; what cannot be is named, and its rows are not measured.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file

from benchmarks.conditions import lacks_gpu, positive, print_heading
from benchmarks.loading.loader_data import datasets
from benchmarks.loading.loader_peers import answer
from benchmarks.loading.loader_sides import (
    CLIP_FACTORS,
    CLIPS,
    NAMES,
    OWN,
    Side,
    goal,
    own_batches,
    sides,
    time_conversion,
)
from benchmarks.loading.peer_environment import clean_environment, installed, peer_python
from benchmarks.turns import count, load, spread

PEERS = (
    ["torch==2.13.0", "numpy<2", "torchcodec==0.13.0"],
    ["mmaction2==1.2.0", "mmcv-lite==2.1.0", "mmengine", "decord==0.6.0", "numpy<2", "opencv-python-headless<4.12"],
    ["webdataset==1.0.2", "numpy<2"],
    ["setuptools<81"],  # mmengine needs pkg_resources
)
PEER_PACKAGES = ("torch", "torchcodec", "mmaction2", "mmcv-lite", "mmengine", "decord", "webdataset", "numpy")


class SideProcess:
    """A side's process."""

    def __init__(self, side: Side, peers: Path) -> None:
        job, here = json.dumps(side.job), Path(__file__)
        if side.job["side"] == "ours":
            command = [sys.executable, "-m", "benchmarks.loading.loader", "--own-side", job]
        else:
            python = sys.executable if side.job["side"] == "bare" else str(peers)
            command = [python, str(here.with_name("loader_peers.py")), job]
        environment = clean_environment() | {"PYTHONPATH": str(here.parents[2])} if "-m" in command else None
        self.name = side.name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=here.parents[2] if "-m" in command else None,
            env=environment or clean_environment(),
        )
        self.problem = next((line for line in map(str.strip, self._process.stdout) if _speaks(line)), "it ended early")

    def load(self, clips: int) -> tuple[float, float]:
        """Seconds of the clock and of the processor for a clip, over at least so many."""
        self._process.stdin.write(f"{clips}\n")
        self._process.stdin.flush()
        done, wall, processor = json.loads(self._process.stdout.readline())
        return wall / done, processor / done

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        self._process.wait()


def _speaks(line: str) -> bool:
    return line == "ready" or line.startswith("not measured")


def compare(options: argparse.Namespace, compared: list[Side], peers: Path) -> None:
    """Prints a table: what a clip takes, and how many times as long as ours."""
    started = []
    for side in compared:
        running = SideProcess(side, peers)
        if running.problem == "ready":
            started.append(running)
        else:
            print(f"| {side.name} | not measured: {running.problem.removeprefix('not measured: ')} | | | | | |")
    rounds = []
    for _ in range(options.rounds):
        rounds.append(
            [
                side.load(4 if "original" in side.name else options.clips * CLIP_FACTORS[options.clip])
                for side in started
            ]
        )
    against = options.against or (started[0].name if started else "")
    divisor = next((number for number, side in enumerate(started) if side.name == against), None)
    if divisor is None and against:
        print(f"no ratios: {against} is not measured")
    for number, side in enumerate(started):
        wall, processor = (statistics.median(one[number][which] for one in rounds) for which in (0, 1))
        cells = ["", "", ""]
        if divisor is not None:
            clock, ratios = ([one[number][which] / one[divisor][which] for one in rounds] for which in (0, 1))
            cells = [spread(ratios), f"{statistics.median(clock):.2f}", ""]
            if against == OWN[0] and (options.dataset == "kinetics" or "original" not in side.name):  # made are small
                cells[2] = goal(side.name, options.clip, statistics.median(ratios))
        print(
            f"| {side.name} | {1 / processor:.1f} | {1000 * processor:.2f} | {1000 * wall:.1f} | {' | '.join(cells)} |",
            flush=True,
        )
        side.close()


def _clip_size(text: str) -> str:
    return " x ".join(part.strip() for part in text.split("x"))


def main() -> None:
    """Runs the comparison, or, in a process of its own, this project's side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "loader-benchmark")
    parser.add_argument("--data", nargs="+", default=["kinetics", "synthetic"], choices=["kinetics", "synthetic"])
    parser.add_argument("--clip-sizes", nargs="+", default=list(CLIPS), type=_clip_size, choices=list(CLIPS))
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument(
        "--clips",
        type=positive,
        default=16,
        help="of each side in a round; four times as many of the small, 4 of the original files",
    )
    parser.add_argument("--copies", type=positive, default=8, help="of each packed video: the batches of an epoch")
    parser.add_argument("--only", nargs="+", default=[], help="sides whose names begin so")
    parser.add_argument("--against", default=None, help="the side that the others are divided by; the first one")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where our clips end")
    parser.add_argument("--own-side", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.own_side:
        torch.set_num_threads(1)
        answer(own_batches(json.loads(options.own_side)))
        return
    names = [name for name in NAMES if not options.only or name.startswith(tuple(options.only))]
    if wrong := [word for word in options.only if not any(name.startswith(word) for name in NAMES)]:
        parser.error(f"--only {wrong[0]}: no side begins so; there are: {'; '.join(NAMES)}")
    if options.against and options.against not in names:
        parser.error(f"--against {options.against}: must be one of the sides that are measured: {'; '.join(names)}")
    print_heading("torch", "av")
    if lacks_gpu(options.device):
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    peers = Path(sys.executable)
    if any(name.startswith("(") for name in names):
        peers, failures = peer_python(options.folder.resolve(), "peers", *PEERS)
        for wanted, problem in failures.items():
            print(f"{wanted}: cannot be installed: {problem}")
        print(f"peers: {installed(peers, *PEER_PACKAGES)}", flush=True)
    for name, originals in datasets(options.data, options.folder.resolve(), options.copies):
        for clip in options.clip_sizes:
            options.clip, options.dataset = clip, name
            print(f"\n{name}, {clip}, {count(options.rounds, 'round')}, {load()}, {time.strftime('%H:%M')}\n")
            columns = ["side", "clips/s of a core", "processor, ms a clip", "clock, ms a clip", "times ours"]
            columns += ["by the clock", "goal"]
            print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
            compared = sides(options, options.folder.resolve(), name, originals)
            compared = [side for side in compared if side.name in names]
            compare(options, compared, peers)
            planes = next((side for side in compared if "i420" in side.name), None)
            if planes and options.device == "cpu":
                torch.set_num_threads(1)
                print(
                    f"\nconverting i420 to RGB on the CPU, one core: {1000 * time_conversion(planes.job):.2f} ms a clip"
                )


if __name__ == "__main__":
    main()
