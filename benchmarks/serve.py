"""How many videos a second does a service classify, and how long does a request take, beside the loop of `classify`?

The loop is `python -m pipeline classify FOLDER --json` on the same videos, from its first line of output to its last:
start, imports and loading are left out. The service is `python -m jobs serve` on a local cluster of this machine, asked
over loopback by a number of clients that each send the next video when they have an answer; its first answers are left
out. Both read the same files the same number of times.

    OMP_NUM_THREADS=1 python benchmarks/serve.py --checkpoint runs/demo/last.ckpt --videos my_clips
"""

import argparse
import contextlib
import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import count
from datamodules.annotations.video_files import VIDEO_SUFFIXES

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 8  # requests to each replica, or so, before the clock starts


def loop_rate(checkpoint: Path, videos: list[Path], environment: dict[str, str]) -> float:
    """Videos a second of `classify` on these files, one after the other in one process."""
    with tempfile.TemporaryDirectory() as folder:
        for number, video in enumerate(videos):
            (Path(folder) / f"{number:06d}{video.suffix}").symlink_to(video.absolute())
        command = [sys.executable, "-m", "pipeline", "classify", folder, "--checkpoint", str(checkpoint), "--json"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            times = [time.perf_counter() for line in process.stdout if line.startswith(b"{")]
    return (len(times) - 1) / (times[-1] - times[0])


@contextlib.contextmanager
def service(checkpoint: Path, options: list[str], environment: dict[str, str]) -> Iterator[str]:
    """A service with default limits; its URL."""
    command = [sys.executable, "-m", "jobs", "serve", "--checkpoint", str(checkpoint), "--port", "0", *options]
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen(
            command, env=environment | {"JOBS_STATE_DIR": state}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line.decode()
            if found := re.search(r"answers at (http\S+);", output):
                break
        else:
            raise SystemExit(f"the service did not start: {output}")
        try:
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()


def ask(url: str, videos: list[Path], clients: int) -> tuple[float, list[float]]:
    """Sends the videos by a number of clients; gives the seconds in all, and those of each request."""

    def upload(video: Path) -> float:
        start = time.perf_counter()
        answer = requests.post(f"{url}/v1/classify", data=video.read_bytes(), timeout=600)
        answer.raise_for_status()
        return time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(upload, videos))
    return time.perf_counter() - start, seconds


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos")
    parser.add_argument("--requests", type=positive, default=200, help="in each row")
    parser.add_argument("--clients", type=positive, nargs="+", default=[1, 4, 16])
    parser.add_argument("--replicas", type=positive, default=1)
    parser.add_argument("--decoders", type=positive, default=2)
    args = parser.parse_args()
    print_heading()
    found = sorted(path for path in args.videos.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        parser.error(f"--videos {args.videos}: no video there")
    videos = list(itertools.islice(itertools.cycle(found), args.requests))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    sides = f"{count(args.replicas, 'replica')} with {count(args.decoders, 'decoder')}"
    print(f"{count(len(found), 'video')}, {args.requests} times one; {sides}\n")
    print("| | videos/s | p50, s | p95, s | p99, s |\n| --- | --- | --- | --- | --- |")
    print(f"| `classify`, one process | {loop_rate(args.checkpoint, videos, environment):.1f} | | | |", flush=True)
    options = ["--replicas", str(args.replicas), "--decoders", str(args.decoders)]
    with service(args.checkpoint, options, environment) as url:
        ask(url, videos[: WARM_UP * args.replicas], 4)
        for clients in args.clients:
            wall, seconds = ask(url, videos, clients)
            cuts = statistics.quantiles(seconds, n=100, method="inclusive")
            shown = " | ".join(f"{cuts[percent - 1]:.2f}" for percent in (50, 95, 99))
            name = f"`serve`, {clients} client{'s' if clients > 1 else ''}"
            print(f"| {name} | {len(videos) / wall:.1f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
