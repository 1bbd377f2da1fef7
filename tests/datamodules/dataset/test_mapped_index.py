"""One mapped copy of the index for all processes of a node: made once, found again, made anew when the data change."""

import logging
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.datasets.index import make
from datamodules.dataset.dataset_index import DatasetIndex, ShardFormatError, VideoEntry
from datamodules.dataset.mapped_index import MAPPED_PREFIX
from tests.datamodules.storage.flaky_server import serving


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
    assert [index.entry(row) for row in range(len(index))] == [
        VideoEntry(**{name: row[name] for name in VideoEntry._fields if name in row} | {"fold_splits": ()})
        for row in table
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


def mapped_kb(folder):
    """Of the files in a folder: kilobytes that are in this process's page table."""
    kb, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            kb += int(line.split()[1])
    return kb


def test_look_ups_keep_no_pages(tmp_path):
    if not Path("/proc/self/smaps").exists():
        pytest.skip("reads /proc")
    make(tmp_path, 40_000)
    index = DatasetIndex.open(tmp_path)
    rows = index.rows("train")
    expected = np.arange(len(index))[rows[0] : rows[-1] + 1]
    for sample in range(0, len(rows), 997):
        assert index.entry(int(rows[sample])).key == f"{expected[sample]:011d}_000010_000020"
    assert sum(index.shard_sizes(rows)) == len(rows)
    assert sum(index.shard_sizes(np.delete(rows, 5))) == len(rows) - 1
    assert index.column("label", rows).shape == (len(rows),)
    assert mapped_kb(tmp_path) < 500  # of 10 MB
    assert np.asarray(rows).sum() == expected.sum()


def test_frame_hashes_are_read_from_the_parquet_file(root):
    index = DatasetIndex.open(root)
    assert "frame_hashes" not in index._table.column_names
    assert index.column("frame_hashes", [3, 1]) == [
        pq.read_table(root / "index.parquet")["frame_hashes"][row].as_py() for row in (3, 1)
    ]
    with serving(root) as server:
        assert DatasetIndex.open(server.url).column("frame_hashes", [3]) == index.column("frame_hashes", [3])
