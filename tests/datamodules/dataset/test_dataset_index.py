"""The shard format: written, read by webdataset, recovered from the tar alone, indexed, and damaged in every way."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset.dataset_index import (
    DatasetIndex,
    ShardFile,
    ShardFormatError,
    ShardRow,
    VideoDescription,
    dataset_identity,
    index_shard,
    open_shard_writer,
    read_manifest,
    write_dataset,
)
from datamodules.dataset.manifest import FORMAT_VERSION
from datamodules.encoding.transcoding import encode_frames
from datamodules.storage.atomic_write import remove_partial_files, write_atomically
from datamodules.storage.local_files import file_sha256

CLASSES = ["jump", "run"]
SPLITS = ("test", "train")


def make_video(number: int) -> bytes:
    frames = np.random.default_rng(number).integers(0, 256, (4 + number, 32, 48, 3), dtype=np.uint8)
    return encode_frames(list(frames), fps=8.0)


VIDEOS = {f"video-{number}": make_video(number) for number in range(6)}


def describe(number: int, video: bytes, split: str, fold_splits: tuple[str, ...] = ()) -> VideoDescription:
    return VideoDescription(
        label=CLASSES[number % 2],
        split=split,
        fold_splits=fold_splits,
        group=f"group {number // 2}",
        num_frames=4 + number,
        fps=8.0,
        width=48,
        height=32,
        duration_s=(4 + number) / 8,
        content_sha256=hashlib.sha256(video).hexdigest(),
        source=f"läufe/{number}.mp4",
    )


def pack_by_hand(root: Path, folds: bool = False) -> list[ShardRow]:
    """Two shards of three videos: with splits test and train, or one split `all` and two folds."""
    root.mkdir(parents=True, exist_ok=True)
    rows: list[ShardRow] = []
    shards = []
    for part, split in enumerate(SPLITS):
        path = root / (f"tiny-all-{part:06d}.tar" if folds else f"tiny-{split}-000000.tar")
        with open_shard_writer(path) as writer:
            for number in range(3 * part, 3 * part + 3):
                fold_splits = ("test", "train") if number % 3 else ("train", "test")
                description = (
                    describe(number, VIDEOS[f"video-{number}"], "all", fold_splits)
                    if folds
                    else describe(number, VIDEOS[f"video-{number}"], split)
                )
                writer.write(f"video-{number}", VIDEOS[f"video-{number}"], description)
        shard_rows = index_shard(path)
        rows += shard_rows
        shards.append(
            ShardFile(path.name, "all" if folds else split, len(shard_rows), path.stat().st_size, file_sha256(path))
        )
    write_dataset(root, "tiny", rows, shards, CLASSES, ["0", "1"] if folds else [], {"short_side": 32}, {"av": "0"})
    return rows


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pack_by_hand(tmp_path / "tiny")
    return tmp_path / "tiny"


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
from tests.datamodules.dataset.test_dataset_index import VIDEOS, describe
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
        (("val", 0), "only in test, train"),
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
