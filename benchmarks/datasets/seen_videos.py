"""What it costs to carry what was trained on: making it, its bytes, and finding 20,000 videos among it.

python -m benchmarks.datasets.seen_videos --folder /tmp/seen-300k --rows 300000
"""

import argparse
import io
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import at_least_50000, print_heading
from benchmarks.datasets.index import make
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.leakage.training_fingerprint import TrainingFingerprint


def main() -> None:
    """Prints one line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=at_least_50000, default=300_000)
    arguments = parser.parse_args()
    print_heading("torch", "pyarrow", "numpy")
    if not arguments.folder.exists():
        arguments.folder.mkdir(parents=True)
        make(arguments.folder, arguments.rows)
    index = DatasetIndex.open(arguments.folder)
    rows = index.rows("train")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    fingerprint = TrainingFingerprint.from_index(index, rows)
    print(f"making it of {len(rows)} videos: {time.monotonic() - began:.1f} s")
    print(f"memory meanwhile: {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000:.0f} MB")
    file = io.BytesIO()
    torch.save(fingerprint.state(), file)
    print(f"in a checkpoint: {len(file.getvalue()) / 1e6:.1f} MB")
    queried_rows = index.rows("test")[:20_000]
    began = time.monotonic()
    found = fingerprint.find(index, queried_rows)
    print(f"finding {len(queried_rows)} videos: {time.monotonic() - began:.1f} s, {int(found.content.sum())} found")


if __name__ == "__main__":
    main()
