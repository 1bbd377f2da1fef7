"""`classify` and `weights` on real files: the published I3D on Kinetics, a checkpoint of ours, bad input."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch

from datamodules.batch import ClipBatch
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import encode_frames
from datamodules.video.decoding import decode_frames, probe
from lightning_modules import VideoClassifier
from pipeline.__main__ import main
from pipeline.classify.class_choice import ClassChoice
from pipeline.classify.timeline import segments
from pipeline.classify.video_input import preprocessing_of
from pipeline.inference.trained_checkpoint import open_checkpoint
from tests.datamodules.video.odd_files import numbered_video
from tests.datamodules.video.test_video_streams import two_streams


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
    complaint = captured.err.strip().splitlines()[-1]
    assert complaint.startswith(f"error: 1 of 2 videos could not be decoded: {tmp_path / 'a.mp4'}")


@pytest.fixture
def long_video(motion_dataset, tmp_path):
    """Two videos of 24 frames one after the other, at 8 frames a second: six seconds, of two classes."""
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("train")[[0, -1]]
    clips = [decode_frames(index.read_video(int(row)), range(24)) for row in rows]
    path = tmp_path / "long.mp4"
    path.write_bytes(encode_frames(np.concatenate(clips), 8.0, crf=5))
    return path


def test_a_timeline_says_what_each_second_shows(motion_checkpoint, long_video, capsys):
    words = ["classify", str(long_video), "--checkpoint", str(motion_checkpoint), "--timeline"]
    assert main([*words, "--json"]) == 0
    [told] = lines(capsys)
    seconds = told["timeline"]
    assert [(one["start"], one["end"]) for one in seconds] == [(n, n + 1.0) for n in range(6)]
    # The fourth second by hand: frames 28 and 8 before and after are around its middle, 3.5 s, so clip 20 to 35.
    model = VideoClassifier.load(motion_checkpoint)
    preprocessing = preprocessing_of(open_checkpoint(motion_checkpoint), 1, "auto")
    frames = torch.from_numpy(decode_frames(long_video.read_bytes(), range(20, 36)))
    with torch.inference_mode():
        expected = model.video_scores(ClipBatch.from_clips(preprocessing.transform(frames)[0][None]))[0]
    assert seconds[3]["top"][0]["probability"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert seconds[3]["top"][0]["class"] == model.class_names[int(expected.argmax())]
    assert set(told) == {"video", "decoder", "top", "timeline", "stretches"}
    assert told["stretches"][0]["start"] == 0
    assert told["stretches"][-1]["end"] == 6
    assert sum(one["end"] - one["start"] for one in told["stretches"]) == 6
    assert main(words) == 0
    assert re.search(r"^  0:00 to 0:0\d +\d+\.\d%  \w", capsys.readouterr().out, re.MULTILINE)


def test_stretches_in_milliseconds_and_six_digits():
    seconds = np.array([[0.1, 0.9], [1 / 3, 2 / 3], [0.7, 0.3]], np.float32)
    names = {"class": "b", "probability": 0.783333}, {"class": "a", "probability": 0.7}
    first, last = {"start": 0, "end": 2.0} | names[0], {"start": 2, "end": 2.533} | names[1]
    assert segments(seconds, 2.53333333, ["a", "b"]) == [first, last]
    last = ClassChoice(["a", "b"], 1).describe_seconds(seconds, 2.53333333)[-1]
    assert last == {"start": 2, "end": 2.533, "top": [names[1]]}


def test_an_annotated_copy_has_the_frames_and_the_text(motion_checkpoint, long_video, tmp_path, capsys):
    copy = tmp_path / "seen" / "copy.mp4"
    assert main(["classify", str(long_video), "--checkpoint", str(motion_checkpoint), "--annotate", str(copy)]) == 0
    assert f"wrote {copy}" in capsys.readouterr().out
    before, after = probe(long_video.read_bytes()), probe(copy.read_bytes())
    assert after[:4] == before[:4]  # as many frames, at that rate, of that size
    first, drawn = (decode_frames(path.read_bytes(), [10])[0].astype(int) for path in (long_video, copy))
    band = drawn.shape[0] - 39  # three lines of 12 pixels and a margin
    assert np.abs(first[:band] - drawn[:band]).mean() < 6
    assert drawn[band:].max() > 200  # white letters
    assert np.median(drawn[band:]) < 80  # on a dark ground
    assert (
        main(["classify", str(long_video), "--checkpoint", str(motion_checkpoint), "--annotate", str(long_video)]) == 2
    )
    assert "would replace the video itself" in capsys.readouterr().err


def test_files_in_batches_and_one_by_one_are_told_the_same(motion_checkpoint, motion_dataset, tmp_path, capsys):
    index = DatasetIndex.open(motion_dataset)
    for row in index.rows("test"):
        (tmp_path / f"{index.entry(int(row)).key}.mp4").write_bytes(index.read_video(int(row)))
    words = ["--checkpoint", str(motion_checkpoint), "--num-clips", "3", "--json", "--top", "8"]
    assert main(["classify", str(tmp_path), *words]) == 0
    captured = capsys.readouterr()
    assert "classify: 16 of 16 videos in" in captured.err
    together = {one["video"]: one["top"] for one in map(json.loads, captured.out.splitlines())}
    for path in sorted(tmp_path.iterdir())[:2]:
        assert main(["classify", str(path), *words]) == 0
        [alone] = lines(capsys)
        for one, other in zip(alone["top"], together[str(path)], strict=True):
            assert one["class"] == other["class"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.mp4"], "give either --checkpoint, a file, or --weights"),
        (["x.mp4", "--weights", "i3d"], "videos=x.mp4: there is no such file or folder"),
        ([".", "--weights", "i3d"], "videos=.: no video in this folder"),
        (["x.mp4", "--weights", "i3d", "--annotate", "y.avi"], "annotate='y.avi': copies are mp4 files"),
        (["x.mp4", "--weights", "i3d", "--annotate", "x.mp4/y"], "x.mp4 is no folder, so nothing can be in it"),
        (["x.mp4", "--weights", "i3d", "--top", "0"], "top=0: must be at least 1"),
    ],
)
def test_bad_input_costs_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words == ["x.mp4"] or "--annotate" in words:
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
    from pipeline.features.features import read_features

    words = ["--checkpoint", "i3d-kinetics400-rgb", "--data", str(motion_dataset), "--split", "val"]
    words += ["--layer", "Mixed_5c", "--num-frames", "8", "--crop-size", "32", "--resize", "32", "--num-clips", "1"]
    assert main(["features", *words, "--out", str(tmp_path / "val.parquet"), "--num-workers", "0"]) == 0
    assert read_features(tmp_path / "val.parquet")[0].shape == (8, 1024)


def test_a_word_of_further_video_streams(motion_checkpoint, tmp_path, capsys):
    video = two_streams("mp4", (range(30), (96, 72)), (range(30), (48, 32)))
    (tmp_path / "two.mp4").write_bytes(video)
    words = ["classify", str(tmp_path / "two.mp4"), "--checkpoint", str(motion_checkpoint), "--num-clips", "1"]
    assert main(words) == 0
    assert "of a file with 2 video streams, of which one was looked at" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["other_streams"] == 1


def test_a_time_lapse_of_weeks_has_no_timeline(motion_checkpoint, tmp_path, capsys):
    """An entry a second would fill the memory; the other video has its timeline, without one both are classified."""
    lapse = numbered_video("libx264", "mp4", range(30), times=[7_200_000 * i for i in range(30)])
    (tmp_path / "lapse.mp4").write_bytes(lapse)
    (tmp_path / "plain.mp4").write_bytes(numbered_video("libx264", "mp4", range(30)))
    words = ["classify", str(tmp_path), "--checkpoint", str(motion_checkpoint), "--num-clips", "1", "--json"]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--timeline"]) == 2
    outcomes = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert "58 hours by its frames' times, and 48 are the most" in outcomes[0]["error"]
    assert len(outcomes[1]["timeline"]) == 2
