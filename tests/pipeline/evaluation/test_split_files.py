"""Checkpoints and split files: recorded, taken again by default, refused where they would test training videos."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from datamodules.dataset.open_dataset import open_manifest
from datamodules.splits.split_file import SplitFileError
from datamodules.storage.plain_text import read_cell
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.dataset_tools.split import SplitFileOptions, split
from pipeline.evaluation.compare import compare
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features, read_provenance
from pipeline.inference.trained_split_file import trained_split_file
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.metrics.scored_videos import read_scored_videos
from tests.pipeline.conftest import fit

QUICK = {"num_clips": 1, "accelerator": "cpu", "num_workers": 0}


@pytest.fixture(scope="module")
def dataset(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the motion dataset with the split files `mine` and `other`, and the folds `cv`."""
    folder = shutil.copytree(motion_dataset, tmp_path_factory.mktemp("split_files") / "shards")
    split(SplitFileOptions(str(folder), "mine", split="train=0.5,val=0.25,test=0.25"))
    split(SplitFileOptions(str(folder), "other", split="train=0.5,val=0.25,test=0.25", seed=1))
    split(SplitFileOptions(str(folder), "cv", folds=2))
    return folder


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(dataset, tmp_path_factory.mktemp("fit"), "--data.split_file=mine")


def options(checkpoint: Path, data: Path, **more: object) -> EvaluateOptions:
    return EvaluateOptions(checkpoint, data, **QUICK | more)  # type: ignore[arg-type]


def test_a_checkpoint_is_evaluated_with_the_split_file_of_its_training(
    dataset: Path, checkpoint: Path, tmp_path: Path
) -> None:
    recorded = read_checkpoint(checkpoint)["ShardedVideoDataModule"]["dataset"]["split_file"]
    assert recorded["name"] == "mine"
    evaluate(options(checkpoint, dataset, out=tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["num_videos"] == 16
    assert report["provenance"]["split_file"] == recorded
    assert report["provenance"]["overlap"] is None
    assert "split file mine" in (tmp_path / "out" / "report.html").read_text()


def test_intervals_are_of_the_groups_of_the_split_file(
    dataset: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (dataset / "splits" / "mine.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    fours = str(tmp_path / "fours.csv")
    with Path(fours).open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(line | {"group": f"four {number // 4}"} for number, line in enumerate(lines))
    evaluate(options(checkpoint, dataset, out=tmp_path / "own"))
    evaluate(options(checkpoint, dataset, out=tmp_path / "fours", split_file=fours))
    own, by_fours = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("own", "fours"))
    expected = {read_cell(line["key"]): f"four {number // 4}" for number, line in enumerate(lines)}
    scored = read_scored_videos(tmp_path / "fours")
    assert list(scored.groups) == [expected[key] for key in scored.keys]
    num_groups = len(set(scored.groups))
    assert (own["interval"]["of"], own["interval"]["groups"]) == ("groups of split file mine", 16)
    assert by_fours["interval"]["of"] == f"groups of split file {fours}"
    assert by_fours["interval"]["groups"] == num_groups < 16
    assert own["top1"] == by_fours["top1"]
    assert "groups of split file mine" in (tmp_path / "own" / "report.html").read_text()
    compare(tmp_path / "fours", tmp_path / "own")
    assert f"16 videos of {num_groups} groups of split file" in capsys.readouterr().out


def test_other_splits_that_test_training_videos_are_refused(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("packed", "other"):
        with pytest.raises(ValueError, match=r"trained on \d+ of its 16 videos, .*its training, --split-file mine, or"):
            evaluate(options(checkpoint, dataset, split_file=name, out=tmp_path / "out"))
    evaluate(options(checkpoint, dataset, split_file="other", out=tmp_path / "out", allow_overlap=True))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["provenance"]["split_file"]["name"] == "other"
    assert report["provenance"]["overlap"]["videos"] > 0


def test_a_split_file_that_changed_since_the_training_is_refused(
    dataset: Path, checkpoint: Path, tmp_path: Path
) -> None:
    changed = shutil.copytree(dataset, tmp_path / "shards")
    shutil.copy(changed / "splits" / "other.csv", changed / "splits" / "mine.csv")
    with pytest.raises(SplitFileError, match=r"trained with split_file=mine \(\w+\), which has other splits by now"):
        evaluate(options(checkpoint, changed, out=tmp_path / "out"))
    (changed / "splits" / "mine.csv").unlink()
    with pytest.raises(SplitFileError, match=r"split_file=mine: there is no .*; there are cv, other"):
        evaluate(options(checkpoint, changed, out=tmp_path / "out"))


def test_a_split_file_of_the_training_that_is_elsewhere_is_asked_for(tmp_path: Path, motion_dataset: Path) -> None:
    absent = {"name": str(tmp_path / "absent.csv"), "sha256": "0" * 64}
    family = open_manifest(motion_dataset).family
    with pytest.raises(SplitFileError, match=r"trained with split_file=.*, which is not on this machine: give --split"):
        trained_split_file({"family": family, "split_file": absent}, motion_dataset)
    assert trained_split_file({"family": "another", "split_file": absent}, motion_dataset) is None


def test_a_run_resumes_only_with_the_splits_of_its_checkpoint(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="split_file=packed: the checkpoint was trained on other splits, those of mine"
    ):
        fit(dataset, tmp_path, f"--ckpt_path={checkpoint}", "--trainer.max_epochs=2")


@pytest.mark.slow
def test_the_same_splits_at_another_path_are_the_same(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    path = shutil.copy(dataset / "splits" / "mine.csv", tmp_path / "here.csv")
    arguments = [f"--ckpt_path={checkpoint}", "--trainer.max_epochs=2", f"--data.split_file={path}"]
    assert fit(dataset, tmp_path / "again", *arguments).exists()


@pytest.mark.slow
def test_features_record_the_split_file_and_linear_takes_its_folds(
    dataset: Path, checkpoint: Path, tmp_path: Path
) -> None:
    features(FeatureOptions(checkpoint, dataset, out=tmp_path / "all.parquet", split="all", **QUICK))  # type: ignore[arg-type]
    recorded = read_provenance(tmp_path / "all.parquet")["split_file"]
    assert recorded["name"] == "mine"
    linear(
        LinearOptions(
            tmp_path / "linear",
            features=tmp_path / "all.parquet",
            data=dataset,
            fold="all",
            split_file="cv",
            allow_overlap=True,
        )
    )
    report = json.loads((tmp_path / "linear" / "fold-1" / "report.json").read_text())
    assert report["num_videos"] == 32
    assert report["provenance"]["test"]["split_file"]["name"] == "cv"


@pytest.mark.slow
def test_all_folds_of_a_split_file_are_evaluated(dataset: Path, tmp_path: Path) -> None:
    for fold in ("0", "1"):
        fit(dataset, tmp_path / fold, "--data.split_file=cv", f"--data.fold={fold}", "--data.val_split=null")
        shutil.copy(next((tmp_path / fold).rglob("step-*.ckpt")), tmp_path / f"fold{fold}.ckpt")
    evaluate(options(tmp_path / "fold{fold}.ckpt", dataset, fold="all", out=tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["num_videos"] == 64
    assert report["provenance"]["split_file"]["name"] == "cv"
