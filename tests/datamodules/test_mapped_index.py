"""One mapped copy of the index for all processes of a node: made once, found again, made anew when the data change."""

import logging
import multiprocessing
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from datamodules.mapped_index import MAPPED_PREFIX
from datamodules.shards import DatasetIndex, ShardFormatError, VideoEntry


@pytest.fixture
def root(motion_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    copy = tmp_path / "shards"
    shutil.copytree(motion_dataset, copy, ignore=shutil.ignore_patterns(f"{MAPPED_PREFIX}*"))
    return copy


def copies(folder):
    return sorted(folder.glob(f"{MAPPED_PREFIX}*"))


def test_every_row_is_that_of_the_parquet_file(root):
    index = DatasetIndex.open(root)
    table = pq.read_table(root / "index.parquet").to_pylist()
    assert [list(index.entry(row)) for row in range(len(index))] == [
        [tuple(row[name]) if name == "fold_splits" else row[name] for name in VideoEntry._fields] for row in table
    ]
    for split in ("train", "val", "test"):
        assert index.rows(split).tolist() == [n for n, row in enumerate(table) if row["split"] == split]
    assert index.rows("all").tolist() == list(range(len(table)))
    train = index.rows("train")
    assert sum(index.shard_sizes(train)) == len(train)
    assert index.shard_sizes(train) == tuple(np.unique(index.column("shard", train), return_counts=True)[1].tolist())


def open_and_count(root, together, results):
    together.wait()
    index = DatasetIndex.open(root)
    results.put((len(index.rows("train")), index.entry(3).key))


def test_many_processes_race_and_one_copy_is_left(root):
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(6), context.Queue()
    children = [context.Process(target=open_and_count, args=(root, together, results)) for _ in range(6)]
    for child in children:
        child.start()
    assert {results.get(timeout=60) for _ in children} == {(40, DatasetIndex.open(root).entry(3).key)}
    for child in children:
        child.join()
    [copy] = copies(root)
    assert sorted(path.name for path in copy.iterdir() if not path.name.startswith("rows-")) == ["index.arrow", "lock"]


def test_rows_travel_as_the_name_of_their_file(root):
    rows = DatasetIndex.open(root).rows("train")
    assert not rows.flags.writeable
    assert len(pickle.dumps(rows)) < 500
    assert pickle.loads(pickle.dumps(rows)).tolist() == rows.tolist()
    assert pickle.loads(pickle.dumps(rows[3:7])).tolist() == rows[3:7].tolist()


def test_a_damaged_copy_is_made_anew(root):
    keys = [DatasetIndex.open(root).entry(row).key for row in range(5)]
    [copy] = copies(root)
    for content in (b"", b"nonsense", (copy / "index.arrow").read_bytes()[:-100]):
        (copy / "index.arrow").write_bytes(content)
        assert [DatasetIndex.open(root).entry(row).key for row in range(5)] == keys


def test_another_index_gets_another_copy(root):
    DatasetIndex.open(root)
    [first] = copies(root)
    table = pq.read_table(root / "index.parquet")
    pq.write_table(table.set_column(14, "source", [["elsewhere"] * len(table)]), root / "index.parquet")
    assert DatasetIndex.open(root).entry(0).source == "elsewhere"
    [second] = copies(root)
    assert second != first


def test_a_folder_that_cannot_be_written_uses_the_cache_folder(root, tmp_path, monkeypatch, caplog):
    keys = DatasetIndex.open(root).column("key", range(5))
    [copy] = copies(root)
    shutil.rmtree(copy)
    copy.write_text("a file is in the way, also of root")
    assert DatasetIndex.open(root).column("key", range(5)) == keys
    assert len(copies(tmp_path / "cache-home" / "action-recognition-pipeline")) == 1
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        index = pickle.loads(pickle.dumps(DatasetIndex.open(root)))
    assert index.column("key", range(5)) == keys
    assert len(index.rows("train")) == 40
    assert "no place for a mapped copy" in caplog.text


def test_a_footer_that_is_none(root):
    for content in (b"", b"PAR1", b"\xff\xff\xff\x7fPAR1"):
        (root / "index.parquet").write_bytes(content)
        with pytest.raises(ShardFormatError, match="no Parquet footer"):
            DatasetIndex.open(root)
