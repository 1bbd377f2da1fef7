"""`classify --threshold`: all labels at or above a probability, of videos and of stretches of seconds."""

import json

import numpy as np
import pytest

from lightning_modules import VideoClassifier
from pipeline.__main__ import main
from pipeline.classify.class_choice import ClassChoice
from pipeline.features.feature_files import read_features
from pipeline.linear.classifiers import LinearClassifier, normalize_l2
from pipeline.linear.feature_blocks import FeatureRows
from tests.pipeline.several_labels import CLASSES


def classify(capsys, *words):
    assert main(["classify", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_labels_are_the_classes_at_or_above_the_threshold():
    choice = ClassChoice(["a", "b", "c"], 1, 0.5)
    entries = [{"class": "c", "probability": 0.9}, {"class": "a", "probability": 0.5}]
    assert choice.describe(np.array([0.5, 0.4, 0.9])) == {"top": entries[:1], "labels": entries}
    assert choice.describe(np.array([0.1, 0.4, 0.2]))["labels"] == []
    assert "labels" not in choice._replace(threshold=None).describe(np.array([0.5, 0.4, 0.9]))


def test_stretches_of_different_classes_overlap():
    seconds = np.array([[0.9, 0.1], [0.7, 0.6], [0.1, 0.8], [0.6, 0.2]], np.float32)
    assert ClassChoice(["a", "b"], 1, 0.5).describe_stretches(seconds, 3.5) == [
        {"start": 0, "end": 2.0, "class": "a", "probability": pytest.approx(0.8)},
        {"start": 1, "end": 3.0, "class": "b", "probability": pytest.approx(0.7)},
        {"start": 3, "end": 3.5, "class": "a", "probability": pytest.approx(0.6)},
    ]


def test_all_labels_of_files_and_of_their_seconds(several_labels_checkpoint, several_labels_videos, capsys):
    files = [several_labels_videos / f"{number}.mp4" for number in (16, 19)]
    words = [*files, "--checkpoint", several_labels_checkpoint, "--num-clips", "1"]
    results = [json.loads(line) for line in classify(capsys, *words, "--json", "--threshold", "0").splitlines()]
    assert [entry["class"] for entry in results[0]["labels"]] == [entry["class"] for entry in results[0]["top"]]
    assert {entry["class"] for entry in results[0]["labels"]} == set(CLASSES)
    assert sum(entry["probability"] for entry in results[0]["labels"]) != pytest.approx(1, abs=0.01)
    middle = sorted(entry["probability"] for entry in results[0]["labels"])[1]
    [first, _] = classify(capsys, *words, "--json", "--threshold", str(middle - 1e-6)).splitlines()
    assert len(json.loads(first)["labels"]) == 2
    assert "no class reaches the threshold" in classify(capsys, *words, "--threshold", "1")
    seconds = json.loads(classify(capsys, *words[1:], "--json", "--threshold", "0", "--timeline"))
    assert {stretch["class"] for stretch in seconds["stretches"]} == set(CLASSES)
    assert len(seconds["timeline"][0]["labels"]) == 3


def test_a_linear_classifier_of_several_labels_gives_sigmoids(
    several_labels_checkpoint, several_labels_dataset, several_labels_videos, tmp_path, capsys
):
    words = ["--checkpoint", str(several_labels_checkpoint), "--layer", "fc6", "--num-clips", "1", "--num-workers", "0"]
    for split in ("val", "test"):
        out = ["--data", str(several_labels_dataset), "--split", split, "--out", str(tmp_path / f"{split}.parquet")]
        assert main(["features", *words, "--accelerator", "cpu", *out]) == 0
    sides = ["--train", str(tmp_path / "val.parquet"), "--test", str(tmp_path / "test.parquet")]
    assert main(["linear", *sides, "--out", str(tmp_path / "linear")]) == 0
    weights, rows = tmp_path / "linear/weights.safetensors", read_features(tmp_path / "test.parquet")
    capsys.readouterr()
    options = ["--linear", weights, "--json", "--threshold", "0", "--checkpoint", several_labels_checkpoint]
    found = json.loads(classify(capsys, several_labels_videos / "23.mp4", *options))
    number = rows[1].column("key").to_pylist().index("23")
    margins = LinearClassifier.load(weights)[0].scores(FeatureRows.from_array(normalize_l2(rows[0])))[number]
    expected = dict(zip(CLASSES, 1 / (1 + np.exp(-margins)), strict=True))
    for entry in found["labels"]:  # of the file before it was encoded for the dataset
        assert entry["probability"] == pytest.approx(expected[entry["class"]], abs=0.02)


def test_a_network_of_one_class_has_no_threshold(motion_checkpoint, several_labels_videos, capsys):
    words = [str(several_labels_videos / "0.mp4"), "--checkpoint", str(motion_checkpoint)]
    for threshold, message in (("0.5", "gives each video one class"), ("2", "threshold=2.0: must be from 0 to 1")):
        assert main(["classify", *words, "--threshold", threshold]) != 0
        assert message in capsys.readouterr().err
    assert VideoClassifier.load(motion_checkpoint).task == "single_label"
