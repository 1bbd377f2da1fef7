"""Packing folders of images: from a list and from class folders, with bad ones refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import decode_frames
from pipeline.__main__ import main
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions


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


def test_class_folders_of_folders(frames: Path, tmp_path: Path) -> None:
    (frames / "stop" / "notes.txt").write_text("no video")
    arguments = ["pack", "--videos", str(frames), "--format", "folders", "--split", "train", "--processes", "1"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--frames-per-second", "12"]) == 0
    found = rows_of(tmp_path / "out")
    assert sorted((key, values[0], values[1]) for key, values in found.items()) == [
        ("stop_3", "stop", 12.0),
        ("stop_4", "stop", 12.0),
        ("swipe_1", "swipe", 12.0),
        ("swipe_2", "swipe", 12.0),
    ]


def test_errors_without_a_rate_name_the_option(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pack", "--videos", str(frames), "--out", str(tmp_path / "out"), "--split", "train"]
    assert main(arguments) != 0
    assert "for folders of images give frames_per_second" in capsys.readouterr().err
    (frames / "list.csv").write_text("path,label,split\nswipe/1,swipe,train\n")
    with pytest.raises(PackError, match="is a folder of images without a frame rate; give --frames-per-second"):
        pack(PackOptions(tmp_path / "out", [frames / "list.csv"], processes=1))


def test_a_copy_takes_no_folders(frames: Path, tmp_path: Path) -> None:
    (frames / "list.csv").write_text("path,label,split\nswipe/1,swipe,train\n")
    with pytest.raises(PackError, match=r"copy: .*swipe/1 is a folder of images, .* leave --copy out"):
        pack(PackOptions(tmp_path / "out", [frames / "list.csv"], copy=True, frames_per_second=12.0))
