"""How fast do videos come from a server that is far away, one by one, and read ahead of being asked for?

A server on loopback, in a process of its own, answers every GET after `--latency-ms`. The videos are bytes; decoding is
a sleep. One worker reads batches of 8 in four orders. All settings take turns, round by round; the medians over the
rounds are printed, and the ratio to reading one by one.

    python -m benchmarks.loading.remote_reads --latency-ms 50
"""

import argparse
import hashlib
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import from_zero, positive, print_heading
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.storage.prefetch import ByteRange, ReadAhead
from datamodules.storage.remote_files import RemoteFiles
from tests.datamodules.storage.flaky_server import FlakyServer

SHARDS, VIDEOS_PER_SHARD, HEADERS = 32, 64, 1024  # HEADERS: bytes of tar between two videos
BATCH = 8
ORDERS: dict[str, dict[str, Any]] = {
    "shuffle: global": {"shuffle": "global"},
    "shuffle: shards, 16 at a time": {"shuffle": "shards", "shard_window": 16},
    "shuffle: shards, 1 at a time": {"shuffle": "shards", "shard_window": 1},
    "in order (evaluation)": {"shuffle": "none"},
}


def make(folder: Path, video_bytes: int) -> list[ByteRange]:
    """Shards of random bytes, and where each video is."""
    places = []
    for shard in range(SHARDS):
        with (folder / f"{shard}.tar").open("wb") as file:
            for _ in range(VIDEOS_PER_SHARD):
                data = np.random.default_rng(len(places)).bytes(video_bytes)
                digest = hashlib.sha256(data).hexdigest()
                file.write(bytes(HEADERS))
                places.append(ByteRange(len(places), f"{shard}.tar", file.tell(), len(data), digest))
                file.write(data)
    return places


def serve(folder: Path, latency_s: float, address: Any) -> None:
    """A process that answers until it is ended."""
    with FlakyServer(folder, latency_s=latency_s) as server:
        address.put(server.url)
        server.serve_forever()


def read(url: str, batches: list[list[ByteRange]], reads: int, decode_s: float) -> float:
    """Seconds to read the batches; `reads` 0 is one by one, as asked for."""
    files = RemoteFiles(url)
    ahead = ReadAhead(files.read_byte_range, max(1, reads), 2**26)
    files.size("0.tar")  # connected
    began = time.perf_counter()
    for batch, later in zip(batches, [*batches[1:], []], strict=True):
        if reads:
            ahead.expect([*batch, *later])
        for place in batch:
            ahead.take(place)
            time.sleep(decode_s)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print a table for each order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=from_zero, default=50.0)
    parser.add_argument("--video-kb", type=positive, default=300)
    parser.add_argument("--decode-ms", type=from_zero, default=5.0)
    parser.add_argument("--batches", type=positive, default=6)
    parser.add_argument("--rounds", type=positive, default=3)
    chosen = parser.parse_args()
    print_heading("numpy")
    settings = {"one by one": 0, "1 thread": 1, "4 threads": 4, "8 threads": 8, "16 threads": 16}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = make(folder, chosen.video_kb * 1000)
        context = multiprocessing.get_context("spawn")
        address = context.Queue()
        server = context.Process(target=serve, args=(folder, chosen.latency_ms / 1000, address), daemon=True)
        server.start()
        url = address.get(timeout=60)
        count = chosen.batches * BATCH
        print(f"{chosen.latency_ms:.0f} ms, videos of {chosen.video_kb} kB, {chosen.decode_ms:.0f} ms to decode one")
        for order, options in ORDERS.items():
            plan = TrainPlan(len(places), BATCH, shard_sizes=(VIDEOS_PER_SHARD,) * SHARDS, **options)
            samples = list(plan.batches(epoch=0, rank=0))[: chosen.batches]
            batches = [[places[sample] for sample in batch] for batch in samples]
            found: dict[str, list[float]] = {name: [] for name in settings}
            for _ in range(chosen.rounds):
                for name, reads in settings.items():
                    found[name].append(read(url, batches, reads, chosen.decode_ms / 1000))
            print(f"\n| {order} | videos/s | ratio |\n| --- | --- | --- |")
            usual = statistics.median(found["one by one"])
            for name, runs in found.items():
                seconds = statistics.median(runs)
                print(f"| {name} | {count / seconds:.1f} | {usual / seconds:.2f} |")
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
