"""Shards of a dataset: written, recovered from the tar alone, read by webdataset, and refused when damaged."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset.dataset_index import (
    DatasetIndex,
    ShardFile,
    ShardFormatError,
    index_shard,
    open_shard_writer,
    write_dataset,
)
from datamodules.storage.atomic_write import remove_partial_files, write_atomically
from tests.datamodules.dataset.hand_packed import CLASSES, SPLITS, VIDEOS, describe, pack_by_hand


def test_rows_come_back_from_the_tar_alone(tmp_path: Path) -> None:
    rows = pack_by_hand(tmp_path)
    assert [row.key for row in rows] == list(VIDEOS)
    for number, row in enumerate(rows):
        assert row.description == describe(number, VIDEOS[row.key], SPLITS[number // 3])
        stored = (tmp_path / row.shard).read_bytes()[row.video_offset : row.video_offset + row.video_size]
        assert stored == VIDEOS[row.key]


def test_a_tar_of_an_older_format_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for name in ("variable_rate", "pixel_aspect", "frame_hashes"):
        described = describe(0, b"", "train")._asdict()
        del described[name]
        with tarfile.open(tmp_path / "old.tar", mode="w") as tar:
            for member_name, content in (("a.json", json.dumps(described).encode()), ("a.mp4", b"video")):
                member = tarfile.TarInfo(member_name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        with pytest.raises(ShardFormatError, match=f"'{name}'.*pack the dataset again"):
            index_shard(tmp_path / "old.tar")


def test_variable_rates_and_pixel_aspects_are_in_tar_and_index(tmp_path: Path) -> None:
    said = describe(0, VIDEOS["video-0"], "test")._replace(variable_rate=True, pixel_aspect=16 / 11)
    with open_shard_writer(tmp_path / "one.tar") as writer:
        writer.write("a", VIDEOS["video-0"], said)
        writer.write("b", VIDEOS["video-1"], describe(1, VIDEOS["video-1"], "test"))
    rows = index_shard(tmp_path / "one.tar")
    assert [row.description.variable_rate for row in rows] == [True, False]
    assert [row.description.pixel_aspect for row in rows] == [16 / 11, 1.0]
    shard = ShardFile("one.tar", "test", 2, (tmp_path / "one.tar").stat().st_size, "")
    write_dataset(tmp_path, "tiny", rows, [shard], CLASSES, [], {}, {})
    index = DatasetIndex.open(tmp_path)
    entries = [index.entry(row) for row in (0, 1)]
    assert [(one.variable_rate, one.pixel_aspect) for one in entries] == [(True, 16 / 11), (False, 1.0)]
    assert np.array_equal(index.column("variable_rate", [1, 0]), [False, True])
    assert np.array_equal(index.column("pixel_aspect", [1, 0]), [1.0, 16 / 11])


def test_webdataset_reads_the_same_videos(root: Path) -> None:
    import webdataset

    index = DatasetIndex.open(root)
    seen = {}
    for shard in index.manifest.shards:
        for sample in webdataset.WebDataset(str(root / shard.name), shardshuffle=False):
            seen[sample["__key__"]] = (sample["mp4"], json.loads(sample["json"])["label"])
    entries = [index.entry(row) for row in range(len(index))]
    assert seen == {entry.key: (index.read_video(row), index.classes[entry.label]) for row, entry in enumerate(entries)}
    assert {key: video for key, (video, _) in seen.items()} == VIDEOS


def test_bytes_are_reproducible_and_long_keys_fit(tmp_path: Path) -> None:
    key = "k" * 150
    for name in ("a.tar", "b.tar"):
        with open_shard_writer(tmp_path / name) as writer:
            writer.write(key, VIDEOS["video-0"], describe(0, VIDEOS["video-0"], "train"))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    (row,) = index_shard(tmp_path / "a.tar")
    assert row.key == key
    assert (tmp_path / "a.tar").read_bytes()[row.video_offset :].startswith(VIDEOS["video-0"])


def test_a_shard_cut_anywhere_is_refused(root: Path, tmp_path: Path) -> None:
    whole = (root / "tiny-train-000000.tar").read_bytes()
    rows = index_shard(root / "tiny-train-000000.tar")
    second_header = rows[0].video_offset + -(-rows[0].video_size // 512) * 512
    cut = tmp_path / "cut.tar"
    ends = [0, 1, 511, 512, 700, rows[1].video_offset + 10, second_header, second_header + 512]
    last_end = rows[-1].video_offset + -(-rows[-1].video_size // 512) * 512
    for end in [*ends, last_end - 1, last_end, last_end + 512]:
        cut.write_bytes(whole[:end])
        with pytest.raises(ShardFormatError, match="pack the dataset again"):
            index_shard(cut)
    cut.write_bytes(whole[:second_header] + b"\x07" * 512 + whole[second_header + 512 :])
    with pytest.raises(ShardFormatError, match="damaged"):
        index_shard(cut)


def test_a_tar_of_something_else_is_refused(tmp_path: Path) -> None:
    import webdataset

    cases = [
        ({"__key__": "a", "json": b"{}", "mp4": b"x"}, "not a description"),
        ({"__key__": "a", "json": b"not json", "mp4": b"x"}, "not a description"),
        ({"__key__": "a", "mp4": b"x"}, "lacks its"),
    ]
    for number, (sample, message) in enumerate(cases):
        path = tmp_path / f"{number}.tar"
        with webdataset.TarWriter(str(path)) as writer:
            writer.write(sample)
        with pytest.raises(ShardFormatError, match=message):
            index_shard(path)
    (tmp_path / "text.tar").write_text("hello " * 1000)
    for name in ("text.tar", "absent.tar"):
        with pytest.raises(ShardFormatError, match=name):
            index_shard(tmp_path / name)


def test_a_failed_shard_leaves_nothing(tmp_path: Path) -> None:
    def fail_midway() -> None:
        with open_shard_writer(tmp_path / "a.tar") as writer:
            writer.write("a", VIDEOS["video-0"], describe(0, VIDEOS["video-0"], "train"))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A real limit on file size, in a process of its own: the write fails as on a full disk."""
    code = f"""
import resource, errno
from pathlib import Path
from datamodules.dataset.dataset_index import open_shard_writer
from tests.datamodules.dataset.hand_packed import VIDEOS, describe
import webdataset
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    with open_shard_writer(Path({str(tmp_path / "a.tar")!r})) as writer:
        for number in range(1000):
            writer.write(str(number), VIDEOS["video-5"], describe(5, VIDEOS["video-5"], "train"))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("EFBIG", "")
    assert list(tmp_path.iterdir()) == []


def test_write_aside_keeps_the_old_file_and_clears_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def write(text: str, fails: bool) -> None:
        with write_atomically(path) as temporary:
            temporary.write_text(text)
            if fails:
                raise KeyError(text)

    with pytest.raises(KeyError):
        write("half", fails=True)
    assert path.read_text() == "old"
    write("new", fails=False)
    assert [child.name for child in tmp_path.iterdir()] == ["f"]
    assert path.read_text() == "new"
    (tmp_path / ".f.0123.partial").touch()
    assert remove_partial_files(tmp_path) == 1
    assert [child.name for child in tmp_path.iterdir()] == ["f"]
