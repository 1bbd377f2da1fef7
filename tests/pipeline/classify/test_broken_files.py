"""One bad input never stops the others: links to nowhere, folders called like videos, files that go away or fail."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from datamodules.annotations.video_files import read_video_bytes
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import DecodeError
from pipeline.__main__ import main
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.pipeline.classify.test_describe import describer  # noqa: F401 # a fixture

BAD = ("link.mp4", "loop.mp4", "pipe.mp4", "fails.mp4")


def spoil(folder: Path) -> None:
    """What is called like a video in a folder and cannot be read; to root neither."""
    (folder / "link.mp4").symlink_to("nowhere")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "fails.mp4").symlink_to("/proc/self/mem")  # a read at 0 gives EIO


@pytest.fixture
def folder(motion_dataset: Path, tmp_path: Path) -> Path:
    """A folder of good and bad files; a.mp4 is a folder with a video in it."""
    video = DatasetIndex.open(motion_dataset).read_video(0)
    (tmp_path / "v" / "a.mp4").mkdir(parents=True)
    for name in ("a.mp4/inside.mp4", "good", "z.mp4"):
        (tmp_path / "v" / name).write_bytes(video)
    (tmp_path / "v" / "notes.txt").write_text("words")
    spoil(tmp_path / "v")
    return tmp_path / "v"


def told(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, dict[str, object]], str]:
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines() if line.startswith("{")]
    return {Path(line["video"]).name: line for line in lines}, captured.err


@pytest.mark.parametrize("more", [(), ("--timeline",), ("--annotate", "copies")])
def test_classify(folder: Path, motion_checkpoint: Path, more: tuple[str, ...], capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--checkpoint", str(motion_checkpoint), "--num-clips", "1", "--json", *more]
    assert main(["classify", str(folder), *words]) == 2
    outcomes, err = told(capsys)
    assert {name for name, one in outcomes.items() if "top" in one} == {"inside.mp4", "good", "z.mp4"}
    assert {name for name, one in outcomes.items() if "error" in one} == set(BAD)
    assert "left out 1 file that is no video: .txt (1: notes.txt)" in err
    assert "error: 4 of 7 videos could not be decoded" in err.splitlines()[-1]


def test_classify_files_by_name(folder: Path, motion_checkpoint: Path, capsys) -> None:
    (folder / "empty").mkdir()
    paths = [str(folder / name) for name in ("z.mp4", "link.mp4", "absent.mp4", "empty")]
    assert main(["classify", *paths, "--checkpoint", str(motion_checkpoint), "--num-clips", "1", "--json"]) == 2
    outcomes, _ = told(capsys)
    assert "top" in outcomes["z.mp4"]
    assert outcomes["link.mp4"]["error"] == "a link to a file that is not there"
    assert outcomes["absent.mp4"]["error"] == "no such file"
    assert outcomes["empty"]["error"] == "is a folder, not a video file"


def test_describe(folder: Path, describer: Path, capsys) -> None:  # noqa: F811
    assert main(["describe", str(folder), "--checkpoint", str(describer), "--num-clips", "1", "--json"]) == 2
    outcomes, _ = told(capsys)
    assert {name for name, one in outcomes.items() if "caption" in one} == {"inside.mp4", "good", "z.mp4"}
    assert {name for name, one in outcomes.items() if "error" in one} == set(BAD)


def test_a_file_that_goes_away(folder: Path) -> None:
    with pytest.raises(DecodeError, match="the file cannot be read: Input/output error") as caught:
        read_video_bytes(folder / "fails.mp4")
    assert caught.value.reason == "unreadable"
    (folder / "z.mp4").unlink()
    with pytest.raises(DecodeError, match="no such file") as caught:
        read_video_bytes(folder / "z.mp4")
    assert caught.value.reason == "absent"


def test_pack_folders_and_lists(originals: Path, tmp_path: Path, capsys) -> None:
    videos = shutil.copytree(originals / "walk", tmp_path / "v" / "walk")
    spoil(videos)
    (tmp_path / "v" / "outside.mp4").symlink_to(videos / "0.mp4")
    (videos / "notes.txt").write_text("words")
    pack(PackOptions(tmp_path / "out", videos=tmp_path / "v", split="train", processes=1))
    captured = capsys.readouterr()
    assert "warning: left out 1 file that is no video: .txt (1: walk/notes.txt)" in captured.err
    reasons = quarantine(tmp_path / "out")
    assert reasons.pop("walk/fails.mp4") == "unreadable"
    assert reasons == {
        "walk/link.mp4": "absent",
        "walk/loop.mp4": "unreadable",
        "walk/pipe.mp4": "unreadable",
        "outside.mp4": "outside classes",
    }
    assert "outside classes 1" in captured.out
    assert len(DatasetIndex.open(tmp_path / "out").rows("train")) == len(list((originals / "walk").iterdir()))

    rows = ["walk/0.mp4,walk", "walk,walk", "gone.mp4,walk", "https://example.org/x.mp4,walk"]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(rows))
    pack(PackOptions(tmp_path / "listed", [tmp_path / "list.csv"], tmp_path / "v", split="train", processes=1))
    assert quarantine(tmp_path / "listed") == {
        "walk": "unreadable",
        "gone.mp4": "absent",
        "https://example.org/x.mp4": "address",
    }


def quarantine(root: Path) -> dict[str, str]:
    with (root / "quarantine.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("full", [False, True])
def test_verify_names_a_shard_that_fails_and_checks_the_others(
    motion_dataset: Path, tmp_path: Path, full: bool, capsys
) -> None:
    root = shutil.copytree(motion_dataset, tmp_path / "d")
    first, second, *_ = sorted(root.glob("*.tar"))
    first.unlink()
    first.symlink_to("/proc/self/mem")
    second.unlink()
    second.symlink_to("nowhere")
    assert main(["verify", str(root), *(["--full"] if full else [])]) == 2
    out = capsys.readouterr().out
    assert f"{first.name}: cannot be read (Input/output error)" in out
    assert f"{second.name}: is missing" in out


def test_index_names_a_tar_that_cannot_be_read(motion_dataset: Path, tmp_path: Path, capsys) -> None:
    root = shutil.copytree(motion_dataset, tmp_path / "d")
    first = sorted(root.glob("*.tar"))[0]
    first.unlink()
    first.mkdir()
    assert main(["index", str(root)]) == 2
    assert f"error: {first}: cannot be read (Is a directory); copy the shard again" in capsys.readouterr().err
