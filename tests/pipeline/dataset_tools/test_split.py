"""The verb `split`: a packed dataset divided under a name, chosen by plan, stats and show; also at a URL."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.plain_text import read_cell
from pipeline.__main__ import main
from pipeline.dataset_tools.plan import PlanOptions, plan
from pipeline.dataset_tools.split import SplitFileOptions, split
from pipeline.dataset_tools.stats import stats
from tests.datamodules.storage.flaky_server import serving


@pytest.fixture
def dataset(motion_dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(motion_dataset, tmp_path / "shards", ignore=shutil.ignore_patterns(".*"))


def test_a_division_under_a_name_is_chosen_by_it(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in dataset.iterdir()}
    split(SplitFileOptions(str(dataset), "mine", split="train=0.5,val=0.25,test=0.25"))
    assert {path: path.read_bytes() for path in before} == before
    index = DatasetIndex.open(dataset, split_file="mine")
    assert {name: of.classes for name, of in index.manifest.splits.items()} == {
        name: dict.fromkeys(index.classes, count) for name, count in (("train", 4), ("val", 2), ("test", 2))
    }
    about = json.loads((dataset / "splits" / "mine.json").read_text())
    assert (about["made_by"], about["shares"]["val"], about["seed"]) == ("split", 0.25, 0)
    assert about["sha256"] == index.split_file.sha256  # type: ignore[union-attr]
    capsys.readouterr()
    plan(PlanOptions(str(dataset), split_file="mine"))
    assert "motion" not in capsys.readouterr().err
    stats(dataset, split_file="mine")
    printed = capsys.readouterr().out
    assert next(line.split()[1:4:2] for line in printed.splitlines() if line.startswith("│ train")) == ["train", "32"]


def test_folds_are_divided_by_class(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["split", str(dataset), "--name", "cv", "--folds", "4", "--seed", "3"])
    index = DatasetIndex.open(dataset, split_file="cv")
    assert [index.manifest.fold_counts[fold]["test"].classes for fold in index.folds] == [
        dict.fromkeys(index.classes, 2)
    ] * 4
    assert Counter(row for fold in index.folds for row in index.rows("test", fold).tolist()) == Counter(range(64))
    stats(dataset, fold="2", split_file="cv")
    assert "fold 2 of 0, 1, 2, 3" in capsys.readouterr().out


def test_the_same_division_again_is_kept_and_another_refused(dataset: Path) -> None:
    options = SplitFileOptions(str(dataset), "mine", split="train=0.5,test=0.5")
    split(options)
    written = (dataset / "splits" / "mine.csv").stat()
    split(options)
    assert (dataset / "splits" / "mine.csv").stat().st_mtime_ns == written.st_mtime_ns
    with pytest.raises(ValueError, match=r"mine.csv: is there, with other splits; choose another name, or give --over"):
        split(SplitFileOptions(str(dataset), "mine", split="train=0.5,test=0.5", seed=1))
    split(SplitFileOptions(str(dataset), "mine", split="train=0.5,test=0.5", seed=1, overwrite=True))


def test_groups_are_found_in_the_paths_of_the_sources(dataset: Path) -> None:
    index = DatasetIndex.open(dataset)
    first = {index.entry(row).key: Path(index.entry(row).source).name[0] for row in range(len(index))}
    split(SplitFileOptions(str(dataset), "letters", split="train=0.6,test=0.4", group_by=r"/([^/])[^/]*$"))
    lines = list(csv.DictReader((dataset / "splits" / "letters.csv").open()))
    assert {read_cell(line["key"]): read_cell(line["group"]) for line in lines} == first
    assert len({(line["group"], line["split"]) for line in lines}) == len(set(first.values()))


def test_a_dataset_at_a_url_is_divided_into_a_file_here(
    motion_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(motion_dataset) as server:
        with pytest.raises(ValueError, match="is at a URL, where nothing is written: give --out and a path here"):
            SplitFileOptions(server.url, "mine", folds=2)
        split(SplitFileOptions(server.url, out=tmp_path / "mine.csv", folds=2))
        index = DatasetIndex.open(server.url, split_file=str(tmp_path / "mine.csv"))
        assert len(index.rows("test", "0")) == 32
        capsys.readouterr()
        assert main(["stats", server.url, "--split-file", str(tmp_path / "mine.csv"), "--fold", "1"]) == 0
        there = capsys.readouterr().out
        assert main(["stats", server.url]) == 0
        assert "32" in next(line for line in there.splitlines() if line.startswith("│ test"))
        packed_there = capsys.readouterr().out
    assert main(["stats", str(motion_dataset)]) == 0
    assert capsys.readouterr().out == packed_there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mine"}, "split=None: give the shares, such as"),
        ({"name": "mine", "split": "train"}, "split=train: give the shares, such as"),
        ({"folds": 2}, "give --name, or --out"),
        ({"name": "packed", "folds": 2}, "name='packed': must consist of letters"),
        ({"name": "a/b", "folds": 2}, "name='a/b': must consist of letters"),
    ],
)
def test_what_cannot_be_divided_is_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitFileOptions("shards", **options)  # type: ignore[arg-type]
