"""Evaluating a checkpoint: every video once, the scores of the model, the same from one process and from two."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from lightning_modules import VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.inference.output_paths import default_folder
from pipeline.metrics.predictions import provenance_of, read_predictions
from tests.pipeline.evaluation.conftest import QUICK


def test_every_video_once_with_the_scores_of_the_model(evaluated, motion_checkpoint, motion_dataset):
    scores, table = read_predictions(evaluated / "predictions.parquet")
    index = DatasetIndex.open(motion_dataset)
    rows = index.rows("test")
    assert table.column("key").to_pylist() == index.column("key", rows)
    assert table.column("label").to_pylist() == list(index.column("label", rows))
    model = VideoClassifier.load(motion_checkpoint)
    data = ShardedVideoDataModule(
        str(motion_dataset), batch_size=1, crop_size=32, num_clips=2, num_crops=3, num_workers=0
    )
    with torch.inference_mode():
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
        expected = torch.cat([model.video_scores(batch) for batch in batches])
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


def test_predictions_read_with_pandas(evaluated, motion_dataset):
    frame = pd.read_parquet(evaluated / "predictions.parquet")
    best = ["top1", "top2", "top3", "top4", "top5"]
    assert list(frame.columns) == ["key", "label", "label_name", "group", *best, "correct", "scores"]
    classes = DatasetIndex.open(motion_dataset).classes
    assert (frame.label_name == [classes[label] for label in frame.label]).all()
    assert (frame.top1 == [classes[scores.argmax()] for scores in frame.scores]).all()
    assert (frame.correct == (frame.top1 == frame.label_name)).all()
    for scores, names in zip(frame.scores, frame[best].to_numpy().tolist(), strict=True):
        assert names == [classes[number] for number in np.argsort(-scores, kind="stable")[:5]]
        assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_the_report_agrees_with_torchmetrics_and_with_the_predictions(evaluated):
    report = json.loads((evaluated / "report.json").read_text())
    frame = pd.read_parquet(evaluated / "predictions.parquet")
    assert report["num_videos"] == 16
    assert report["chance"] == 1 / 8
    assert report["views"] == 6
    assert report["top1"] == frame.correct.mean()
    assert report["mean_class_accuracy"] == frame.groupby("label").correct.mean().mean()
    assert set(report["model_metrics"]) == {"test/top1", "test/top5", "test/mean_class_accuracy"}
    for name, value in report["model_metrics"].items():
        assert report[name.removeprefix("test/")] == pytest.approx(value, abs=1e-6)
    assert sum(of["videos"] for of in report["per_class"].values()) == 16
    content = (evaluated / "predictions.parquet").read_bytes()
    assert report["predictions_sha256"] == hashlib.sha256(content).hexdigest()


def test_predictions_say_where_they_come_from(evaluated, motion_checkpoint, motion_dataset):
    path = evaluated / "predictions.parquet"
    about = provenance_of(pq.read_schema(path), path)
    assert about["checkpoint"] == str(motion_checkpoint)
    assert about["checkpoint_sha256"] == hashlib.sha256(motion_checkpoint.read_bytes()).hexdigest()
    assert about["dataset_identity"] == DatasetIndex.open(motion_dataset).identity
    assert (about["split"], about["fold"], about["overlap"]) == ("test", None, None)
    assert about["decoder"].split()[0] in ("pyav", "torchcodec")
    assert about["sampling"]["crop_size"] == 32  # as in training, not the data module's default
    assert (about["sampling"]["num_clips"], about["sampling"]["num_crops"]) == (2, 3)
    assert about["versions"]["torch"] == torch.__version__


def test_clips_differ_from_training_where_flags_say_so(motion_checkpoint, motion_dataset, tmp_path, capsys):
    words = ["evaluate", "--checkpoint", str(motion_checkpoint), "--data", str(motion_dataset), "--out", str(tmp_path)]
    flags = ["--num-clips", "1", "--num-workers", "0", "--frame-interval", "2", "--still", "--short-videos", "loop"]
    assert main([*words, *flags, "--resize", "40"]) == 0
    sampling = json.loads((tmp_path / "report.json").read_text())["provenance"]["sampling"]
    assert (sampling["frame_interval"], sampling["still"], sampling["resize"]) == (2, True, 40)
    printed = capsys.readouterr().out
    assert "top-1" in printed
    assert f"wrote {tmp_path / 'report.json'}" in printed


def test_dense_clips_and_segments(motion_checkpoint, motion_dataset, tmp_path, capsys):
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, clip_step=4, out=tmp_path, **QUICK))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["views"] is None
    assert report["provenance"]["sampling"]["clip_step"] == 4
    assert report["provenance"]["sampling"]["segments"] is False
    assert "4 frames apart" in capsys.readouterr().out
    scores, _ = read_predictions(tmp_path / "predictions.parquet")
    model = VideoClassifier.load(motion_checkpoint)
    settings = {"crop_size": 32, "num_workers": 0, "clip_step": 4, "test_sampling": "dense", "batch_size": 16}
    data = ShardedVideoDataModule(str(motion_dataset), **settings)
    with torch.inference_mode():
        [expected] = [model.video_scores(data.on_after_batch_transfer(batch, 0)) for batch in data.test_dataloader()]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)


def test_results_lie_beside_the_checkpoint_if_nobody_says():
    assert default_folder(Path("run/epoch=1.5.ckpt"), "test", None) == Path("run/epoch=1.5-test")
    assert default_folder(Path("run/last.ckpt"), "val", "0") == Path("run/last-val-fold0")


def test_videos_that_were_trained_on_are_refused(motion_checkpoint, motion_dataset, tmp_path, capsys):
    with pytest.raises(ValueError, match="trained on 40 of its 40 videos, and 40 of its groups"):
        evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, "train", out=tmp_path / "out", **QUICK))
    assert not (tmp_path / "out").exists()
    evaluate(
        EvaluateOptions(
            motion_checkpoint, motion_dataset, "train", num_clips=1, out=tmp_path / "out", allow_overlap=True, **QUICK
        )
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["provenance"]["overlap"] == {"videos": 40, "content": 0, "of": 40, "groups": 40}
    assert "not held out" in capsys.readouterr().out


def test_folds(folded_checkpoint, folded_dataset, tmp_path):
    evaluate(EvaluateOptions(folded_checkpoint, folded_dataset, num_clips=1, out=tmp_path / "own", **QUICK))
    report = json.loads((tmp_path / "own" / "report.json").read_text())
    assert report["provenance"]["fold"] == "1"  # the one it was trained in
    assert report["num_videos"] == 4
    with pytest.raises(ValueError, match="trained on 4 of its 4 videos, and 1 of its groups"):
        evaluate(EvaluateOptions(folded_checkpoint, folded_dataset, fold="0", out=tmp_path / "other", **QUICK))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--split": "tset"}, "split='tset': shards has no video in it, only in test, train, val"),
        ({"--fold": "0"}, "fold=0: shards wants no fold"),
        ({"--checkpoint": "absent.ckpt"}, "checkpoint 'absent.ckpt': no such file"),
        ({"--checkpoint": __file__}, "this is no file that torch saved; give a checkpoint that `fit` wrote"),
        ({"--data": "absent"}, "absent: there is no such folder"),
        ({"--data": __file__}, "test_evaluate.py: is a file, and not the folder of a dataset"),
        ({"--num-frames": "64"}, "num_frames=64, crop_size=32: the C3D of"),
        ({"--num-frames": "8"}, "this C3D takes num_frames=16, crop_size=32"),
        ({"--num-clips": "0"}, "num_clips=0: must be at least 1"),
        ({"--protocol": "tsn"}, "protocol: must be one of lrcn, c3d, i3d, 10x3, not tsn"),
        ({"--out": __file__}, "test_evaluate.py': is a file; give a folder for the results"),
        ({"--out": f"{__file__}/out"}, "test_evaluate.py is no folder, so nothing can be in it; give another path"),
        ({"--accelerator": "mps"}, "accelerator='mps', devices=1: "),  # Apple's
        ({"--devices": "0"}, "devices=0: must be at least 1"),
        ({"--devices": "2"}, "devices=2: works from the command line"),
    ],
)
def test_bad_input_costs_one_line(changes, message, motion_checkpoint, motion_dataset, tmp_path, capsys):
    options = {"--checkpoint": str(motion_checkpoint), "--data": str(motion_dataset), "--out": str(tmp_path / "out")}
    options |= {"--num-workers": "0"} | changes
    assert main(["evaluate", *(word for pair in options.items() for word in pair)]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("error: ")
    assert message in complaint
    assert not (tmp_path / "out").exists()


def test_other_classes_are_refused_by_name(motion_checkpoint, folded_dataset):
    with pytest.raises(ValueError, match=r"different classes: only checkpoint .* has 'growing', .* and 5 more; only "):
        evaluate(EvaluateOptions(motion_checkpoint, folded_dataset, fold="0", **QUICK))


def test_a_checkpoint_without_clips_needs_flags(motion_checkpoint, motion_dataset, tmp_path):
    checkpoint = read_checkpoint(motion_checkpoint)
    del checkpoint["datamodule_hyper_parameters"]
    torch.save(checkpoint, tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match="give --num-frames and --crop-size"):
        evaluate(EvaluateOptions(tmp_path / "bare.ckpt", motion_dataset, **QUICK))
    evaluate(EvaluateOptions(tmp_path / "bare.ckpt", motion_dataset, num_clips=1, num_frames=16, crop_size=32, **QUICK))
    assert (tmp_path / "bare-test" / "report.json").is_file()


def test_logits_are_averaged_where_asked_and_pieces_change_nothing(motion_checkpoint, motion_dataset, tmp_path):
    settings = QUICK | {"num_clips": 3, "average": "logits"}
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, out=tmp_path / "whole", views_at_once=100, **settings))
    evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, out=tmp_path / "pieces", views_at_once=2, **settings))
    one, other = (read_predictions(tmp_path / name / "predictions.parquet")[0] for name in ("whole", "pieces"))
    np.testing.assert_allclose(one, other, atol=1e-5)
    model = VideoClassifier.load(motion_checkpoint)
    data = ShardedVideoDataModule(str(motion_dataset), batch_size=16, crop_size=32, num_clips=3, num_workers=0)
    with torch.inference_mode():
        expected = torch.cat(
            [model(batch).unflatten(0, (-1, 3)).mean(1).softmax(1) for batch in data.test_dataloader()]
        )
    np.testing.assert_allclose(one, expected.numpy(), atol=1e-5)


def test_bfloat16_moves_scores_a_little_and_is_recorded(evaluated, motion_checkpoint, motion_dataset, tmp_path):
    evaluate(
        EvaluateOptions(
            motion_checkpoint, motion_dataset, num_clips=2, num_crops=3, out=tmp_path, precision="bf16-mixed", **QUICK
        )
    )
    paths = evaluated / "predictions.parquet", tmp_path / "predictions.parquet"
    (exact, _), (near, _) = map(read_predictions, paths)
    assert 0 < np.abs(near - exact).max() < 0.03
    about = [provenance_of(pq.read_schema(path), path) for path in paths]
    assert [one["precision"] for one in about] == ["32-true", "bf16-mixed"]
    assert [one["arithmetic"] for one in about] == ["32-true on cpu", "bf16-mixed on cpu"]
    assert [one["device"] for one in about] == ["cpu", "cpu"]


def test_protocols_are_papers_views_and_given_options_win(motion_checkpoint, motion_dataset, tmp_path):
    def sampling(*words):
        base = ["evaluate", "--checkpoint", str(motion_checkpoint), "--data", str(motion_dataset), "--split", "val"]
        assert main([*base, "--out", str(tmp_path), "--num-workers", "0", *words]) == 0
        about = json.loads((tmp_path / "report.json").read_text())["provenance"]
        return about["protocol"], {name: about["sampling"][name] for name in ("num_clips", "clip_step", "num_crops")}

    assert sampling("--protocol", "10x3") == ("10x3", {"num_clips": 10, "clip_step": None, "num_crops": 3})
    assert sampling("--protocol", "lrcn") == ("lrcn", {"num_clips": None, "clip_step": 8, "num_crops": 1})
    assert sampling("--protocol", "lrcn", "--num-clips", "2")[1] == {"num_clips": 2, "clip_step": None, "num_crops": 1}
    assert sampling("--protocol", "10x3", "--num-crops", "1")[1]["num_crops"] == 1
