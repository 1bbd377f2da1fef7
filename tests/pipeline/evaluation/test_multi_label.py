"""Several labels a video through evaluate, compare, fuse and summarize: figures, files, and the refusal of others."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.evaluation.compare import compare
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.evaluation.fuse import fuse
from pipeline.evaluation.summarize import summarize
from pipeline.metrics.scored_videos import read_scored_videos
from pipeline.training import lightning_cli
from tests.pipeline.several_labels import CLASSES, labels_of

QUICK = {"num_workers": 0, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def results(several_labels_checkpoint, several_labels_dataset, tmp_path_factory):
    """Two evaluations: of two clips a video, and of one repeated frame."""
    folder = tmp_path_factory.mktemp("results")
    for name, views in (("clips", {"num_clips": 2}), ("still", {"num_clips": 1, "still": True})):
        options = EvaluateOptions(
            several_labels_checkpoint, several_labels_dataset, out=folder / name, **views, **QUICK
        )
        evaluate(options)
    return folder


def average_precisions(frame):
    labels = np.array([[k in of for k in range(3)] for of in frame.labels])
    scores = np.stack(frame.scores.to_list())
    return [average_precision_score(labels[:, k], scores[:, k]) for k in range(3)]


def test_the_report_agrees_with_scikit_learn_and_with_the_metrics_of_the_network(results, several_labels_dataset):
    frame = pd.read_parquet(results / "clips/predictions.parquet")
    best = ["top1", "top2", "top3"]
    assert list(frame.columns) == ["key", "labels", "label_names", "group", *best, "correct", "scores"]
    index = DatasetIndex.open(several_labels_dataset)
    assert [tuple(of) for of in frame.labels] == [index.labels(row) for row in index.rows("test")]
    assert sorted(map(tuple, frame.label_names)) == sorted(labels_of(place) for place in range(9))
    assert (frame.correct == [name in of for name, of in zip(frame.top1, frame.label_names, strict=True)]).all()
    report = json.loads((results / "clips/report.json").read_text())
    expected = average_precisions(frame)
    assert report["mean_average_precision"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert report["top1_hit"] == frame.correct[frame.labels.map(len) > 0].mean()
    assert (report["task"], report["num_videos"], report["unlabelled"]) == ("multi_label", 9, 2)
    assert report["model_metrics"] == {
        f"test/{name}": pytest.approx(report[name], abs=1e-6) for name in ("mean_average_precision", "top1_hit")
    }
    assert report["interval"]["groups"] == 5
    low, high = report["intervals"]["mean_average_precision"]
    assert low <= report["mean_average_precision"] <= high
    with (results / "clips/per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES)
    assert [float(row["average_precision"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["videos"] for row in rows] == ["4", "4", "4"]


def test_the_page_shows_labels_and_average_precision(results):
    page = (results / "clips/report.html").read_text()
    for text in ("Mean average precision", "Top-1 hit", "Best-scored classes that are not labels", "without a label"):
        assert text in page
    assert "What is taken for what" not in page


def test_compare_and_fuse_say_what_they_go_by(results, several_labels_dataset, tmp_path, capsys):
    names = results / "clips", results / "still"
    compare(*names, out=tmp_path / "compare.json")
    printed = capsys.readouterr().out
    assert "mAP" in printed
    assert "has a label of the video on top" in printed
    found = json.loads((tmp_path / "compare.json").read_text())
    reports = [json.loads((name / "report.json").read_text()) for name in names]
    for figure in ("mean_average_precision", "top1_hit"):
        assert found[figure]["difference"] == pytest.approx(reports[1][figure] - reports[0][figure])
    assert {row["class"] for row in found["classes"]} <= set(CLASSES)
    first, second = (np.stack(pd.read_parquet(name / "predictions.parquet").scores.to_list()) for name in names)
    fuse(list(names), tmp_path / "mean", weights=[3, 1])
    fused = read_scored_videos(tmp_path / "mean")
    np.testing.assert_allclose(fused.scores, 0.75 * first + 0.25 * second, atol=1e-6)
    fuse(list(names), tmp_path / "logits", average="logits", data=several_labels_dataset)
    odds = (np.log(first / (1 - first)) + np.log(second / (1 - second))) / 2
    np.testing.assert_allclose(read_scored_videos(tmp_path / "logits").scores, 1 / (1 + np.exp(-odds)), atol=1e-5)
    summarize([f"clips={results}/clips/report.json", f"fused={tmp_path}/mean/report.json"])
    assert "mAP" in capsys.readouterr().out


def test_a_network_of_one_class_and_a_dataset_of_several_labels_are_refused_both_ways(
    several_labels_checkpoint, several_labels_dataset, motion_checkpoint, motion_dataset, results, tmp_path, capsys
):
    for checkpoint, data in (
        (motion_checkpoint, several_labels_dataset),
        (several_labels_checkpoint, motion_dataset),
    ):
        words = ["--checkpoint", str(checkpoint), "--data", str(data), "--out", str(tmp_path / "out")]
        assert main(["evaluate", *words]) != 0
        error = capsys.readouterr().err
        assert "one class a video (task single_label)" in error
        assert "several labels a video (task multi_label)" in error
        assert len(error.strip().splitlines()) == 1
        quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
        network = ["--model=C3D", "--model.width=2", "--model.crop_size=32", "--model.batch_norm=true"]
        words = [f"--data.root={data}", "--data.crop_size=32", "--data.num_workers=0", "--data.flip_probability=0"]
        words += [f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={checkpoint}", *quiet]
        with pytest.raises(
            ValueError, match=r"ckpt_path: the checkpoint is of .* \(task (multi|single)_label\), the dataset of"
        ):
            lightning_cli.main(["validate", *network, "--data=ShardedVideoDataModule", *words])
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, num_clips=1, out=tmp_path / "one", **QUICK))
    with pytest.raises(ValueError, match="no video in common"):
        compare(results / "clips", tmp_path / "one", common=True)


@pytest.mark.slow
def test_uneven_ranks_give_the_same_result(results, several_labels_checkpoint, several_labels_dataset, tmp_path):
    """Nine videos on two ranks; from the command line, which is repeated for the second rank."""
    import subprocess
    import sys

    words = ["--checkpoint", str(several_labels_checkpoint), "--data", str(several_labels_dataset), "--num-clips", "2"]
    words += ["--devices", "2", "--accelerator", "cpu", "--num-workers", "0", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pipeline", "evaluate", *words], check=True)
    one, two = (json.loads((folder / "report.json").read_text()) for folder in (results / "clips", tmp_path))
    for name in ("mean_average_precision", "top1_hit", "intervals", "per_class", "model_metrics"):
        assert one[name] == two[name]
