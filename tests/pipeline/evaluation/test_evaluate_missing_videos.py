"""Evaluation without some videos: those that cannot be decoded, and what the network was trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import DecodeError
from lightning_modules.weights.checkpoint_file import read_checkpoint, training_fingerprints
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.metrics.predictions import read_predictions
from tests.pipeline.conftest import fit
from tests.pipeline.evaluation.conftest import QUICK


def spoil_last_test_video(dataset: Path, copy: Path) -> str:
    """Copies a dataset and overwrites a video's bytes; gives its key."""
    shutil.copytree(dataset, copy)
    index = DatasetIndex.open(copy)
    entry = index.entry(int(index.rows("test")[-1]))
    with (copy / entry.shard).open("r+b") as file:
        file.seek(entry.video_offset)
        file.write(b"\0" * entry.video_size)
    return entry.key


GO_ON = "; then the same command goes on with the others"


def test_evaluate_and_features_say_alike_how_to_go_on_without_a_video(motion_checkpoint, motion_dataset, tmp_path):
    spoil_last_test_video(motion_dataset, tmp_path / "spoilt")
    spoilt, messages = tmp_path / "spoilt", []
    verbs = ((evaluate, EvaluateOptions, tmp_path / "out"), (features, FeatureOptions, tmp_path / "out.parquet"))
    for verb, options, out in verbs:
        with pytest.raises(DecodeError) as caught:
            verb(options(motion_checkpoint, spoilt, num_clips=1, out=out, **QUICK))
        messages.append(str(caught.value))
    leave_out = f"leave such videos out: python -m pipeline quarantine {spoilt} KEY ... (python -m pipeline verify "
    one, other = (message.split(leave_out) for message in messages)
    assert one[0] == other[0]
    assert one[1].endswith(", or give --allow-missing, which counts them as wrong" + GO_ON)
    assert other[1].endswith(GO_ON)


def test_missing_videos_are_listed_and_count_as_wrong_where_that_is_allowed(
    evaluated, motion_checkpoint, motion_dataset, tmp_path, capsys
):
    key = spoil_last_test_video(motion_dataset, tmp_path / "spoilt")
    out = tmp_path / "out"
    settings = QUICK | {"num_clips": 2, "num_crops": 3, "allow_missing": True, "out": out}
    evaluate(EvaluateOptions(motion_checkpoint, tmp_path / "spoilt", **settings))
    scores, table = read_predictions(out / "predictions.parquet")
    whole, before = read_predictions(evaluated / "predictions.parquet")
    assert table.column("key").to_pylist() == before.column("key").to_pylist()
    assert table.column("group").to_pylist() == before.column("group").to_pylist()
    lost = table.column("key").to_pylist().index(key)
    assert np.isnan(scores[lost]).all()
    np.testing.assert_allclose(np.delete(scores, lost, 0), np.delete(whole, lost, 0), atol=1e-5)
    report = json.loads((out / "report.json").read_text())
    assert report["missing"] == [key]
    right = before.column("correct").to_numpy(zero_copy_only=False)
    assert report["top1"] == (right.sum() - right[lost]) / 16
    assert report["num_videos"] == 16
    assert "model_metrics" not in report
    assert f"not decoded, so counted as wrong: {key}" in capsys.readouterr().out
    assert key in (out / "report.html").read_text(encoding="utf-8")


def test_the_same_videos_in_another_dataset_are_refused(motion_checkpoint, packed_anew, motion_dataset, tmp_path):
    with pytest.raises(ValueError, match="trained on 0 of its 40 videos, on 40 more that show the same, and 40 of its"):
        evaluate(EvaluateOptions(motion_checkpoint, packed_anew, "train", out=tmp_path / "out", **QUICK))
    settings = QUICK | {"num_clips": 1, "crop_size": 32, "out": tmp_path / "out"}
    evaluate(EvaluateOptions(motion_checkpoint, packed_anew, **settings))  # nobody has seen its test split
    assert json.loads((tmp_path / "out" / "report.json").read_text())["provenance"]["overlap"] is None
    evaluate(EvaluateOptions(motion_checkpoint, packed_anew, "train", allow_overlap=True, **settings))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.index("Not held out") < page.index("Top-1 accuracy")


def test_what_the_weights_were_trained_on_before_is_known_too(motion_checkpoint, motion_dataset, packed_anew, tmp_path):
    """Trained on one split, then from there on another, with a run that stopped and resumed: both are refused."""
    tuned = fit(packed_anew, tmp_path, "--data.train_split=val", f"--model.weights={motion_checkpoint}")
    seen = training_fingerprints(read_checkpoint(tuned))
    assert [len(one["digests"]) for one in seen] == [8, 40]
    resumed = fit(
        packed_anew, tmp_path / "more", "--data.train_split=val", f"--ckpt_path={tuned}", "--trainer.max_epochs=2"
    )
    assert len(training_fingerprints(read_checkpoint(resumed))) == 2
    for checkpoint in (tuned, resumed):
        with pytest.raises(ValueError, match="on 40 more that show the same"):
            evaluate(EvaluateOptions(checkpoint, packed_anew, "train", out=tmp_path / "out", **QUICK))
        with pytest.raises(ValueError, match="trained on 8 of its 8 videos"):
            evaluate(EvaluateOptions(checkpoint, packed_anew, "val", out=tmp_path / "out", **QUICK))


def test_what_weights_were_trained_on_is_not_known(motion_checkpoint, motion_dataset, tmp_path):
    checkpoint = read_checkpoint(motion_checkpoint)
    del checkpoint["ShardedVideoDataModule"]
    torch.save(checkpoint, tmp_path / "bare.ckpt")
    evaluate(EvaluateOptions(tmp_path / "bare.ckpt", motion_dataset, "val", num_clips=1, **QUICK))
    assert "is not known here" in (tmp_path / "bare-val" / "report.html").read_text(encoding="utf-8")
