"""A dataset read with the splits of a split file: rows, counts, folds, other processes, renditions and URLs."""

import csv
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from datamodules.annotations.refusals import Refusal
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.quarantine import write_quarantine
from datamodules.dataset.renditions import open_rendition
from datamodules.splits.split_file import SplitFileError
from datamodules.storage.errors import ShardFormatError
from tests.datamodules.dataset.test_labels_and_segments import describe, make_dataset, write
from tests.datamodules.storage.flaky_server import serving

KEYS = [f"v{number}" for number in range(12)]
SPLITS = ["train"] * 6 + ["test"] * 3 + ["val"] * 2 + [""]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve videos of two classes, all of the split train, with the split file `mine` and the folds `folds`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # no copies of splits from another run
    folder = tmp_path / "shards"
    folder.mkdir()
    videos = {key: describe(label=("jump", "run")[number % 2]) for number, key in enumerate(KEYS)}
    make_dataset(folder, write(folder, videos), ["jump", "run"])
    write_splits(folder / "splits" / "mine.csv", "split", dict(zip(KEYS, SPLITS, strict=True)))
    write_splits(folder / "splits" / "folds.csv", "fold", {key: str(int(key[1:]) % 3) for key in KEYS})
    return folder


def write_splits(path: Path, column: str, values: dict[str, str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("key", column), *sorted(values.items(), reverse=True)])


def rows_in_another_process(index: DatasetIndex, split: str, fold: str | None) -> list[int]:
    return index.rows(split, fold).tolist()


def test_rows_and_counts_are_those_of_the_file(dataset: Path) -> None:
    index = DatasetIndex.open(dataset, split_file="mine")
    assert index.rows("train").tolist() == list(range(6))
    assert index.rows("test").tolist() == [6, 7, 8]
    assert index.rows("all").tolist() == list(range(12))
    assert index.column("split", [0, 6, 11]) == ["train", "test", ""]
    assert index.entry(9).split == "val"
    counts = index.manifest.splits
    assert {split: (of.videos, of.classes) for split, of in counts.items()} == {
        "train": (6, {"jump": 3, "run": 3}),
        "test": (3, {"jump": 2, "run": 1}),
        "val": (2, {"jump": 1, "run": 1}),
    }
    with pytest.raises(ValueError, match="split='other': tiny has no video in it, only in test, train, val"):
        index.rows("other")


def test_the_packed_splits_stay_and_the_identity_is_one(dataset: Path) -> None:
    divided, packed = DatasetIndex.open(dataset, split_file="mine"), DatasetIndex.open(dataset, split_file="packed")
    assert packed.rows("train").tolist() == list(range(12))
    assert packed.split_file is None
    assert divided.split_file is not None
    assert divided.split_file.name == "mine"
    assert divided.identity == packed.identity == DatasetIndex.open(dataset).identity
    assert DatasetIndex.open(dataset, split_file="mine").rows("train").tolist() == list(range(6))


def test_folds_of_a_file_are_folds_of_the_dataset(dataset: Path) -> None:
    index = DatasetIndex.open(dataset, split_file="folds")
    assert index.folds == ["0", "1", "2"]
    assert index.rows("test", 1).tolist() == [1, 4, 7, 10]
    assert index.rows("train", "1").tolist() == [row for row in range(12) if row % 3 != 1]
    assert index.manifest.fold_counts["1"]["test"].classes == {"jump": 2, "run": 2}
    assert index.entry(1).fold_splits == ("train", "test", "train")
    with pytest.raises(ValueError, match="one of the folds 0, 1, 2"):
        index.rows("test")


def test_other_processes_read_the_same_splits(dataset: Path) -> None:
    opened = {"mine": ("test", None), "folds": ("test", "2")}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for name, (split, fold) in opened.items():
            index = DatasetIndex.open(dataset, split_file=name)
            rows = index.rows(split, fold).tolist()
            (dataset / "splits" / f"{name}.csv").unlink()  # a worker does not need it
            assert pool.submit(rows_in_another_process, index, split, fold).result() == rows
            assert pickle.loads(pickle.dumps(index)).folds == index.folds


def test_a_changed_file_gives_other_rows(dataset: Path) -> None:
    before = DatasetIndex.open(dataset, split_file="mine")
    write_splits(dataset / "splits" / "mine.csv", "split", dict(zip(KEYS, reversed(SPLITS), strict=True)))
    after = DatasetIndex.open(dataset, split_file="mine")
    assert after.rows("val").tolist() == [1, 2]
    assert before.rows("val").tolist() == [9, 10]
    assert before.split_file != after.split_file


