"""Does training wait for data: the time of a step against that of its slower side, with 0 to N workers.

    OMP_NUM_THREADS=1 python -m benchmarks.loading.feed --folder /tmp/feed-benchmark --workers 0 1 2

Makes videos, packs them, and times, taking turns over the rounds: an epoch of the loader alone, the same steps of the
model alone on a batch that is there, and both together as in training. Both sides overlap perfectly where a step takes
what the slower one takes alone, which is 1.00; with no worker they follow each other. The first batches, in which
workers start, are left out. The median ratio and its quartiles are printed, with the share of the time spent waiting.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file

from benchmarks.conditions import is_packed, lacks_gpu, not_negative, positive, print_heading
from benchmarks.turns import count, spread
from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from lightning_modules.networks.c3d import C3D
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.training.loader_bottleneck import TimeBreakdown, report_bottleneck


def packed(folder: Path, a_class: int) -> Path:
    """Made videos of 176 x 128 in 8 classes, packed as they are, once; 800 are more than a usual round takes."""
    shards, made = folder / f"shards-{8 * a_class}", folder / f"made-{8 * a_class}"
    if not is_packed(shards, short_side=128):
        folder.mkdir(parents=True, exist_ok=True)
        options = SyntheticDatasetOptions(train=a_class, val=0, test=0, num_frames=36, width=176, height=128)
        make_synthetic_dataset(made, options)
        pack(PackOptions(shards, [made / "train.csv"], made, short_side=128, processes=1))
    return shards


class TrainingStep:
    """One step of training: forward, loss, backward, optimizer."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._model = C3D(num_classes=8, width=width).to(device)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-3)
        self._device = device

    def __call__(self, batch: ClipBatch) -> None:
        """Trains on a batch and waits for the device."""
        moved = batch._replace(clips=batch.clips.to(self._device, non_blocking=True))
        scores = self._model(moved)
        loss = torch.nn.functional.cross_entropy(scores, batch.labels.to(self._device))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def timed(batches: Iterator[ClipBatch], steps: int, do: Callable[[ClipBatch], None]) -> tuple[float, float, float]:
    """Seconds of the clock, waiting and loading for a step."""
    waited = loading = 0.0
    began = time.perf_counter()
    for _ in range(steps):
        requested = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - requested
        loading += batch.load_seconds
        do(batch)
    return (time.perf_counter() - began) / steps, waited / steps, loading / steps


def endless(data: ShardedVideoDataModule) -> Iterator[ClipBatch]:
    """The batches of all epochs."""
    loader, epoch = data.train_dataloader(), 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def main() -> None:
    """Prints a row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "feed-benchmark")
    parser.add_argument("--workers", type=not_negative, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--width", type=positive, default=2, help="channels of C3D's first layer: how slow it is")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--videos-a-class", type=positive, default=100, help="that are made, of 8 classes")
    parser.add_argument("--steps", type=positive, default=16)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    print_heading("torch", "av")
    if lacks_gpu(options.device):
        return
    torch.set_num_threads(1)
    root, device = packed(options.folder.resolve(), options.videos_a_class), torch.device(options.device)
    step = TrainingStep(options.width, device)
    print("| workers | loader alone, ms | model alone, ms | step, ms | slower side / step | waiting |")
    print("| --- | --- | --- | --- | --- | --- |")
    for workers in options.workers:
        data = ShardedVideoDataModule(
            str(root), batch_size=options.batch_size, num_frames=16, crop_size=112, resize=128, val_split=None,
            num_workers=workers, sided_classes="keep", decoder="pyav",
        )  # fmt: skip
        batches = endless(data)
        kept = next(batches)
        step(kept)
        rows: list[tuple[float, float, float, float]] = []
        spent = TimeBreakdown()
        for _ in range(options.rounds):
            loader, *_ = timed(batches, options.steps, lambda batch: None)
            model, *_ = timed(iter([kept] * options.steps), options.steps, step)
            timed(batches, 2 * max(1, workers), step)  # what was read ahead meanwhile
            both, waited, loading = timed(batches, options.steps, step)
            rows.append((loader, model, both, max(loader, model) / both))
            spent = spent.plus(both, waited, loading)
        loader, model, both, _ = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"| {workers} | {1000 * loader:.0f} | {1000 * model:.0f} | {1000 * both:.0f} | "
            f"{spread([row[3] for row in rows])} | {100 * spent.waited / spent.elapsed:.0f} % |",
            flush=True,
        )
        print(
            f"\n{count(workers, 'worker')}: {report_bottleneck(spent, data.hparams, data.index.manifest.encode)}\n",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
