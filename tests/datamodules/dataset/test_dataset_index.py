"""Index of a packed dataset: rows of splits and folds, identity, damaged parts, open files and other processes."""

import hashlib
import json
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset.dataset_index import (
    DatasetIndex,
    ShardFile,
    ShardFormatError,
    dataset_identity,
    index_shard,
    open_shard_writer,
    read_manifest,
    write_dataset,
)
from datamodules.dataset.manifest import FORMAT_VERSION
from tests.datamodules.dataset.hand_packed import CLASSES, VIDEOS, pack_by_hand


def test_frame_hashes_are_no_part_of_the_identity(tmp_path: Path) -> None:
    hashes = (1, 2**64 - 1)
    rows = pack_by_hand(tmp_path)
    hashed = [row._replace(description=row.description._replace(frame_hashes=hashes)) for row in rows]
    assert dataset_identity(hashed) == dataset_identity(rows)
    with open_shard_writer(tmp_path / "one.tar") as writer:
        writer.write("a", VIDEOS["video-0"], hashed[0].description)
    (row,) = index_shard(tmp_path / "one.tar")
    assert row.description.frame_hashes == hashes
    shard = ShardFile("one.tar", "test", 1, (tmp_path / "one.tar").stat().st_size, "")
    write_dataset(tmp_path, "tiny", [row], [shard], CLASSES, [], {}, {})
    assert DatasetIndex.open(tmp_path).column("frame_hashes", [0]) == [list(hashes)]


def test_index_of_fixed_splits(root: Path) -> None:
    index = DatasetIndex.open(root)
    assert (len(index), index.name, index.classes, index.folds) == (6, "tiny", CLASSES, [])
    assert index.rows("test").tolist() == [0, 1, 2]
    assert index.rows("train").tolist() == [3, 4, 5]
    assert index.rows("all").tolist() == list(range(6))
    assert index.rows("train") is index.rows("train")
    assert not index.rows("train").flags.writeable
    entry = index.entry(4)
    assert (entry.key, entry.label, entry.group, entry.num_frames) == ("video-4", 0, "group 2", 8)
    assert (entry.fps, entry.width, entry.height, entry.source) == (8.0, 48, 32, "läufe/4.mp4")
    assert index.column("label", [5, 0]).tolist() == [1, 0]  # type: ignore[union-attr]
    assert index.column("key", [5, 0]) == ["video-5", "video-0"]
    assert index.shard_sizes([0, 2, 3, 4, 5]) == (2, 3)
    counts = index.manifest.splits["train"]
    assert (counts.videos, counts.classes) == (3, {"jump": 1, "run": 2})
    for arguments, message in [
        (("validation",), "only in test, train"),
        (("train", 0), "no fold"),
    ]:
        with pytest.raises(ValueError, match=message):
            index.rows(*arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="colour"):
        index.column("colour", [0])
    for row in (-1, 6):
        with pytest.raises(IndexError, match="rows 0 to 5"):
            index.read_video(row)


def test_index_of_folds(tmp_path: Path) -> None:
    pack_by_hand(tmp_path, folds=True)
    index = DatasetIndex.open(tmp_path)
    assert index.folds == ["0", "1"]
    assert index.rows("test", 0).tolist() == [1, 2, 4, 5]
    assert index.rows("test", "1").tolist() == [0, 3]
    assert index.rows("train", 1).tolist() == [1, 2, 4, 5]
    assert index.rows("all").tolist() == index.rows("all", 1).tolist() == list(range(6))
    assert index.entry(0).fold_splits == ("train", "test")
    assert index.manifest.splits["all"].videos == 6
    for arguments, message in [
        (("test",), "fold=None: tiny wants one of the folds 0, 1"),
        (("test", 2), "fold=2"),
        (("val", 0), "only in test, train; to train without validation: data.init_args.val_split null"),
    ]:
        with pytest.raises(ValueError, match=message):
            index.rows(*arguments)  # type: ignore[arg-type]


def test_identity_is_of_the_content_not_of_the_layout(tmp_path: Path) -> None:
    rows = pack_by_hand(tmp_path / "a")
    first = read_manifest(tmp_path / "a")
    backwards = [row._replace(shard="other.tar", video_offset=-row.video_offset) for row in reversed(rows)]
    (tmp_path / "b").mkdir()
    second = write_dataset(tmp_path / "b", "b", backwards, [], CLASSES, [], {}, {})
    assert second.identity == first.identity
    changed = [row._replace(description=row.description._replace(label="run")) for row in rows]
    assert write_dataset(tmp_path / "b", "b", changed, [], CLASSES, [], {}, {}).identity != first.identity
    with pytest.raises(ValueError, match=r"'video-0'.*twice"):
        write_dataset(tmp_path / "b", "b", [rows[0], rows[0]], [], CLASSES, [], {}, {})
    with pytest.raises(ValueError, match="'jump'"):
        write_dataset(tmp_path / "b", "b", rows, [], ["run"], [], {}, {})


