"""Parts of several ranks put together: every video once, or nothing."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.inference import rank_tables
from pipeline.inference.rank_tables import merge_parts, wait_until_seen
from pipeline.metrics.predictions import provenance_of, with_provenance

SCHEMA = with_provenance(pa.schema([("key", pa.string()), ("value", pa.int64())]), {"split": "test"})


def write_parts(folder, *parts, schema=SCHEMA):
    paths = []
    for rank, batches in enumerate(parts):
        paths.append(folder / f"rank-{rank:05d}.arrow")
        with pa.ipc.new_file(paths[-1], schema) as writer:
            for batch in batches:
                columns = [list(column) for column in zip(*batch, strict=True)] or [[] for _ in schema]
                writer.write_table(pa.table(columns, schema=schema))
    return paths


def test_parts_follow_each_other_in_the_order_of_ranks(tmp_path):
    parts = write_parts(tmp_path, [[("a", 1), ("b", 2)], [("c", 3)]], [[("d", 4)], []])
    merge_parts(parts, tmp_path / "all.parquet", SCHEMA, list("abcd"))
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column("value").to_pylist() == [1, 2, 3, 4]
    assert provenance_of(table.schema, tmp_path) == {"split": "test"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 1)], r"1 missing \(first b\)"),
        ([("a", 1), ("b", 2), ("a", 1)], r"1 there twice \(first a\)"),
        ([("a", 1), ("b", 2), ("x", 1)], r"1 unexpected \(first x\)"),
        ([("b", 1), ("a", 2)], "their order differs"),
    ],
)
def test_a_video_missing_or_twice_is_an_error_and_nothing_is_written(tmp_path, rows, message):
    parts = write_parts(tmp_path, [rows])
    with pytest.raises(ValueError, match=message):
        merge_parts(parts, tmp_path / "all.parquet", SCHEMA, ["a", "b"])
    assert [path.name for path in tmp_path.iterdir()] == [part.name for part in parts]


def test_clips_of_a_video_are_not_doubles(tmp_path):
    schema = pa.schema([("key", pa.string()), ("clip", pa.int32())])
    parts = write_parts(tmp_path, [[("a", 0), ("a", 1)]], [[("b", 0)]], schema=schema)
    merge_parts(parts, tmp_path / "all.parquet", schema, ["a", "b"])
    twice = write_parts(tmp_path, [[("a", 0), ("a", 0), ("b", 0)]], schema=schema)
    with pytest.raises(ValueError, match="1 there twice"):
        merge_parts(twice, tmp_path / "all.parquet", schema, ["a", "b"])


def test_a_file_of_others_has_no_provenance(tmp_path):
    with pytest.raises(ValueError, match="not one that this pipeline wrote"):
        provenance_of(pa.schema([("key", pa.string())]), tmp_path / "other.parquet")


def test_a_folder_that_this_node_does_not_see_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_tables, "_PATIENCE_S", 0.1)
    wait_until_seen(tmp_path, 1)
    with pytest.raises(FileNotFoundError, match=r"rank 3, on \S+, does not see what rank 0 made there"):
        wait_until_seen(tmp_path / "out" / ".parts", 3)