def test_groups_of_a_file_take_the_place_of_the_packed_ones(dataset: Path) -> None:
    rows, path = [0, 1, 11], dataset / "splits" / "mine.csv"
    packed = DatasetIndex.open(dataset, split_file="mine")
    assert packed.column("split_group", rows) == packed.column("group", rows)
    for people in (("anna", "bob"), ("carl", "dora")):
        lines = [(key, split, people[number % 2]) for number, (key, split) in enumerate(zip(KEYS, SPLITS, strict=True))]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("key", "split", "group"), *reversed(lines)])
        divided = DatasetIndex.open(dataset, split_file="mine")
        for index in (divided, pickle.loads(pickle.dumps(divided))):
            assert index.column("split_group", rows) == [people[0], people[1], people[1]]
            assert index.column("group", rows) == packed.column("group", rows), "by which leakage is found"
            assert index.rows("test").tolist() == [6, 7, 8]


def test_quarantined_videos_are_left_out_of_the_splits_of_a_file(dataset: Path) -> None:
    write_quarantine(dataset, [Refusal("v1.mp4", "v1", "by hand", "")])
    index = DatasetIndex.open(dataset, split_file="mine")
    assert index.readable_rows("train").tolist() == [0, 2, 3, 4, 5]


def test_a_file_must_have_every_video_once(dataset: Path) -> None:
    path = dataset / "splits" / "mine.csv"
    write_splits(path, "split", dict(zip(KEYS[2:], SPLITS, strict=False)))
    with pytest.raises(
        SplitFileError, match=r"split_file=mine: 2 of the 12 videos of tiny are not in .*, first v0; add"
    ):
        DatasetIndex.open(dataset, split_file="mine")
    write_splits(path, "split", dict(zip([*KEYS, "other"], [*SPLITS, "train"], strict=True)))
    with pytest.raises(SplitFileError, match=r"1 keys of .* are not in tiny, first other; remove their lines"):
        DatasetIndex.open(dataset, split_file="mine")


def test_several_labels_are_counted_by_class(tmp_path: Path) -> None:
    said = describe(task="multi_label")
    videos = {"a": said._replace(labels=("run", "jump")), "b": said, "c": said._replace(labels=("run",))}
    make_dataset(tmp_path, write(tmp_path, videos), ["jump", "run"])
    write_splits(tmp_path / "splits" / "mine.csv", "split", {"a": "train", "b": "train", "c": "test"})
    counts = DatasetIndex.open(tmp_path, split_file="mine").manifest.splits
    assert (counts["train"].videos, counts["train"].classes) == (2, {"jump": 1, "run": 1})
    assert counts["test"].classes == {"jump": 0, "run": 1}


def test_a_folder_that_cannot_be_written_keeps_the_splits_in_memory(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    plain = DatasetIndex.open(dataset)
    for path in dataset.glob(".mapped-*/splits-*"):
        path.unlink()
    copy = next(dataset.glob(".mapped-*"))
    (copy / "lock").unlink(missing_ok=True)
    monkeypatch.setattr("datamodules.dataset.mapped_index.write_atomically", _refuse_to_write)
    index = pickle.loads(pickle.dumps(DatasetIndex.open(dataset, split_file="mine")))
    assert index.rows("test").tolist() == [6, 7, 8]
    assert len(index) == len(plain)


def _refuse_to_write(path: Path) -> None:
    raise OSError(30, "Read-only file system")


def test_a_dataset_at_a_url_has_its_split_files_there(dataset: Path, tmp_path: Path) -> None:
    write_splits(tmp_path / "mine_here.csv", "split", dict.fromkeys(KEYS, "test"))
    with serving(dataset) as server:
        index = DatasetIndex.open(server.url, split_file="mine")
        assert index.rows("test").tolist() == [6, 7, 8]
        assert pickle.loads(pickle.dumps(index)).rows("val").tolist() == [9, 10]
        assert len(DatasetIndex.open(server.url, split_file=str(tmp_path / "mine_here.csv")).rows("test")) == 12
        assert len(DatasetIndex.open(dataset, split_file=f"{server.url}/splits/folds.csv").folds) == 3
        with pytest.raises(SplitFileError, match="split_file=other: there is no http"):
            DatasetIndex.open(server.url, split_file="other")


def test_the_data_module_reads_the_splits_of_the_file(dataset: Path) -> None:
    data = ShardedVideoDataModule(str(dataset), num_frames=2, crop_size=16, split_file="mine")
    assert np.array_equal(data.index.rows("val"), [9, 10])
    assert data.identity["split_file"] == data.index.split_file._asdict()  # type: ignore[union-attr]
    assert ShardedVideoDataModule(str(dataset), num_frames=2, crop_size=16).identity["split_file"] is None
    with pytest.raises(ShardFormatError, match="no dataset"):
        open_rendition(dataset / "splits", "auto", None, split_file="mine")
