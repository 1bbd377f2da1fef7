"""What do class-balanced epochs, class weights and the focal loss do to the accuracy of rare classes?

Fine-tunes a narrow C3D on synthetic videos of 8 classes that differ by motion alone, with numbers of training videos
that fall geometrically from class to class, and tests it on as many videos of every class. Its convolutions were
trained before on other, balanced videos, as published weights were; its classifier is new. Which class is rare differs
by seed. All settings of a seed have the same videos, first weights and number of steps.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/networks/class_balance.py --folder /tmp/class-balance
"""

import argparse
import contextlib
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
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from lightning_modules import C3D
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions

SIDE = 48  # height of the videos
NEW_LAYERS = ("stages.fc6", "stages.fc7", "stages.logits")


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
]


class Accuracies(NamedTuple):
    """Of one run, on the test split: mean over all classes, over the half with the fewest videos, over the others."""

    all: float
    rare: float
    frequent: float


def class_sizes(most: int, ratio: float, num_classes: int) -> list[int]:
    """Training videos of each class, from the most frequent to the rarest, in geometric progression."""
    return [round(most * ratio ** (-number / (num_classes - 1))) for number in range(num_classes)]


def make_videos(folder: Path, seed: int, train: int, test: int) -> Path:
    """Draws as many videos of every class, unless an earlier run did; returns their folder."""
    videos = folder / f"videos-{seed}-{train}-{test}"
    if not videos.exists():
        options = SyntheticDatasetOptions(
            seed=seed, train=train, val=0, test=test, num_frames=24, width=64, height=SIDE
        )
        make_synthetic_dataset(videos, options)
    return videos


def pack_unbalanced(folder: Path, videos: Path, seed: int, most: int, ratio: float) -> Path:
    """Packs an unbalanced part of the training videos, and all test videos, unless done; returns the shards."""
    shards = folder / f"shards-{videos.name}-{ratio:g}-{seed}"
    if is_packed(shards, SIDE):
        return shards
    with (videos / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = np.random.default_rng(seed).permutation(sorted({row["label"] for row in rows})).tolist()
    left = dict(zip(classes, class_sizes(most, ratio, len(classes)), strict=True))
    with (folder / f"train-{seed}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            left[row["label"]] -= 1
            if left[row["label"]] >= 0:
                writer.writerow(row)
    lists = [folder / f"train-{seed}.csv", *videos.glob("test.csv")]
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the table
        pack(PackOptions(shards, lists, videos, short_side=SIDE, processes=1))
    return shards


def train(
    shards: Path, setting: Setting, seed: int, epochs: int, pretrained: C3D | None = None
) -> tuple[C3D, ShardedVideoDataModule]:
    """Trains a network, whose convolutions begin as those of `pretrained`; returns it with its data."""
    pl.seed_everything(seed, verbose=False)
    clips: dict[str, Any] = {"num_frames": 16, "crop_size": 32, "resize": 40, "flip_probability": 0.0, "num_clips": 1}
    data = ShardedVideoDataModule(
        str(shards), val_split=None, batch_size=8, num_workers=0, seed=seed, **clips, **setting.data
    )
    options: dict[str, Any] = {
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "learning_rate": 0.003,
        "warmup_fraction": 0.15,
    }
    sizes: dict[str, Any] = {"width": 6, "num_frames": 16, "crop_size": 32, "batch_norm": True, "dropout": 0.2}
    network = C3D(**sizes, **options, seed=seed, class_names=data.class_names, **setting.network)
    if pretrained is not None:
        weights = {name: value for name, value in pretrained.state_dict().items() if not name.startswith(NEW_LAYERS)}
        network.load_state_dict(weights, strict=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, data)
    return network, data


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
    parser.add_argument("--epochs", type=positive, default=5)
    parser.add_argument("--pretraining-epochs", type=positive, default=8)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    print_heading("torch")
    sizes = class_sizes(args.most, args.ratio, 8)
    print(f"{args.seeds} seeds, {args.epochs} epochs; training videos a class: {', '.join(map(str, sizes))}\n")
    balanced = pack_unbalanced(args.folder, make_videos(args.folder, 1, 40, 0), 0, 40, 1)
    pretrained, _ = train(balanced, SETTINGS[0], 0, args.pretraining_epochs)
    videos = make_videos(args.folder, 0, args.most, args.test)
    found: dict[str, list[Accuracies]] = {}
    for seed in range(args.seeds):
        shards = pack_unbalanced(args.folder, videos, seed, args.most, args.ratio)
        for setting in SETTINGS:
            trained = train(shards, setting, seed, args.epochs, pretrained)
            found.setdefault(setting.name, []).append(measure(*trained))
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
