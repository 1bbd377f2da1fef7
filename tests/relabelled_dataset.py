"""A dataset of videos that are packed already, chosen and labelled anew: no video is encoded again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_reader import VideoEntry
from datamodules.dataset.index_table import write_dataset
from datamodules.dataset.manifest import ShardFile
from datamodules.dataset.shard_tar import VideoDescription, index_shard, open_shard_writer


def write_relabelled(source: DatasetIndex, folder: Path, labels: Mapping[int, str | Sequence[str]]) -> Path:
    """Writes the videos of some rows of `source` with the given class, "" for none, or several classes."""
    splits: dict[str, list[int]] = {}
    for row in labels:
        splits.setdefault(source.entry(row).split, []).append(row)
    folder.mkdir()
    shards, rows, classes = [], [], set()
    for split, rows_of_split in splits.items():
        path = folder / f"relabelled-{split}-000000.tar"
        with open_shard_writer(path) as writer:
            for row in rows_of_split:
                entry, of_video = source.entry(row), labels[row]
                changed: dict[str, Any] = {"label": of_video, "labels": ()}
                if not isinstance(of_video, str):
                    changed = {"label": "", "labels": tuple(of_video), "task": "multi_label"}
                values = {name: getattr(entry, name) for name in VideoEntry._fields if name in VideoDescription._fields}
                description = VideoDescription(**values | changed)
                classes.update(description.class_names)
                writer.write(entry.key, source.read_video(row), description)
        shards.append(ShardFile(path.name, split, len(rows_of_split), path.stat().st_size, ""))
        rows += index_shard(path)
    write_dataset(folder, "relabelled", rows, shards, sorted(classes), [], {}, {})
    return folder
