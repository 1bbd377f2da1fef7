"""What a loader worker spends on a clip: batches in shared memory that is used again, or in fresh memory each time.

    OMP_NUM_THREADS=1 python benchmarks/loading/batch_memory.py --data /tmp/loader-benchmark/kinetics

Two loaders of one worker, side by side in this process, which reads what comes and lets it go, as training does; they
take turns. Seconds of the processor of the worker, and of this process, from /proc (Linux).
"""

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import spread
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading import planned_loader

CLIPS = {"64 x 224": (64, 224, 256), "16 x 112": (16, 112, 128)}  # frames, side, stored short side
SIDES = {"used again": planned_loader.HELD_BATCHES, "fresh": -2}  # blocks beside the two that are fetched ahead


class Side(NamedTuple):
    """A loader, without end, and the process of its worker."""

    batches: Iterator[int]
    worker: int


def started(data: Path, clip: str, held: int, split: str) -> Side:
    """A loader whose worker has loaded some batches."""
    frames, size, short_side = CLIPS[clip]
    planned_loader.HELD_BATCHES = held
    options = {"sided_classes": "keep", "num_workers": 1, "worker_start": "forkserver", "prefetch_factor": 2}
    shape = {"num_frames": frames, "crop_size": size, "resize": short_side, "rendition": "auto"}
    module = ShardedVideoDataModule(
        str(data), batch_size=8, train_split=split, val_split=None, decoder="pyav", **options, **shape
    )
    loader = module.train_dataloader()

    def endless() -> Iterator[int]:
        for epoch in itertools.count():
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                batch.clips[:, :, ::64, ::16].sum()  # a touch of every page
                yield len(batch.clips)

    batches = endless()
    for _ in range(8):
        next(batches)
    assert loader._watchdog is not None
    return Side(batches, int(loader._watchdog._heartbeats.read()[0, 0]))


def processor(pid: int) -> float:
    """Seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prints a row for each size of clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="packed at short sides 256 and 128")
    parser.add_argument("--split", default="val")
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--batches", type=positive, default=12, help="of 8 clips, a turn; five times that of the small")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_heading("torch", "av")
    print()
    print(
        "| clips | worker, ms a clip: used again | fresh | fresh / used again | training process, fresh / used again |"
    )
    print("| --- " * 5 + "|")
    for clip, (frames, *_) in CLIPS.items():
        sides = {name: started(options.data, clip, held, options.split) for name, held in SIDES.items()}
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
        for _ in range(options.rounds):
            for name, side in sides.items():
                before = processor(side.worker), processor(os.getpid())
                clips = sum(itertools.islice(side.batches, options.batches * (1 if frames == 64 else 5)))
                after = processor(side.worker), processor(os.getpid())
                spent[name].append(((after[0] - before[0]) / clips, (after[1] - before[1]) / clips))
        again, fresh = spent.values()
        cells = [f"{1000 * statistics.median(one[0] for one in side):.2f}" for side in (again, fresh)]
        for which in (0, 1):
            ratios = [new[which] / max(kept[which], 1e-6) for kept, new in zip(again, fresh, strict=True)]
            cells.append(spread(ratios))
        print(f"| {clip} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
