"""Packing segments of files, and folders of images."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.annotations.tables import AnnotationError
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import decode_frames
from datamodules.video.mp4_writer import encode_frames
from pipeline.__main__ import main
from pipeline.dataset_tools.stats import stats
from pipeline.dataset_tools.verify import verify
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.pipeline.gray_videos import digests, reasons

COUNT = 40
SEGMENTS = [("day", 0.0, 1.0, "walk"), ("day", 0.5, 2.0, "run"), ("day", 3.0, "", "walk"), ("night", 1.0, 1.5, "run")]
BAD = [("day", 9.0, 10.0, "run"), ("day", 2.0, 1.0, "run"), ("night", 1.01, 1.05, "run"), ("gone", 1.0, 2.0, "run")]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two files of four seconds, whose frames have a gray level each."""
    root = tmp_path / "recordings"
    root.mkdir()
    for place, name in enumerate(("day", "night")):
        levels = range(place, 5 * COUNT + place, 5)
        frames = [np.full((32, 48, 3), level, np.uint8) for level in levels]
        (root / f"{name}.mp4").write_bytes(encode_frames(frames, 10.0, crf=10))
    return root


def write_list(root: Path, segments: list[tuple[object, ...]], name: str = "list.csv") -> Path:
    with (root / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "label", "split"])
        writer.writerows((f"{name}.mp4", *times, label, "train") for name, *times, label in segments)
    return root / name


def test_overlapping_segments_and_bad_ones(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = write_list(recordings, [*SEGMENTS, *BAD])
    pack(PackOptions(tmp_path / "out", [listed], videos_per_shard=2, processes=2))
    index = DatasetIndex.open(tmp_path / "out")
    assert len(index) == 4
    for row in range(4):
        entry = index.entry(row)
        assert entry.source_start is not None
        assert entry.source_end is not None
        first, stop = round(10 * entry.source_start), round(10 * entry.source_end)
        levels = decode_frames(index.read_video(row), range(entry.num_frames)).mean(axis=(1, 2, 3))
        assert np.abs(levels - 5 * np.arange(first, stop)).max() <= 3
        assert entry.group == Path(entry.source).stem
    assert sorted((index.entry(row).key, index.classes[index.entry(row).label]) for row in range(4)) == [
        ("day_0ms_1000ms", "walk"),
        ("day_3000ms_end", "walk"),
        ("day_500ms_2000ms", "run"),
        ("night_1000ms_1500ms", "run"),
    ]
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        refused = {row["key"]: row["reason"] for row in csv.DictReader(file)}
    assert refused == {
        "day_9000ms_10000ms": "out of range",
        "day_2000ms_1000ms": "no interval",
        "night_1010ms_1050ms": "too short",
        "gone_1000ms_2000ms": "absent",
    }
    assert not (tmp_path / "out" / ".parts" / "seek_tables").exists()
    verify(tmp_path / "out", full=True)
    stats(tmp_path / "out")
    assert "segments: 4 videos, cut out of 2 longer ones" in capsys.readouterr().out


def test_the_same_bytes_in_any_order_and_after_an_interruption(recordings: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "a" / "d", [write_list(recordings, SEGMENTS)], videos_per_shard=1, processes=1))
    backwards = write_list(recordings, SEGMENTS[::-1], "backwards.csv")
    pack(PackOptions(tmp_path / "b" / "d", [backwards], recordings, videos_per_shard=1, processes=2))
    assert digests(tmp_path / "a" / "d") == digests(tmp_path / "b" / "d")
    before = digests(tmp_path / "a" / "d")
    (tmp_path / "a" / "d" / "d-train-000002.tar").unlink()
    pack(PackOptions(tmp_path / "a" / "d", [recordings / "list.csv"], videos_per_shard=1, processes=1))
    assert digests(tmp_path / "a" / "d") == before
    moved = [("day", 0.0, 1.1, "walk"), *SEGMENTS[1:]]
    with pytest.raises(
        PackError, match=r"was packed otherwise \(other videos, labels, groups or splits in the lists\);"
    ):
        pack(PackOptions(tmp_path / "a" / "d", [write_list(recordings, moved)], videos_per_shard=1))


def test_segments_of_one_file_on_both_sides_are_found(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "list.csv").write_text("path,start,end,label,split\nday.mp4,0,1,a,train\nday.mp4,3,4,a,test\n")
    pack(PackOptions(tmp_path / "out", [recordings / "list.csv"], processes=1))
    assert "whose group is on both sides of a split" in capsys.readouterr().err
    assert (tmp_path / "out" / "split_guard.csv").read_text().splitlines()[1].startswith("group,")


def test_a_copy_cannot_be_cut(recordings: Path, tmp_path: Path) -> None:
    listed = write_list(recordings, SEGMENTS)
    with pytest.raises(PackError, match=r"copy: day_0ms_1000ms is a segment of .*day.mp4, .* leave --copy out"):
        pack(PackOptions(tmp_path / "out", [listed], copy=True))
    assert not (tmp_path / "out").exists()


