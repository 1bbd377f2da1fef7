"""What do the workers send for three crops, and what does cutting them on the device instead of in the worker change?

Reads a split of a packed dataset twice: with the windows that hold the crops, as the loader sends them, and with the
crops cut in the worker. Prints the bytes of the clips of all batches, the seconds of one pass of the loader with one
worker, and those of cutting the crops in the main process, each the best of several passes.

    python -m benchmarks.loading.crops --data shards --crop-size 112 --resize 128
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.clip_reader import ClipReader, ReadFailure
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.sampling.batch_sampler import Request
from datamodules.transforms.three_crops import cut_crops


@dataclasses.dataclass(frozen=True)
class CuttingReader(ClipReader):
    """Cuts the crops in the worker."""

    def __getitem__(self, request: Request) -> ClipBatch | ReadFailure:
        batch = super().__getitem__(request)
        return batch if isinstance(batch, ReadFailure) else cut_crops(batch)


def timed_pass(batches: Iterable[ClipBatch]) -> tuple[float, int, list[ClipBatch]]:
    """Seconds, bytes of clips and the batches of one pass."""
    began = time.monotonic()
    read = list(batches)
    return time.monotonic() - began, sum(batch.clips.nbytes for batch in read), read


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--crop-size", type=positive, default=112)
    parser.add_argument("--resize", type=positive, default=None)
    parser.add_argument("--num-frames", type=positive, default=16)
    parser.add_argument("--num-clips", type=positive, default=10)
    parser.add_argument("--passes", type=positive, default=3)
    options = parser.parse_args()
    print_heading("torch", "av")
    settings: dict[str, Any] = {
        name: getattr(options, name) for name in ("crop_size", "resize", "num_frames", "num_clips")
    }
    data = ShardedVideoDataModule(
        options.data, test_split=options.split, num_crops=3, num_workers=1, decoder="pyav", batch_size=4, **settings
    )
    loader = data.test_dataloader()
    reader = loader._loader.dataset
    fields = {field.name: getattr(reader, field.name) for field in dataclasses.fields(reader)}
    cutting = PlannedLoader(CuttingReader(**fields), loader.sampler, **data.options.worker_arguments())
    print(f"{data.index.name}, {settings}")
    list(loader), list(cutting)  # starts the workers
    sent, cut, device = [], [], []
    for _ in range(options.passes):
        seconds, sent_bytes, batches = timed_pass(loader)
        sent.append(seconds)
        device.append(timed_pass(map(cut_crops, batches))[0])
        seconds, cut_bytes, _ = timed_pass(cutting)
        cut.append(seconds)
    print(f"windows sent, crops cut in the main process: {sent_bytes:,} bytes, {min(sent):.2f} s + {min(device):.2f} s")
    print(f"crops cut in the worker:                     {cut_bytes:,} bytes, {min(cut):.2f} s")


if __name__ == "__main__":
    main()
