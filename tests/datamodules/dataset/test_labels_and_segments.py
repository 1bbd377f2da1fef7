"""Videos with several labels or none, and segments: in the shard, the index, the counts and the identity."""

import json
from pathlib import Path

import pytest

from datamodules.dataset.dataset_index import DatasetIndex, ShardRow
from datamodules.dataset.index_table import dataset_identity, write_dataset
from datamodules.dataset.manifest import ShardFile, read_manifest
from datamodules.dataset.shard_tar import VideoDescription, index_shard, open_shard_writer
from datamodules.storage.errors import ShardFormatError


def describe(**values: object) -> VideoDescription:
    plain = VideoDescription("", "train", (), "g", 10, 10.0, 48, 32, 1.0, "00", "a.mp4")
    return plain._replace(**values)


def write(folder: Path, descriptions: dict[str, VideoDescription]) -> list[ShardRow]:
    with open_shard_writer(folder / "one.tar") as writer:
        for key, said in descriptions.items():
            writer.write(key, b"video", said)
    return index_shard(folder / "one.tar")


def make_dataset(folder: Path, rows: list[ShardRow], classes: list[str]) -> DatasetIndex:
    shard = ShardFile("one.tar", "train", len(rows), (folder / "one.tar").stat().st_size, "")
    write_dataset(folder, "tiny", rows, [shard], classes, [], {}, {})
    return DatasetIndex.open(folder)


def test_several_labels_are_in_shard_index_and_counts(tmp_path: Path) -> None:
    several = describe(labels=("run", "jump"), task="multi_label")
    index = make_dataset(
        tmp_path,
        write(tmp_path, {"a": several, "b": describe(task="multi_label"), "c": several._replace(labels=("run",))}),
        ["jump", "run"],
    )
    assert index.task == "multi_label"
    assert index.column("labels", [0, 1, 2]) == [[0, 1], [], [1]]
    assert [index.labels(row) for row in range(3)] == [(0, 1), (), (1,)]
    assert index.column("label", [0, 1, 2]).tolist() == [-1, -1, -1]
    counts = read_manifest(tmp_path).splits["train"]
    assert (counts.videos, counts.classes) == (3, {"jump": 1, "run": 2})
    assert index.captions(0) == ["jump", "run"]
    assert index.captions(1) == []


def test_videos_without_labels_have_label_minus_one(tmp_path: Path) -> None:
    index = make_dataset(tmp_path, write(tmp_path, {"a": describe()}), [])
    assert (index.task, index.entry(0).label, index.labels(0), index.classes) == ("single_label", -1, (), [])
    assert "task" not in json.loads((tmp_path / "dataset.json").read_text())


def test_segments_say_where_they_lie_in_the_source(tmp_path: Path) -> None:
    rows = write(tmp_path, {"a": describe(source_start=1.5, source_end=3.0), "b": describe()})
    index = make_dataset(tmp_path, rows, [])
    assert [(index.entry(row).source_start, index.entry(row).source_end) for row in (0, 1)] == [
        (1.5, 3.0),
        (None, None),
    ]


def test_labels_are_part_of_the_identity_in_any_order() -> None:
    def identity(*labels: str) -> str:
        return dataset_identity([ShardRow("a", "one.tar", 512, 5, describe(labels=labels, task="multi_label"))])

    assert identity("run", "jump") == identity("jump", "run")
    assert len({identity("run"), identity("jump"), identity("run", "jump"), identity()}) == 4


def test_shards_of_two_tasks_are_refused(tmp_path: Path) -> None:
    rows = write(tmp_path, {"a": describe(label="run"), "b": describe(task="multi_label")})
    with pytest.raises(ValueError, match="of two datasets"):
        make_dataset(tmp_path, rows, ["run"])


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, write(tmp_path, {"a": describe()}), [])
    content = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"task": "ranking"}))
    with pytest.raises(ShardFormatError, match="task 'ranking' must be single_label or multi_label"):
        read_manifest(tmp_path)
