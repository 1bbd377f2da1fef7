"""Do time and memory of the plan grow with the number of videos, with that of ranks, or with where a run resumes?

For each number of videos and ranks a fresh process makes the plan of training, takes the first batch of the last rank,
the first one after shares of the epoch are done (a resume), and 200 batches in a row; then makes the batches of an
evaluation. Memory is what the process alone has (`benchmarks/datasets/index.py`), less the same after its imports.
Times are medians of several repetitions in that process, in seconds of the processor.

The index is measured for the numbers in `--index-rows`, made as in `benchmarks/datasets/index.py`, which does 10
million.

    OMP_NUM_THREADS=1 python benchmarks/datasets/plan.py
"""

import argparse
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import at_least_50000, positive, print_heading
from benchmarks.datasets.index import VIDEOS_PER_SHARD, make, memory_mb
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.sampling.batch_sampler import EvaluationRequests
from datamodules.sampling.epoch_plan import Shuffle, TrainPlan

SHARES = (0.0, 0.1, 0.5, 0.9, 0.999)
BATCH = 8
ROW = 200


def seconds(work: Callable[[], object], repetitions: int = 7) -> float:
    """The median of the processor seconds that it takes."""
    took = []
    for _ in range(repetitions):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return statistics.median(took)


def plan_of(videos: int, ranks: int, shuffle: Shuffle) -> dict[str, float]:
    """What the plan of training takes: seconds and MB."""
    before = memory_mb()["private"]
    shards = -(-videos // VIDEOS_PER_SHARD)
    sizes = tuple([VIDEOS_PER_SHARD] * (shards - 1) + [videos - VIDEOS_PER_SHARD * (shards - 1)])

    def made() -> TrainPlan:
        return TrainPlan(videos, BATCH, ranks, shuffle=shuffle, shard_sizes=sizes if shuffle == "shards" else ())

    plan, last = made(), ranks - 1
    took = {"make": seconds(made)}
    for share in SHARES:
        done = int(share * videos)
        took[f"first at {share:.1%}"] = seconds(lambda done=done: next(plan.batches(3, last, done), None))
    stream = itertools.chain.from_iterable(plan.batches(epoch, last) for epoch in itertools.count())
    next(stream)  # what an epoch costs once is in the columns before; short epochs pay it here too
    took["batch"] = seconds(lambda: [next(stream) for _ in range(ROW)]) / ROW
    return took | {"MB": memory_mb()["private"] - before}


def evaluation_of(videos: int, ranks: int) -> dict[str, float]:
    """What the batches of an evaluation take on the first rank: seconds and MB."""
    before = memory_mb()["private"]
    requests: list[EvaluationRequests] = []
    began = time.process_time()
    requests.append(EvaluationRequests(videos, BATCH, 0, ranks))
    took = time.process_time() - began
    return {"make": took, "first": seconds(lambda: next(iter(requests[0]))), "MB": memory_mb()["private"] - before}


def index_of(folder: Path) -> dict[str, float]:
    """What opening an index takes until the first batch has its entries: seconds and MB."""
    before, began = memory_mb()["private"], time.process_time()
    index = DatasetIndex.open(folder)
    rows = index.rows("train")
    for row in rows[next(TrainPlan(len(rows), BATCH, 512).batches(0, 0))]:
        index.entry(int(row))
    took = time.process_time() - began
    entry = seconds(lambda: index.entry(int(rows[len(rows) // 2])))
    return {"open": took, "entry": entry, "MB": memory_mb()["private"] - before}


def alone(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a fresh process says."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def print_plans(shuffle: Shuffle, videos: list[int], ranks: list[int]) -> None:
    """A row for each number of videos and ranks."""
    print(f"\nshuffle: {shuffle}, {BATCH} videos a rank and step")
    columns = ["videos", "ranks", "made, ms", *(f"first batch at {share:.1%}, ms" for share in SHARES)]
    columns += ["a batch after that, ms", "MB"]
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|", flush=True)
    for count in videos:
        for world in ranks:
            took = alone(plan_of, count, world, shuffle)
            times = [f"{1e3 * value:.2f}" for name, value in took.items() if name != "MB"]
            print(f"| {count:,} | {world:,} | {' | '.join(times)} | {took['MB']:.1f} |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=positive, nargs="+", default=[10**5, 10**6, 10**7, 10**8])
    parser.add_argument("--ranks", type=positive, nargs="+", default=[1, 64, 4096])
    parser.add_argument("--index-rows", type=at_least_50000, nargs="*", default=[10**5, 10**6])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "plan-benchmark")
    options = parser.parse_args()
    print_heading("numpy", "pyarrow")
    for shuffle in ("global", "shards"):
        print_plans(shuffle, options.videos, options.ranks)
    print(
        f"\nevaluation, {BATCH} videos a batch\n| videos | ranks | made, ms | first batch, ms | MB |\n{'| --- ' * 5}|"
    )
    for videos in options.videos:
        for ranks in options.ranks:
            took = alone(evaluation_of, videos, ranks)
            print(
                f"| {videos:,} | {ranks:,} | {1e3 * took['make']:.2f} | {1e3 * took['first']:.2f} | {took['MB']:.1f} |"
            )
    print(
        f"\nindex\n| videos | opened, first batch looked up, ms | an entry more, ms | MB |\n{'| --- ' * 4}|", flush=True
    )
    for rows in options.index_rows:
        folder = options.folder / str(rows)
        if not (folder / "dataset.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, rows)
        alone(index_of, folder)  # the first one makes the mapped copy
        took = alone(index_of, folder)
        print(f"| {rows:,} | {1e3 * took['open']:.1f} | {1e3 * took['entry']:.2f} | {took['MB']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
