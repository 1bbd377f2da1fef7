"""`classify` and `weights` on real files: the published I3D on Kinetics, a checkpoint of ours, bad input."""

import csv
import json
import shutil

import pytest

from datamodules.shards import DatasetIndex
from lightning_modules import VideoClassifier
from pipeline.__main__ import main


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_the_published_i3d_names_every_kinetics_clip_first(shared_dir, capsys):
    """All nine, whole videos at 25 frames a second; the annotations say which is what."""
    sample = shared_dir / "data" / "kinetics_sample"
    with (sample / "annotations.csv").open(newline="") as file:
        labels = {row["youtube_id"]: row["label"] for row in csv.DictReader(file)}
    words = [str(sample / "videos"), str(sample / "demo_arm_wrestling.mp4"), "--weights", "i3d-kinetics400-rgb"]
    assert main(["classify", *words, "--top", "5", "--json"]) == 0
    told = lines(capsys)
    assert len(told) == 9
    for one in told:
        [label] = [label for name, label in labels.items() if name in one["video"]] or ["arm wrestling"]
        assert one["top"][0]["class"] == label
        assert len(one["top"]) == 5


def test_a_checkpoint_of_ours_on_files_and_folders(motion_checkpoint, motion_dataset, tmp_path, capsys):
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("test")[:3]
    for row in rows:
        (tmp_path / f"{index.entry(int(row)).key}.mp4").write_bytes(index.read_video(int(row)))
    assert main(["classify", str(tmp_path), "--checkpoint", str(motion_checkpoint), "--num-clips", "2", "--json"]) == 0
    told = lines(capsys)
    assert sorted(one["video"] for one in told) == sorted(str(path) for path in tmp_path.iterdir())
    names = VideoClassifier.load(motion_checkpoint).class_names
    for one in told:
        chances = [best["probability"] for best in one["top"]]
        assert chances == sorted(chances, reverse=True)
        assert {best["class"] for best in one["top"]} <= set(names)
        assert one["decoder"].startswith("pyav")
    one = str(next(tmp_path.iterdir()))
    assert main(["classify", one, "--checkpoint", str(motion_checkpoint), "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_damaged_file_does_not_end_the_others(motion_checkpoint, motion_dataset, tmp_path, capsys):
    index = DatasetIndex.open(motion_dataset)
    (tmp_path / "b.mp4").write_bytes(index.read_video(0))
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert main(["classify", str(tmp_path), "--checkpoint", str(motion_checkpoint), "--json"]) == 2
    captured = capsys.readouterr()
    bad, good = [json.loads(line) for line in captured.out.splitlines()]
    assert "error" in bad
    assert "top" in good
    assert captured.err.startswith(f"error: 1 of 2 videos could not be decoded: {tmp_path / 'a.mp4'}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.mp4"], "give either --checkpoint, a file, or --weights"),
        (["x.mp4", "--weights", "i3d"], "videos=x.mp4: there is no such file or folder"),
        ([".", "--weights", "i3d"], "videos=.: no video in this folder"),
        (["x.mp4", "--weights", "i3d", "--top", "0"], "top=0: must be at least 1"),
    ],
)
def test_bad_input_costs_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words == ["x.mp4"]:
        (tmp_path / "x.mp4").write_bytes(b"")
    assert main(["classify", *words]) == 2
    assert message in capsys.readouterr().err


def test_weights_are_listed_got_and_converted(capsys, tmp_path, i3d_weights, shared_dir):
    assert main(["weights", "list"]) == 0
    assert "i3d-kinetics400-rgb\n  trained on" in capsys.readouterr().out
    assert main(["weights", "get", "i3d-kinetics400-rgb"]) == 0
    assert str(i3d_weights) in capsys.readouterr().out
    out = tmp_path / "two.ckpt"
    words = ["weights", "convert", "i3d-kinetics400-rgb", "--num-classes", "2", "--out", str(out)]
    assert main(words) == 0
    assert VideoClassifier.load(out).num_classes == 2
    shutil.copy(shared_dir / "data" / "kinetics_sample" / "demo_arm_wrestling.mp4", tmp_path / "x.mp4")
    words = ["classify", str(tmp_path / "x.mp4"), "--checkpoint", str(out), "--num-clips", "1", "--json"]
    assert main(words) == 0
    assert [best["class"] for best in lines(capsys)[0]["top"]] in (["0", "1"], ["1", "0"])
    for wrong in ("get nothing", "get", "steal i3d", "convert absent.pt"):
        assert main(["weights", *wrong.split()]) == 2
        assert capsys.readouterr().err.startswith("error: weights ")


def test_features_of_published_weights_on_other_classes(motion_dataset, tmp_path, i3d_weights):
    from pipeline.features import read_features

    words = ["--checkpoint", "i3d-kinetics400-rgb", "--data", str(motion_dataset), "--split", "val"]
    words += ["--layer", "Mixed_5c", "--num-frames", "8", "--crop-size", "32", "--resize", "32", "--num-clips", "1"]
    assert main(["features", *words, "--out", str(tmp_path / "val.parquet"), "--num-workers", "0"]) == 0
    assert read_features(tmp_path / "val.parquet")[0].shape == (8, 1024)
