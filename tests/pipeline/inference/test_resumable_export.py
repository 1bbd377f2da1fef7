"""Exports that are stopped: what is done is kept, nothing half-written is read, every video comes once."""

import fcntl
import shutil

import numpy as np
import pyarrow as pa
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import DecodeError
from pipeline.dataset_tools.quarantine import quarantine
from pipeline.features.feature_files import read_features, read_provenance
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.inference import part_folder, part_rows
from pipeline.inference.part_folder import PartFolder, parts_folder
from pipeline.inference.part_rows import ROW, PartRows

QUICK = {"num_workers": 0, "accelerator": "cpu", "num_clips": 1, "batch_size": 2, "save_every": 2}
SCHEMA = pa.schema([("key", pa.string()), ("clip", pa.int32()), (ROW, pa.int64())])


def write_part(folder, name, rows, clips=1):
    columns = [[f"v{row}" for row in rows for _ in range(clips)], list(range(clips)) * len(rows)]
    with pa.ipc.new_file(folder / name, SCHEMA) as writer:
        writer.write_table(pa.table([*columns, [row for row in rows for _ in range(clips)]], schema=SCHEMA))
    return folder / name


def test_parts_of_whoever_come_in_the_order_of_the_index(tmp_path):
    # Of a run of two ranks that was killed, and of one of three that went on.
    rows = ([0, 1], [10, 11], [2, 3, 12], [4, 5, 6], [13])
    parts = [write_part(tmp_path, f"{number}.arrow", of, clips=2) for number, of in enumerate(rows)]
    found = PartRows(parts[::-1], SCHEMA)
    assert found.videos.tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13]
    found = found.restrict(np.array([0, 1, 2, 3, 5, 6, 10, 11, 12, 13]), tmp_path / "out")  # 4 is quarantined by now
    table = pa.concat_tables(found.tables())
    assert table.column_names == ["key", "clip"]
    assert table.column("key").to_pylist() == [f"v{row}" for row in (0, 1, 2, 3, 5, 6, 10, 11, 12, 13) for _ in "ab"]
    assert found.num_rows == 20
    twice = PartRows([*parts, write_part(tmp_path, "again.arrow", [11, 12], clips=2)], SCHEMA)
    assert twice.num_rows == 22
    with pytest.raises(ValueError, match=r"1 videos of the split are missing \(the first is in row 7 of the index\)"):
        PartRows(parts, SCHEMA).restrict(np.array([0, 7]), tmp_path / "out")


def test_a_table_ends_where_the_schema_says_whatever_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(part_rows, "_TABLE_BYTES", 3 * 32 * 4)
    cuts = ([range(10)], [range(1), range(1, 7), range(7, 10)])
    for number, cut in enumerate(cuts):
        parts = [write_part(tmp_path, f"{number}-{rows[0]}.arrow", rows) for rows in cut]
        assert [len(table) for table in PartRows(parts, SCHEMA).tables()] == [4, 4, 2]


def test_a_folder_that_this_node_does_not_see_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(part_folder, "_VISIBILITY_TIMEOUT_S", 0.1)
    parts = PartFolder(tmp_path / "new" / "out", {}, overwrite=False, remedy="")
    with pytest.raises(FileNotFoundError, match=r"rank 3, on \S+, does not see what rank 0 made there"):
        parts.wait_until_visible(3)
    parts.open()
    parts.wait_until_visible(3)
    parts.close()
    assert not (tmp_path / "new").exists(), "a folder without a part is nothing to go on from"


def damage(data, number):
    """Overwrites a test video with zeros; gives its entry in the index."""
    index = DatasetIndex.open(data)
    entry = index.entry(int(index.rows("test")[number]))
    with (data / entry.shard).open("r+b") as shard:
        shard.seek(entry.video_offset)
        shard.write(bytes(entry.video_size))
    return entry


@pytest.fixture
def stopped(motion_checkpoint, motion_dataset, tmp_path):
    """An export that a damaged video stopped: the file to be, how to run it again, the dataset, the video's key."""
    data, path = shutil.copytree(motion_dataset, tmp_path / "shards"), tmp_path / "test.parquet"
    entry = damage(data, 9)

    def export(**more):
        features(FeatureOptions(motion_checkpoint, data, out=path, **QUICK | more))

    with pytest.raises(DecodeError, match=entry.key):
        export()
    return path, export, data, entry.key


def test_an_export_goes_on_where_a_damaged_video_stopped_it(
    stopped, motion_checkpoint, motion_dataset, tmp_path, capsys
):
    path, export, data, key = stopped
    folder = parts_folder(path)
    parts = sorted(folder.glob("part-*.arrow"))
    assert len(parts) == 4  # of two videos each
    assert not path.exists()
    for place in (folder / ".part-0.arrow.0123456789ab.partial", path.with_name(f".{path.name}.0123456789ab.partial")):
        place.write_bytes(parts[0].read_bytes()[:500])  # a writer was killed
    parts[1].write_bytes(parts[1].read_bytes()[:-100])  # as nothing of ours leaves it
    damage(data, 0)  # is done, and not to be read again
    quarantine(data, [key])
    capsys.readouterr()
    export()
    told = capsys.readouterr()
    assert "features: 6 of 15 videos are done, from an earlier run" in told.out
    assert "damaged, its videos are exported again" in told.err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["shards", "test.parquet"]
    features(FeatureOptions(motion_checkpoint, motion_dataset, out=tmp_path / "undisturbed", **QUICK))
    (found, table), (expected, other) = read_features(path), read_features(tmp_path / "undisturbed")
    kept = [place for place, one in enumerate(other.column("key").to_pylist()) if one != key]
    assert table.equals(other.take(kept))
    np.testing.assert_allclose(found, expected[kept], atol=1e-5)
    assert read_provenance(path)["quarantined"] == [key]
    export()
    assert "is there already" in capsys.readouterr().out


def test_overwriting_goes_on_too(stopped, capsys):
    path, export, data, key = stopped
    quarantine(data, [key])
    export(overwrite=True)
    assert "features: 8 of 15 videos are done, from an earlier run" in capsys.readouterr().out
    assert path.is_file()


def test_parts_of_other_settings_are_not_mixed(stopped):
    path, export, *_ = stopped
    before = sorted(parts_folder(path).iterdir())
    with pytest.raises(ValueError, match="holds an unfinished export with another layer; finish that one"):
        export(layer=["fc7"])
    assert sorted(parts_folder(path).iterdir()) == before
    with pytest.raises(DecodeError):
        export(layer=["fc7"], overwrite=True)
    assert not set(before) & set(parts_folder(path).glob("part-*"))


def test_two_exports_do_not_write_to_one_file(stopped):
    path, export, *_ = stopped
    with (parts_folder(path) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another export writes there"):
            export()