def save_frames(folder: Path, first_level: int, count: int = 6, size: tuple[int, int] = (48, 32)) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        level = first_level + 10 * number
        Image.new("RGB", size, (level, level, level)).save(folder / f"{number + 1:05d}.jpg", quality=95)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    root = tmp_path / "frames"
    for place, name in enumerate(("swipe/1", "swipe/2", "stop/3", "stop/4")):
        save_frames(root / name, 20 * place)
    return root


def rows_of(root: Path) -> dict[str, tuple[str, float, int, list[float]]]:
    """Key -> class, frame rate, number of frames and mean level of each."""
    index = DatasetIndex.open(root)
    found = {}
    for row in range(len(index)):
        entry = index.entry(row)
        levels = decode_frames(index.read_video(row), range(entry.num_frames)).mean(axis=(1, 2, 3))
        found[entry.key] = (index.classes[entry.label], entry.fps, entry.num_frames, levels)
    return found


def test_a_list_with_rates_and_bad_folders(frames: Path, tmp_path: Path) -> None:
    (frames / "stop" / "4" / "00003.jpg").unlink()
    (frames / "empty").mkdir()
    save_frames(frames / "mixed", 0, 3)
    save_frames(frames / "mixed" / "more", 0, 1, (50, 32))
    (frames / "mixed" / "more" / "00001.jpg").rename(frames / "mixed" / "00004.jpg")
    lines = ["path,fps,label,split", "swipe/1,12,swipe,train", "swipe/2,,swipe,train", "stop/3,12.0,stop,train"]
    lines += [f"{name},12,stop,train" for name in ("stop/4", "empty", "mixed", "gone")]
    (frames / "list.csv").write_text("\n".join(lines))
    pack(PackOptions(tmp_path / "out", [frames / "list.csv"], processes=1, frames_per_second=24.0))
    found = rows_of(tmp_path / "out")
    assert {key: values[:3] for key, values in found.items()} == {
        "swipe_1": ("swipe", 12.0, 6),
        "swipe_2": ("swipe", 24.0, 6),
        "stop_3": ("stop", 12.0, 6),
    }
    assert np.abs(found["swipe_2"][3] - (20 + 10 * np.arange(6))).max() <= 3
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        refused = {row["path"]: (row["reason"], row["detail"]) for row in csv.DictReader(file)}
    assert refused == {
        "stop/4": ("frame numbers", "00004.jpg follows 00002.jpg: 1 image of the numbering missing"),
        "empty": ("no frames", "the folder has no image (.jpg, .jpeg, .png, .webp)"),
        "mixed": ("mixed sizes", "00004.jpg is 50x32, the first image, 00001.jpg, is 48x32"),
        "gone": ("absent", "no such file"),
    }
    with pytest.raises(
        PackError, match=r"otherwise \(other videos, .* lists: frames_per_second 24.0 there, 10.0 now\)"
    ):
        pack(PackOptions(tmp_path / "out", [frames / "list.csv"], processes=1, frames_per_second=10.0))


def test_class_folders_of_folders(frames: Path, tmp_path: Path) -> None:
    (frames / "stop" / "notes.txt").write_text("no video")
    (frames / "stop" / "5").mkdir()
    arguments = ["pack", "--videos", str(frames), "--format", "folders", "--split", "train", "--processes", "1"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--frames-per-second", "12"]) == 0
    found = rows_of(tmp_path / "out")
    assert sorted((key, values[0], values[1]) for key, values in found.items()) == [
        ("stop_3", "stop", 12.0),
        ("stop_4", "stop", 12.0),
        ("swipe_1", "swipe", 12.0),
        ("swipe_2", "swipe", 12.0),
    ]
    assert reasons(tmp_path / "out") == {"stop/5": "no frames"}


def test_errors_without_a_rate_name_the_option(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pack", "--videos", str(frames), "--out", str(tmp_path / "out"), "--split", "train"]
    assert main(arguments) != 0
    assert "for folders of images give their rate (--frames-per-second)" in capsys.readouterr().err
    (frames / "list.csv").write_text("path,label,split,fps\nswipe/1,swipe,train,12\nswipe/2,swipe,train,\n")
    with pytest.raises(
        AnnotationError, match=r"swipe/2: is a folder of images without a frame rate; give --frames-per"
    ):
        pack(PackOptions(tmp_path / "out", [frames / "list.csv"], processes=1))
    assert not (tmp_path / "out").exists()


def test_a_copy_takes_no_folders(frames: Path, tmp_path: Path) -> None:
    (frames / "list.csv").write_text("path,label,split\nswipe/1,swipe,train\n")
    with pytest.raises(PackError, match=r"copy: .*swipe/1 is a folder of images, .* leave --copy out"):
        pack(PackOptions(tmp_path / "out", [frames / "list.csv"], copy=True, frames_per_second=12.0))
