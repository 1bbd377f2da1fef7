"""What in the lists looks like a mistake is said, and nothing else is."""

from pathlib import Path

import pytest

from datamodules.annotations.records import Annotations, VideoRecord
from pipeline.packing.class_order import read_class_list
from pipeline.packing.list_warnings import (
    closest_usual_split,
    divided_files,
    misspelled_splits,
    odd_labels,
    untrained_labels,
)
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions


@pytest.mark.parametrize(
    ("split", "meant"),
    [
        ("tset", "test"),
        ("trian", "train"),
        ("Train", "train"),
        ("tests", "test"),
        ("vall", "val"),
        ("validaton", "validation"),
        *((name, None) for name in ("train", "val", "test", "validation", "trainval", "test2", "all", "hard", "extra")),
    ],
)
def test_splits_that_look_misspelled(split: str, meant: str | None) -> None:
    assert closest_usual_split(split) == meant


def listed(*videos: tuple[str, str]) -> Annotations:
    return Annotations([VideoRecord("", str(i), label, split, "") for i, (label, split) in enumerate(videos)])


def test_files_whose_segments_are_in_several_splits() -> None:
    def segment(path: str, split: str, group: str) -> VideoRecord:
        return VideoRecord(path, f"{path}{split}{group}", "a", split, group, 0.0, 1.0, exact_times=True)

    together = [segment("x/a.mp4", "train", "p1"), segment("x/a.mp4", "train", "p2"), segment("x/b.mp4", "test", "p1")]
    assert divided_files(together) == []
    assert divided_files([segment("b.mp4", "train", "b"), segment("b.mp4", "test", "b")]) == []  # the guard finds these
    (sentence,) = divided_files([*together, segment("x/a.mp4", "test", "p3")])
    assert sentence == (
        "1 file has segments in several splits, under different groups: a.mp4; what one recording shows is alike, so "
        "give all its segments one group"
    )


def test_labels_that_are_never_trained() -> None:
    assert untrained_labels(listed(("a", "train"), ("a", "test"))) == []
    assert untrained_labels(listed(("a", "val"), ("b", "test"))) == []  # no training here: another dataset has it
    (sentence,) = untrained_labels(listed(("a", "train"), *((name, "test") for name in "bcdefgh"), ("a", "val")))
    assert sentence == (
        "7 labels have no training video, only videos of test: 'b', 'c', 'd', 'e', 'f', ...; no model can learn them, "
        "check the lists"
    )
    folded = [
        VideoRecord("", "0", "a", "", "", fold_splits=("train", "test")),
        VideoRecord("", "1", "a", "", "", fold_splits=("test", "train")),
        VideoRecord("", "2", "b", "", "", fold_splits=("train", "test")),
    ]
    (sentence,) = untrained_labels(Annotations(folded, ("1", "2")))
    assert sentence.startswith("1 label has no training video in fold 2, only videos of test: 'b'; ")
    assert misspelled_splits(folded) == []


def test_labels_that_only_a_program_tells_apart() -> None:
    def sentences(*labels: str) -> list[str]:
        return odd_labels(listed(*((label, "train") for label in labels)).records)

    assert sentences("walk", "run", "3", "2.5", "v1.0") == []
    (sentence,) = sentences("Run", "run", "caf\u00e9", "cafe\u0301", "a b", "a  b", "walk")
    told = "'Run', 'run', 'a  b', 'a b', 'cafe\u0301', ..."
    assert sentence == (
        f"labels differ in case, blanks or Unicode form alone, and each is a class: {told}; write them alike if they "
        "are meant to be one"
    )
    (sentence,) = sentences("3.0", "10.00", "4")
    assert "so these are names: '10.00', '3.0'; for numbers, leave" in sentence


def test_a_list_of_class_names_is_lines(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffa\r\nb\u2028c\r\n\r\n\x0bd\x0ce\n".encode())
    assert read_class_list(tmp_path / "names.txt") == ["a", "b\u2028c", "d\x0ce"]


def test_pack_says_it_once_in_a_sentence(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(PackOptions(tmp_path / "clean", [videos / "list.csv"]))
    assert "warning" not in capsys.readouterr().err
    text = (videos / "list.csv").read_text().replace(",test", ",tset").replace("walk/0.mp4,walk", "walk/0.mp4,wlak")
    (videos / "list.csv").write_text(text)
    pack(PackOptions(tmp_path / "out", [videos / "list.csv"]))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: split 'tset' of 4 videos looks like 'test' misspelled: training and evaluation look for train, val "
        "and test; correct the list if 'test' is meant",
        "warning: 1 label has no training video, only videos of tset: 'wlak'; no model can learn them, check the lists",
    ]
