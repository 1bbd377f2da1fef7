"""How long does a process take to start on an index of millions of videos, and how much memory is its own?

Makes a table of that many rows (no videos), with the columns, splits and shards of a packed dataset; then starts
several processes at once, as the ranks of a node do. Each opens the index, takes the rows of the training split, plans
an epoch of 512 ranks, and looks its first batch up: all this before anything else is measured. Private memory is
Private_Clean + Private_Dirty of /proc/self/smaps_rollup (Linux), and counts all of the process: the interpreter, numpy
and pyarrow too; what the data add is the difference to the same process with its imports alone.

    python -m benchmarks.datasets.index --folder /tmp/index --rows 10000000
"""

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import at_least_50000, positive, print_heading
from benchmarks.turns import count
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_table import INDEX_NAME, INDEX_SCHEMA
from datamodules.dataset.manifest import Manifest, ShardFile, SplitCounts, write_manifest
from datamodules.dataset.mapped_index import MAPPED_PREFIX
from datamodules.sampling.epoch_plan import TrainPlan

IDENTITY = "0" * 64
VIDEOS_PER_SHARD = 1000
CLASSES = [f"class {number}" for number in range(700)]
RANKS = 512
HASHES = 80  # of 10 s


def make(folder: Path, num_rows: int, hashes: int = HASHES) -> None:
    """Write index.parquet, dataset.json and empty shards: 1 of 100 shards is val, 4 are test, the others train.

    Args:
        folder: Empty.
        num_rows: Videos.
        hashes: Frame hashes of a video: nine tenths of the parquet, and nothing of the copy that is mapped.
    """
    num_shards = -(-num_rows // VIDEOS_PER_SHARD)
    splits = [
        "test" if n < num_shards // 25 else "train" if n < num_shards * 99 // 100 else "val" for n in range(num_shards)
    ]
    shards = [
        ShardFile(
            f"big-{split}-{n:06d}.tar", split, min(VIDEOS_PER_SHARD, num_rows - n * VIDEOS_PER_SHARD), 0, IDENTITY
        )
        for n, split in enumerate(splits)
    ]
    for shard in shards:
        (folder / shard.name).touch()
    schema = INDEX_SCHEMA.with_metadata({b"identity": IDENTITY.encode()})
    with pq.ParquetWriter(folder / INDEX_NAME, schema, compression="zstd") as writer:
        for start in range(0, num_shards, 100):
            writer.write_table(_part(shards[start : start + 100], start * VIDEOS_PER_SHARD, hashes).cast(schema))
    counts = {split: SplitCounts(sum(s.videos for s in shards if s.split == split), {}) for split in set(splits)}
    write_manifest(folder, Manifest("big", CLASSES, [], counts, shards, {}, {}, IDENTITY))


def _part(shards: list[ShardFile], first: int, hashes: int) -> pa.Table:
    shard_of = np.repeat(np.arange(len(shards)), [shard.videos for shard in shards])
    count = len(shard_of)
    random = np.random.default_rng(first)
    digests = random.bytes(32 * count).hex()
    numbers = [f"{number:011d}" for number in range(first, first + count)]
    columns: dict[str, Any] = {
        "key": [f"{number}_000010_000020" for number in numbers],
        "split": [shards[shard].split for shard in shard_of],
        "fold_splits": [[]] * count,
        "group": numbers,
        "label": random.integers(0, len(CLASSES), count, dtype=np.int32),
        "shard": [shards[shard].name for shard in shard_of],
        "video_offset": np.arange(count) * 500_000,
        "video_size": random.integers(300_000, 499_000, count),
        "num_frames": random.integers(240, 301, count, dtype=np.int32),
        "fps": np.full(count, 30.0),
        "width": np.full(count, 340, dtype=np.int32),
        "height": np.full(count, 256, dtype=np.int32),
        "duration_s": np.full(count, 10.0),
        "content_sha256": [digests[start : start + 64] for start in range(0, len(digests), 64)],
        "source": [f"train/some class name/{number}_000010_000020.mp4" for number in numbers],
        "variable_rate": np.zeros(count, dtype=bool),
        "pixel_aspect": np.ones(count),
        "source_start": pa.nulls(count, pa.float64()),
        "source_end": pa.nulls(count, pa.float64()),
        "frame_hashes": pa.ListArray.from_arrays(
            np.arange(count + 1, dtype=np.int32) * hashes,
            np.frombuffer(random.bytes(8 * hashes * count), dtype=np.uint64),
        ),
    }
    return pa.table(columns, schema=INDEX_SCHEMA)


def memory_mb() -> dict[str, float]:
    """What no other process shares, in MB: all of it, and what the kernel cannot drop (written to)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kb = {name: int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty")}
    return {"private": sum(kb.values()) * 1.024e-3, "dirty": kb["Private_Dirty"] * 1.024e-3}


def start(folder: Path, rank: int, together: Any, results: Any) -> None:
    """One rank: from opening to the first batch, then a resume, the other order, and a thousand videos more."""
    together.wait()  # all have imported: what they share counts as shared
    before = memory_mb()
    together.wait()
    times = [time.perf_counter()]

    def done() -> None:
        times.append(time.perf_counter())

    index = DatasetIndex.open(folder)
    done()
    rows = index.rows("train")
    done()
    plan = TrainPlan(len(rows), 8, RANKS, shuffle="global")
    batch = rows[next(plan.batches(epoch=3, rank=rank))]
    done()
    keys = [index.entry(int(row)).key for row in batch]
    done()
    together.wait()  # all have theirs open
    first = memory_mb()
    together.wait()
    times_later = [time.perf_counter()]
    rows[next(plan.batches(epoch=3, rank=rank, consumed=len(rows) * 9 // 10))]
    times_later.append(time.perf_counter())
    by_shard = TrainPlan(len(rows), 8, RANKS, shuffle="shards", shard_sizes=index.shard_sizes(rows))
    rows[next(by_shard.batches(epoch=3, rank=rank))]
    times_later.append(time.perf_counter())
    for samples in itertools.islice(plan.batches(epoch=4, rank=rank), 125):
        keys += [index.entry(int(row)).key for row in rows[samples]]
    times_later.append(time.perf_counter())
    together.wait()
    later = memory_mb()
    took = [*np.diff(times).tolist(), times[-1] - times[0], *np.diff(times_later).tolist()]
    results.put({"times": took, "before": before, "first": first, "later": later, "keys": len(keys)})
    together.wait()


def drop_pages(folder: Path) -> None:
    """Have the kernel forget what it read of the index, as after other work or on a node that was just started."""
    for path in [folder / INDEX_NAME, folder / "dataset.json", *folder.glob(f"{MAPPED_PREFIX}*/*")]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)  # pages that were not written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def run(folder: Path, processes: int) -> dict[str, str]:
    """Start the processes together; what the slowest and the largest of them took."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(processes), context.Queue()
    children = [context.Process(target=start, args=(folder, rank, together, results)) for rank in range(processes)]
    for child in children:
        child.start()
    results_of_ranks = [results.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    names = [
        "open the index, s",
        "rows of the training split, s",
        f"first batch of an epoch of {RANKS} ranks, s",
        "its 8 entries, s",
        "**all of that together, s**",
        "first batch after 90 % of the epoch, s",
        "first batch with shuffle=shards, s",
        "1,000 videos more looked up, s",
    ]
    slowest = np.max([one["times"] for one in results_of_ranks], axis=0)
    lines = {name: f"{seconds:.3f}" for name, seconds in zip(names, slowest, strict=True)}
    for name, when in {"imports alone": "before", "first batch": "first", "1,000 videos more": "later"}.items():
        largest = {kind: max(one[when][kind] for one in results_of_ranks) for kind in ("private", "dirty")}
        lines[f"private after {name}, MB (of it dirty)"] = f"{largest['private']:.1f} ({largest['dirty']:.1f})"
    added = max(one["later"]["private"] - one["before"]["private"] for one in results_of_ranks)
    return lines | {"**private, added by the data, MB**": f"{added:.1f}"}


def main() -> None:
    """Make the table where it is not there, then measure with the index in the page cache and without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "index")
    parser.add_argument("--rows", type=at_least_50000, default=10_000_000)
    parser.add_argument("--hashes", type=positive, default=HASHES, help="of frames, a video")
    parser.add_argument("--processes", type=positive, nargs="+", default=[1, 4])
    options = parser.parse_args()
    print_heading("pyarrow", "numpy")
    if not (options.folder / "dataset.json").exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        make(options.folder, options.rows, options.hashes)
    num_rows = sum(shard["videos"] for shard in json.loads((options.folder / "dataset.json").read_text())["shards"])
    print(f"{num_rows:,} rows")
    if not list(options.folder.glob(f"{MAPPED_PREFIX}*")):
        began = time.perf_counter()
        DatasetIndex.open(options.folder).rows("train")
        print(f"making the copy, once for each dataset: {time.perf_counter() - began:.1f} s")
    parquet = (options.folder / INDEX_NAME).stat().st_size
    mapped = sum(file.stat().st_size for file in options.folder.glob(f"{MAPPED_PREFIX}*/*"))
    print(f"index.parquet {parquet / 1e6:.0f} MB, the mapped copy {mapped / 1e6:.0f} MB")
    columns: dict[str, dict[str, str]] = {}
    for processes in options.processes:
        for dropped in (True, False):
            if dropped:
                drop_pages(options.folder)
            columns[f"{count(processes, 'process')}, {'not' if dropped else 'in'} the page cache"] = run(
                options.folder, processes
            )
    print(f"| | {' | '.join(columns)} |\n| --- {'| --- ' * len(columns)}|")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(column[name] for column in columns.values())} |")


if __name__ == "__main__":
    main()
