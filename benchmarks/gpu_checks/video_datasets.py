"""Packed datasets for `fit`, `evaluate` and `features`: made videos, each stored many times under other keys."""

import os
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu_checks.results import Results, Settings
from benchmarks.turns import spend
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_reader import VideoEntry
from datamodules.dataset.index_table import write_dataset
from datamodules.dataset.manifest import ShardFile
from datamodules.dataset.shard_tar import VideoDescription, index_shard, open_shard_writer
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions


class Videos(NamedTuple):
    """A dataset's videos.

    Attributes:
        width: of a video, in pixels.
        height: the same.
        frames: of a video.
        per_class: different videos of each of 8 classes in each split.
        copies: how often a training video is stored: a long epoch, without drawing and encoding as many.
    """

    width: int
    height: int
    frames: int
    per_class: int
    copies: int


SMALL, LARGE = "small videos", "large videos"  # for clips of 16 x 112, and of 64 x 224
VIDEOS = {SMALL: Videos(176, 128, 48, 16, 100), LARGE: Videos(340, 256, 100, 5, 60)}
TINY_VIDEOS = {SMALL: Videos(64, 48, 16, 1, 5), LARGE: Videos(64, 48, 16, 1, 5)}


def dataset_of(name: str, settings: Settings) -> Path:
    """The folder of a dataset that the section has made."""
    folder = settings.work / name.replace(" ", "-") / "copies"
    if not (folder / "dataset.json").exists():
        raise FileNotFoundError(f"{name} were not made; see the section datasets")
    return folder


def datasets(settings: Settings, results: Results) -> None:
    """Makes both datasets: draws, encodes and packs videos, then stores copies."""
    processes = max(1, min(16, (os.cpu_count() or 1) - 1))
    for name, videos in (TINY_VIDEOS if settings.tiny else VIDEOS).items():
        folder = settings.work / name.replace(" ", "-")
        spent = spend(lambda folder=folder, videos=videos: _make(folder, videos, processes))
        total = 8 * videos.per_class * videos.copies
        size = f"{videos.width} x {videos.height}, {videos.frames} frames"
        results.add(f"{name} to train on", f"{total} of {size}, made in {spent.wall:.0f} s")


def _make(folder: Path, videos: Videos, processes: int) -> None:
    counts = {"train": videos.per_class, "val": 0, "test": videos.per_class}
    options = SyntheticDatasetOptions(**counts, num_frames=videos.frames, width=videos.width, height=videos.height)
    folder.mkdir(parents=True)
    make_synthetic_dataset(folder / "made", options, processes)
    lists = [folder / "made" / "train.csv", folder / "made" / "test.csv"]
    pack(PackOptions(folder / "packed", lists, folder / "made", short_side=videos.height, processes=processes))
    write_copies(DatasetIndex.open(folder / "packed"), folder / "copies", videos.copies)


def write_copies(source: DatasetIndex, folder: Path, copies: int) -> None:
    """Writes the training videos of a dataset several times, a shard a copy, and the others once."""
    folder.mkdir()
    shards, rows = [], []
    for split, number in [*(("train", number) for number in range(copies)), ("test", 0)]:
        path = folder / f"copies-{split}-{number:06d}.tar"
        of_split = source.rows(split).tolist()
        with open_shard_writer(path) as writer:
            for row in of_split:
                entry = source.entry(row)
                values = {name: getattr(entry, name) for name in VideoEntry._fields if name in VideoDescription._fields}
                values["label"] = source.classes[entry.label]
                writer.write(f"{entry.key}-{number}", source.read_video(row), VideoDescription(**values))
        shards.append(ShardFile(path.name, split, len(of_split), path.stat().st_size, ""))
        rows += index_shard(path)
    write_dataset(folder, "copies", rows, shards, source.classes, [], source.manifest.encode, source.manifest.versions)
