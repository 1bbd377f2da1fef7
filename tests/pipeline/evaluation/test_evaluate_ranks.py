"""Evaluation of several checkpoints, of folds, and by several processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.leakage.training_fingerprint import TrainingFingerprint
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from pipeline.inference.output_paths import checkpoint_title, default_folds_folder, distinct_names
from pipeline.metrics.predictions import read_predictions
from pipeline.report.write_results import FILES
from tests.conftest import REPOSITORY
from tests.pipeline.evaluation.test_evaluate_missing_videos import spoil_last_test_video


def test_several_checkpoints_get_a_folder_each_and_are_compared(motion_checkpoint, motion_dataset, tmp_path, capsys):
    checkpoint = read_checkpoint(motion_checkpoint)
    name = next(name for name in reversed(checkpoint["state_dict"]) if name.endswith("bias"))
    checkpoint["state_dict"][name][0] += 100  # always says the first class
    torch.save(checkpoint, tmp_path / "other.ckpt")
    words = ["--checkpoint", str(motion_checkpoint), "--checkpoint", str(tmp_path / "other.ckpt")]
    words += ["--data", str(motion_dataset), "--num-clips", "1", "--num-workers", "0", "--out", str(tmp_path / "out")]
    assert main(["evaluate", *words]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {motion_checkpoint.stem, "other"}
    told = json.loads((tmp_path / "out" / "other" / "compare.json").read_text())
    assert told["second"] == str(tmp_path / "other.ckpt")
    assert told["top1"]["second"] == 1 / 8
    assert "McNemar" in capsys.readouterr().out
    words[3] = str(tmp_path / "absent.ckpt")
    assert main(["evaluate", *words[:-1], str(tmp_path / "refused")]) == 2
    assert "absent.ckpt': no such file" in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()  # the first is not scored before the second is looked at


def test_names_of_folders():
    assert distinct_names([Path("a/x.ckpt"), Path("b/y.ckpt")]) == ["x", "y"]
    assert distinct_names([Path("a/x.ckpt"), Path("b/x.ckpt")]) == ["a-x", "b-x"]
    assert distinct_names([Path("a/checkpoints/x.ckpt"), Path("b/checkpoints/x.ckpt")]) == ["a-x", "b-x"]
    names = {"a/checkpoints/last.ckpt": "a/last.ckpt", "a/best.ckpt": "a/best.ckpt", "a/i3d.ckpt": "i3d.ckpt"}
    assert {path: checkpoint_title(Path(path)) for path in names} == names
    assert distinct_names([Path("a/x.ckpt"), Path("a/x.ckpt")]) == ["1-a-x", "2-a-x"]
    assert default_folds_folder(Path("runs/fold{fold}/best.ckpt"), "test") == Path("runs/best-test-folds")
    assert default_folds_folder(Path("runs/fold{fold}.ckpt"), "test") == Path("runs/fold-test-folds")
    assert default_folds_folder(Path("i3d-kinetics400-rgb"), "test") == Path("i3d-kinetics400-rgb-test-folds")


def test_all_folds_with_a_checkpoint_each(folded_checkpoint, folded_dataset, tmp_path, capsys):
    """The same weights stand in for those of the other folds; what each was trained on is what it says."""
    for fold in "012":
        checkpoint = read_checkpoint(folded_checkpoint)
        state = checkpoint["ShardedVideoDataModule"]
        state["dataset"]["fold"] = fold
        index = DatasetIndex.open(folded_dataset)
        state["seen"] = TrainingFingerprint.from_index(index, index.rows("train", fold)).state()
        torch.save(checkpoint, tmp_path / f"{fold}.ckpt")
    words = ["--data", str(folded_dataset), "--fold", "all", "--num-clips", "1", "--num-workers", "0"]
    assert main(["evaluate", "--checkpoint", str(tmp_path / "{fold}.ckpt"), *words, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    folds = [json.loads((tmp_path / "a" / f"fold-{fold}" / "report.json").read_text()) for fold in "012"]
    assert [one["provenance"]["fold"] for one in folds] == ["0", "1", "2"]
    assert report["top1_mean"] == pytest.approx(np.mean([one["top1"] for one in folds]))
    assert report["top1_std"] == pytest.approx(np.std([one["top1"] for one in folds], ddof=1))
    assert report["num_videos"] == 12  # each once, in the fold that holds it out
    assert f"± {report['top1_std']:.1%}" in printed
    files = [str(tmp_path / f"{fold}.ckpt") for fold in "201"]  # in any order: each says its fold
    assert main(["evaluate", "--checkpoint", *files, *words, "--out", str(tmp_path / "b")]) == 0
    again = json.loads((tmp_path / "b" / "report.json").read_text())
    assert again["folds"] == report["folds"]
    assert main(["evaluate", "--checkpoint", *files[:2], *words, "--out", str(tmp_path / "c")]) == 2
    assert "0 checkpoints were trained in fold 1" in capsys.readouterr().err


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_two_processes_give_the_same(evaluated, motion_checkpoint, motion_dataset, tmp_path):
    words = ["--checkpoint", motion_checkpoint, "--data", motion_dataset, "--num-clips", 2, "--num-crops", 3]
    words += ["--devices", 2, "--accelerator", "cpu", "--num-workers", 1, "--batch-size", 3, "--out", tmp_path / "out"]
    done = run("evaluate", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == len(FILES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    alone, one = read_predictions(evaluated / "predictions.parquet")
    together, two = read_predictions(tmp_path / "out" / "predictions.parquet")
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert two.drop_columns("scores").equals(one.drop_columns("scores"))
    reports = [json.loads((folder / "report.json").read_text()) for folder in (evaluated, tmp_path / "out")]
    for name in ("top1", "top5", "mean_class_accuracy", "per_class", "model_metrics", "num_videos"):
        assert reports[0][name] == reports[1][name]


@pytest.mark.slow
def test_a_failure_of_the_last_process_ends_all(motion_checkpoint, motion_dataset, tmp_path):
    key = spoil_last_test_video(motion_dataset, tmp_path / "spoilt")
    words = ["--checkpoint", motion_checkpoint, "--data", tmp_path / "spoilt", "--num-clips", 1, "--devices", 2]
    done = run("evaluate", *words, "--accelerator", "cpu", "--num-workers", 0, "--out", tmp_path / "out")
    assert done.returncode != 0
    assert f"error: video {key} in " in done.stderr
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.slow
def test_two_processes_score_two_checkpoints_and_list_what_is_missing(motion_checkpoint, motion_dataset, tmp_path):
    key = spoil_last_test_video(motion_dataset, tmp_path / "spoilt")
    shutil.copy(motion_checkpoint, tmp_path / "again.ckpt")
    words = [
        "--checkpoint",
        motion_checkpoint,
        tmp_path / "again.ckpt",
        "--data",
        tmp_path / "spoilt",
        "--num-clips",
        1,
    ]
    words += ["--accelerator", "cpu", "--num-workers", 0, "--allow-missing", "--batch-size", 3]
    done = run("evaluate", *words, "--devices", 2, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 2 * len(FILES) + 1  # by one rank alone
    results = [
        read_predictions(tmp_path / "two" / name / "predictions.parquet") for name in (motion_checkpoint.stem, "again")
    ]
    for scores, table in results:
        assert table.column("key").to_pylist()[int(np.flatnonzero(np.isnan(scores).all(axis=1)).item())] == key
        np.testing.assert_array_equal(scores, results[0][0])
    assert json.loads((tmp_path / "two" / "again" / "compare.json").read_text())["flips"] == []
