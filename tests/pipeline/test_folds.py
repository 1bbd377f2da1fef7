"""Linear classifiers over all folds: what `linear` says fold by fold, and their mean and spread."""

import json

import numpy as np
import pytest

from pipeline.__main__ import main


@pytest.fixture(scope="module")
def exported(folded_checkpoint, folded_dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "all.parquet"
    words = [
        "--checkpoint",
        str(folded_checkpoint),
        "--data",
        str(folded_dataset),
        "--split",
        "all",
        "--num-clips",
        "1",
    ]
    assert main(["features", *words, "--num-workers", "0", "--out", str(path)]) == 0
    return path


def test_each_fold_is_what_linear_says(exported, folded_checkpoint, folded_dataset, tmp_path, capsys):
    assert main(["folds", str(exported), str(folded_dataset), str(tmp_path / "folds")]) == 0
    report = json.loads((tmp_path / "folds" / "report.json").read_text())
    by_fold = {fold: one["top1"] for fold, one in report["folds"].items()}
    assert report["top1_mean"] == pytest.approx(np.mean(list(by_fold.values())))
    assert report["top1_std"] == pytest.approx(np.std(list(by_fold.values()), ddof=1))
    [fold, *_] = by_fold
    for split in ("train", "test"):
        words = ["--checkpoint", str(folded_checkpoint), "--data", str(folded_dataset), "--split", split]
        words += ["--fold", fold, "--num-clips", "1", "--num-workers", "0", "--out", str(tmp_path / split)]
        assert main(["features", *words]) == 0
    words = ["--train", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--out", str(tmp_path / "one")]
    assert main(["linear", *words]) == 0
    assert json.loads((tmp_path / "one" / "report.json").read_text())["top1"] == by_fold[fold]


def test_bad_input_costs_one_line(exported, motion_dataset, folded_dataset, tmp_path, capsys):
    for words, message in (
        ([str(exported), str(motion_dataset)], "has no folds; export its splits one by one"),
        ([str(exported), str(folded_dataset), str(tmp_path), "--C", "0"], "C=0.0: must be above 0"),
        ([str(tmp_path / "absent"), str(folded_dataset)], "absent"),
    ):
        assert main(["folds", *words[:2], str(tmp_path / "out"), *words[3:]]) == 2
        assert message in capsys.readouterr().err