def test_missing_and_damaged_parts_say_what_to_do(root: Path, tmp_path: Path) -> None:
    def read_all() -> None:
        index = DatasetIndex.open(root)
        for row in range(len(index)):
            index.read_video(row)

    def check(path: Path, content: bytes | None, message: str) -> None:
        kept = path.read_bytes()
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ShardFormatError, match=message) as caught:
            read_all()
        assert "\n" not in str(caught.value)
        path.write_bytes(kept)

    with pytest.raises(ShardFormatError, match="no such folder"):
        DatasetIndex.open(tmp_path / "nowhere")
    with pytest.raises(ShardFormatError, match="not a finished dataset"):
        DatasetIndex.open(tmp_path)
    manifest = json.loads((root / "dataset.json").read_text())
    check(root / "dataset.json", b"{", "JSON")
    check(root / "dataset.json", b"[]", "JSON object")
    check(
        root / "dataset.json",
        json.dumps(manifest | {"format_version": FORMAT_VERSION + 1}).encode(),
        f"newer.* {FORMAT_VERSION}; update",
    )
    check(
        root / "dataset.json",
        json.dumps(manifest | {"format_version": FORMAT_VERSION - 1}).encode(),
        f"older.* {FORMAT_VERSION}; pack it",
    )
    for name in manifest:
        without = {key: value for key, value in manifest.items() if key != name}
        check(root / "dataset.json", json.dumps(without).encode(), f"'{name}' is missing")
    check(root / "dataset.json", json.dumps(manifest | {"classes": ["a", "a"]}).encode(), "different names")
    check(root / "dataset.json", json.dumps(manifest | {"splits": {"train": 3}}).encode(), "'videos' is missing")
    outside = [shard | {"name": "../x.tar"} for shard in manifest["shards"]]
    check(root / "dataset.json", json.dumps(manifest | {"shards": outside}).encode(), "plain file name")
    check(root / "dataset.json", json.dumps(manifest | {"identity": "0"}).encode(), "does not belong")
    check(root / "index.parquet", None, "index.parquet")
    check(root / "index.parquet", b"PAR1 nonsense", "damaged")
    shard = root / "tiny-train-000000.tar"
    check(shard, None, "1 of 2 shards are missing, first tiny-train-000000.tar")
    check(shard, shard.read_bytes()[:-512], "bytes, dataset.json says")
    check(shard, shard.read_bytes() + b"x", "bytes, dataset.json says")
    assert len(DatasetIndex.open(root)) == 6


def test_a_shard_that_shrinks_while_open(root: Path) -> None:
    index = DatasetIndex.open(root)
    index.read_video(5)
    os.truncate(root / "tiny-train-000000.tar", index.entry(5).video_offset + 100)
    with pytest.raises(ShardFormatError, match=f"ends {index.entry(5).video_size - 100} bytes early"):
        index.read_video(5)


def test_open_files_are_bounded_and_closed(root: Path) -> None:
    def open_files() -> int:
        targets = [Path(os.path.realpath(path)) for path in Path("/proc/self/fd").iterdir()]
        return sum(target.parent == root and target.suffix == ".tar" for target in targets)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("counts open files in /proc")
    index = DatasetIndex.open(root, max_open_files=1)
    for row in (0, 5, 0, 5, 1):
        assert index.read_video(row) == VIDEOS[f"video-{row}"]
        assert open_files() == 1
    del index
    assert open_files() == 0
    with pytest.raises(ValueError, match="max_open_files=0"):
        DatasetIndex.open(root, max_open_files=0)


def test_threads_share_an_index_that_keeps_one_file(root: Path) -> None:
    index = DatasetIndex.open(root, max_open_files=1)

    def count_right(seed: int) -> int:
        rows = np.random.default_rng(seed).integers(0, 6, 300).tolist()
        return sum(index.read_video(row) == VIDEOS[f"video-{row}"] for row in rows)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(count_right, range(8))) == [300] * 8


def read_in_child(index: DatasetIndex, results: "multiprocessing.Queue[tuple[int, list[str]]]") -> None:
    already_open = len(index._files)
    digests = [hashlib.sha256(index.read_video(row)).hexdigest() for row in range(len(index))]
    results.put((already_open, digests))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_open_their_own_files(root: Path, method: str) -> None:
    index = DatasetIndex.open(root)
    index.read_video(0)
    index._files._lock.acquire()  # as another thread may have, in the middle of opening a shard
    context = multiprocessing.get_context(method)
    results = context.Queue()
    child = context.Process(target=read_in_child, args=(index, results))  # type: ignore[attr-defined]
    child.start()
    index._files._lock.release()
    already_open, digests = results.get(timeout=60)
    child.join()
    assert already_open == 0
    assert digests == [hashlib.sha256(VIDEOS[f"video-{row}"]).hexdigest() for row in range(6)]
    assert index.read_video(5) == VIDEOS["video-5"]


def test_pickled_index_is_small_and_notices_new_data(root: Path) -> None:
    index = DatasetIndex.open(root)
    index.rows("train")
    packed = pickle.dumps(index)
    assert len(packed) < 2000
    assert pickle.loads(packed).rows("train").tolist() == [3, 4, 5]
    pack_by_hand(root, folds=True)
    with pytest.raises(ShardFormatError, match="packed anew"):
        pickle.loads(packed)
