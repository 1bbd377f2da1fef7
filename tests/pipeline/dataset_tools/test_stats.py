"""What a dataset consists of, held against numbers known beforehand."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.dataset_tools.stats import describe_imbalance, duration_histogram
from tests.pipeline.dataset_tools.test_index import video2dataset_sample, write_tar

SVG = "{http://www.w3.org/2000/svg}"


def printed_rows(text: str) -> dict[str, list[str]]:
    """First word of every line -> the other words, without the lines of tables."""
    lines = [line.replace("│", " ").split() for line in text.splitlines()]
    return {words[0]: words[1:] for words in lines if words}


def test_tables_of_a_balanced_dataset(motion_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--data", str(motion_dataset)]) == 0
    printed = capsys.readouterr().out
    rows = printed_rows(printed)
    assert "shards: 64 videos of 8 classes" in printed
    assert "compare" not in printed
    assert rows["train"] == ["8", "0", "5", "5", "5", "1.0"]
    assert rows["val"] == ["8", "0", "1", "1", "1", "1.0"]
    assert rows["total"] == ["8", "0", "8", "8", "8", "1.0"]
    amounts = printed_rows(printed.split("most/fewest")[0])
    assert [amounts[name][0] for name in ("train", "val", "test", "total")] == ["40", "8", "16", "64"]
    assert amounts["test"][3:] == ["1.0", "s"] * 3  # 24 frames at 25 a second
    assert rows["64x48"] == ["64", "█" * 30]


def test_imbalance_and_the_drawing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["run & jump"] * 6 + ["walk"] * 2
    samples = {f"{n:08d}": video2dataset_sample(n, label) for n, label in enumerate(labels)}
    write_tar(tmp_path / "a-train.tar", dict(list(samples.items())[:7]))
    write_tar(tmp_path / "a-val.tar", dict(list(samples.items())[7:]))
    words = ["--label-from", "json:video_metadata.label", "--processes", "1"]
    assert main(["index", "--shards", str(tmp_path), *words]) == 0
    capsys.readouterr()
    for name in ("plots/a.svg", "plots/a.html"):
        assert main(["stats", "--data", str(tmp_path), "--out", str(tmp_path / name)]) == 0
    rows = printed_rows(capsys.readouterr().out)
    assert rows["train"] == ["2", "0", "1", "3.5", "6", "6.0"]
    assert rows["val"] == ["1", "1", "1", "1", "1", "1.0"]
    assert rows["walk"] == ["2", "█" * 10]
    root = ElementTree.parse(tmp_path / "plots/a.svg").getroot()
    titles = {title.text for title in root.iter(f"{SVG}title")}
    assert {"run & jump: 6", "walk: 2", "1 to 1.05 s: 8"} <= titles
    heights = {
        rect.findtext(f"{SVG}title"): float(rect.attrib["height"]) for rect in root.iter(f"{SVG}rect") if len(rect)
    }
    assert heights["run & jump: 6"] == pytest.approx(3 * heights["walk: 2"], abs=0.2)
    assert "<svg" in (tmp_path / "plots/a.html").read_text()


def test_folds_are_shown_one_at_a_time(folded_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, title in [([], "fold 0 of 0, 1, 2"), (["--fold", "2"], "fold 2 of 0, 1, 2")]:
        assert main(["stats", "--data", str(folded_dataset), *words]) == 0
        printed = capsys.readouterr().out
        assert title in " ".join(printed.split())
        rows = printed_rows(printed.split("most/fewest")[0])
        assert (rows["train"][0], rows["test"][0], rows["total"][0]) == ("8", "4", "12")


def test_bins_are_round_and_hold_everything() -> None:
    edges, counts = duration_histogram(np.array([0.5, 9.9, 10.0, 10.0, 4.0]))
    assert edges.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert counts.tolist() == [1, 0, 1, 0, 1, 2]
    for number in range(200):
        seconds = np.random.default_rng(number).exponential(10.0 ** (number % 5 - 1), 1 + number) + 0.01
        edges, counts = duration_histogram(seconds)
        assert counts.sum() == len(seconds)
        assert 1 <= len(counts) <= 11
        assert edges[0] <= seconds.min()
        assert seconds.max() <= edges[-1]


def test_wrong_options_are_one_sentence(
    motion_dataset: Path, folded_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in [
        (["--data", str(motion_dataset), "--out", "a.png"], "out=a.png: must end in .svg or .html"),
        (["--data", str(motion_dataset), "--fold", "0"], "fold=0: shards has no folds"),
        (["--data", str(folded_dataset), "--fold", "7"], "fold=7: shards has the folds 0, 1, 2"),
        (["--data", str(tmp_path)], "no dataset.json in it"),
    ]:
        assert main(["stats", *words]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_imbalance_names_the_options_that_are_worth_a_comparison(
    unbalanced_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", "--data", str(unbalanced_dataset)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "train: the most frequent class has 11.0 times the videos of the rarest; compare the mean class accuracy of a "
        "plain training with that of class_balance=sqrt, class_balance=balanced and class_weights=balanced"
    ) in lines
    assert "train: 2 of 3 classes have fewer than 10 videos; more of these help most" in lines
    [line] = describe_imbalance(np.array([40, 0, 20]), "mean average precision")
    expected = "compare the mean average precision of a plain training with that of class_balance=sqrt"
    assert line == f"the most frequent class has 2.0 times the videos of the rarest; {expected}"
    for sizes in ([], [0], [3], [30, 16], [0, 5, 0]):
        assert describe_imbalance(np.array(sizes, dtype=np.int64), "top-1") == []
