"""What do class-balanced epochs, class weights and the focal loss do to the accuracy of rare classes?

Trains a narrow C3D on synthetic videos of 8 classes that differ by motion alone, with numbers of training videos that
fall geometrically from class to class, and tests it on as many videos of every class. Which class is rare differs by
seed. All settings of a seed have the same videos, first weights and number of steps.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/networks/class_balance.py --folder /tmp/class-balance
"""

import argparse
import csv
import logging
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import is_packed, positive, print_heading
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.encoding.synthetic_dataset import make_synthetic_dataset
from lightning_modules import C3D
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions

SIDE = 48  # height of the videos


class Setting(NamedTuple):
    """A row of the table: its name, and options of the data module and of the network."""

    name: str
    data: dict[str, Any]
    network: dict[str, Any]


SETTINGS = [
    Setting("none of them", {}, {}),
    Setting("`class_balance: sqrt`", {"class_balance": "sqrt"}, {}),
    Setting("`class_balance: balanced`", {"class_balance": "balanced"}, {}),
    Setting("`class_weights: balanced`", {}, {"class_weights": "balanced"}),
    Setting("`focal_gamma: 2`", {}, {"focal_gamma": 2.0}),
    Setting("`class_weights: balanced`, `focal_gamma: 2`", {}, {"class_weights": "balanced", "focal_gamma": 2.0}),
]


class Accuracies(NamedTuple):
    """Of one run, on the test split: mean over all classes, over the half with the fewest videos, over the others."""

    all: float
    rare: float
    frequent: float


def class_sizes(most: int, ratio: float, num_classes: int) -> list[int]:
    """Training videos of each class, from the most frequent to the rarest, in geometric progression."""
    return [round(most * ratio ** (-number / (num_classes - 1))) for number in range(num_classes)]


def make_dataset(folder: Path, seed: int, most: int, ratio: float, test: int) -> Path:
    """Packs an unbalanced training split and a balanced test split, unless an earlier run did; returns the shards."""
    shards = folder / f"shards-{most}-{ratio:g}-{test}-{seed}"
    if is_packed(shards, SIDE):
        return shards
    videos = folder / f"videos-{most}-{test}"
    make_synthetic_dataset(videos, train=most, val=0, test=test, num_frames=24, width=64, height=SIDE, processes=1)
    with (videos / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    order = np.random.default_rng(seed).permutation(classes).tolist()
    left = dict(zip(order, class_sizes(most, ratio, len(order)), strict=True))
    with (folder / f"train-{seed}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            left[row["label"]] -= 1
            if left[row["label"]] >= 0:
                writer.writerow(row)
    lists = [folder / f"train-{seed}.csv", videos / "test.csv"]
    pack(PackOptions(shards, lists, videos, short_side=SIDE, processes=1))
    return shards


def train(shards: Path, setting: Setting, seed: int, epochs: int) -> Accuracies:
    """Trains and tests one network."""
    pl.seed_everything(seed, verbose=False)
    clips = {"num_frames": 16, "crop_size": 32, "resize": 40, "flip_probability": 0.0, "num_clips": 2}
    data = ShardedVideoDataModule(
        str(shards), val_split=None, batch_size=8, num_workers=0, seed=seed, **clips, **setting.data
    )
    network = C3D(
        width=6,
        num_frames=16,
        crop_size=32,
        batch_norm=True,
        dropout=0.2,
        optimizer="adamw",
        learning_rate=0.003,
        weight_decay=0.01,
        warmup_fraction=0.15,
        seed=seed,
        class_names=data.class_names,
        **setting.network,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, data)
    return measure(network, data)


@torch.inference_mode()
def measure(network: C3D, data: ShardedVideoDataModule) -> Accuracies:
    """The accuracies on the test split."""
    right, labels = [], []
    for batch in data.test_dataloader():
        ready = data.on_after_batch_transfer(batch, 0)
        right.append(network.eval().video_scores(ready).argmax(dim=1) == ready.labels)
        labels.append(ready.labels)
    sums, totals = (torch.bincount(torch.cat(labels), weights) for weights in (torch.cat(right).double(), None))
    counts = torch.tensor([data.index.manifest.splits["train"].classes[name] for name in data.class_names])
    by_class = (sums / totals)[counts.argsort(stable=True)]
    half = len(by_class) // 2
    return Accuracies(*(float(part.mean()) for part in (by_class, by_class[:half], by_class[half:])))


def main() -> None:
    """Prints a table with a row a setting: accuracies over the seeds, and the differences to the first row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where videos and shards are made")
    parser.add_argument("--most", type=positive, default=48, help="training videos of the most frequent class")
    parser.add_argument("--ratio", type=positive, default=16, help="most / fewest")
    parser.add_argument("--test", type=positive, default=20, help="test videos a class")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--epochs", type=positive, default=14)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    print_heading("torch")
    sizes = class_sizes(args.most, args.ratio, 8)
    print(f"{args.seeds} seeds, {args.epochs} epochs; training videos a class: {', '.join(map(str, sizes))}\n")
    found: dict[str, list[Accuracies]] = {}
    for seed in range(args.seeds):
        shards = make_dataset(args.folder, seed, args.most, args.ratio, args.test)
        for setting in SETTINGS:
            found.setdefault(setting.name, []).append(train(shards, setting, seed, args.epochs))
            print(f"seed {seed}, {setting.name}: {found[setting.name][-1]}", file=sys.stderr, flush=True)
    print("| | mean class accuracy, % | rarest 4 classes | others | difference of the mean, by seed |")
    print("| --- | --- | --- | --- | --- |")
    base = found[SETTINGS[0].name]
    for name, runs in found.items():
        means = " | ".join(f"{100 * statistics.mean(values):.1f}" for values in zip(*runs, strict=True))
        differences = [f"{100 * (one.all - other.all):+.1f}" for one, other in zip(runs, base, strict=True)]
        print(f"| {name} | {means} | {', '.join(differences) if runs is not base else ''} |")


if __name__ == "__main__":
    main()
