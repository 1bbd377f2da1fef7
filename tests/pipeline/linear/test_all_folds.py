"""Linear classifiers over all folds: what `linear` says fold by fold, and their mean and spread."""

import json

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.metrics.scored_videos import read_scored_videos


@pytest.fixture(scope="module")
def exported(folded_checkpoint, folded_dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "all.parquet"
    words = ["--checkpoint", str(folded_checkpoint), "--data", str(folded_dataset), "--split", "all"]
    assert main(["features", *words, "--num-clips", "1", "--num-workers", "0", "--out", str(path)]) == 0
    return path


def test_each_fold_is_what_linear_says(exported, folded_checkpoint, folded_dataset, tmp_path):
    words = ["--features", str(exported), "--data", str(folded_dataset), "--allow-overlap"]
    assert main(["linear", *words, "--fold", "all", "--out", str(tmp_path / "folds")]) == 0
    report = json.loads((tmp_path / "folds" / "report.json").read_text())
    by_fold = {fold: one["top1"] for fold, one in report["folds"].items()}
    assert report["top1_mean"] == pytest.approx(np.mean(list(by_fold.values())))
    assert report["top1_std"] == pytest.approx(np.std(list(by_fold.values()), ddof=1))
    together = read_scored_videos(tmp_path / "folds")
    apart = [read_scored_videos(tmp_path / "folds" / f"fold-{fold}") for fold in by_fold]
    assert list(together.keys) == [key for one in apart for key in one.keys]
    np.testing.assert_array_equal(together.scores, np.concatenate([one.scores for one in apart]))
    assert report["num_videos"] == len(together.keys)
    assert f"top-1 {100 * report['top1_mean']:.1f} %" in (tmp_path / "folds" / "report.html").read_text()
    [fold, *_] = by_fold
    assert main(["linear", *words, "--fold", fold, "--out", str(tmp_path / "one")]) == 0
    for split in ("train", "test"):
        words = ["--checkpoint", str(folded_checkpoint), "--data", str(folded_dataset), "--split", split]
        words += ["--fold", fold, "--num-clips", "1", "--num-workers", "0", "--out", str(tmp_path / split)]
        assert main(["features", *words]) == 0
    words = ["--train", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--out", str(tmp_path / "two")]
    assert main(["linear", *words, "--allow-overlap"]) == 0
    folders = [tmp_path / "folds" / f"fold-{fold}", tmp_path / "one", tmp_path / "two"]
    found = [json.loads((folder / "report.json").read_text())["per_class"] for folder in folders]
    assert found[0] == found[1] == found[2]
    assert (folders[0] / "weights.safetensors").read_bytes() == (folders[1] / "weights.safetensors").read_bytes()
    assert (folders[0] / "report.html").is_file()


def test_what_the_network_was_trained_on_is_not_held_out(exported, folded_dataset, tmp_path, capsys):
    words = ["linear", "--features", str(exported), "--data", str(folded_dataset)]
    # The network was trained in fold 1: fold 1 is held out, what the other folds hold out it has seen.
    assert main([*words, "--fold", "1", "--out", str(tmp_path / "one")]) == 0
    assert main([*words, "--fold", "all", "--out", str(tmp_path / "all")]) == 2
    assert "was trained on 4 of the 4 test videos, or on their groups" in capsys.readouterr().err


def test_bad_input_costs_one_line(exported, motion_dataset, folded_dataset, tmp_path, capsys):
    file, data = str(exported), str(folded_dataset)
    for words, message in (
        (["--features", file, "--data", str(motion_dataset), "--fold", "all"], "are of another dataset"),
        (["--features", file, "--data", data, "--fold", "all", "--C", "0"], "C=0.0: must be above 0"),
        (["--features", file, "--data", data], "wants one of the folds 0, 1, 2"),
        (["--features", file, "--data", data, "--fold", "7"], "wants one of the folds 0, 1, 2"),
        (["--features", file], "give --data"),
        (["--train", file], "give --train and --test"),
        (["--features", str(tmp_path / "absent"), "--data", data], "absent"),
    ):
        assert main(["linear", *words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
