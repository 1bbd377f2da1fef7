"""Charades: whole videos with several labels, or each action as a segment; the official list's quirks."""

from pathlib import Path

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.charades import read_charades
from tests.datamodules.annotations.test_readers import touch, write

HEADER = FORMATS["charades"].example.splitlines()[0]
# The official names of these codes. The third row of the training list, which has no action.
CLASSES = (
    "c000 Holding some clothes\nc075 Tidying up a blanket/s\nc092 Watching/looking outside of a window\n"
    "c098 Holding a broom\nc127 Tidying something on the floor\nc147 Someone is cooking something\n"
    "c153 Someone is sneezing\n"
)
THIRD = (
    "0IH69,6RE8,Bedroom,6,5,Yes,A person is seen leaving a cabinet. They then begin fixing a picture that's on a shelf."
    ',book;box;cabinet;shelf,"A person is standing in a bedroom. They walk over to a box on a shelf and touch it, '
    'rearrange it.;A person organizes something on the wall. They look at it and keep fixing it",,30.25\n'
)


def row(video: str, actions: str, length: str = "24.83") -> str:
    return f'{video},HR43,Kitchen,6,7,Yes,"A person, who cooks.",food;stove,Someone cooks.,{actions},{length}\n'


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    """The official files: three lines of the training list, one and an empty one of the test list."""
    write(tmp_path / "Charades_v1_classes.txt", CLASSES)
    write(tmp_path / "Charades_v1_train.csv", FORMATS["charades"].example + "\n" + THIRD)
    write(tmp_path / "Charades_v1_test.csv", f"{HEADER}\n" + row("BBBBB", "c147 0.00 31.00") + row("CCCCC", ""))
    touch(tmp_path, "Charades_v1_480/46GP8.mp4")
    return tmp_path


def test_whole_videos_have_all_their_labels(charades: Path) -> None:
    annotations = read_annotations("auto", charades / "Charades_v1_train.csv", charades)
    assert annotations.task == "multi_label"
    assert [(record.key, record.labels, record.split, record.label) for record in annotations.records] == [
        ("46GP8", ("Watching/looking outside of a window", "Someone is cooking something"), "train", ""),
        (
            "N11GT",
            (
                "Holding a broom",
                "Tidying up a blanket/s",
                "Tidying something on the floor",
                "Someone is sneezing",
            ),
            "train",
            "",
        ),
        ("0IH69", (), "train", ""),
    ]
    assert annotations.records[0].captions == ("A person cooks food on a stove before looking out of a window.",)
    assert (
        annotations.records[2].captions[1]
        == "A person organizes something on the wall. They look at it and keep fixing it"
    )
    assert annotations.records[0].path == str(charades / "Charades_v1_480" / "46GP8.mp4")
    assert annotations.classes == tuple(line[5:] for line in CLASSES.splitlines())


def test_a_class_that_comes_twice_counts_once_and_test_videos_without_an_action_are_left_out(charades: Path) -> None:
    write(charades / "Charades_v1_train.csv", f"{HEADER}\n" + row("46GP8", "c000 0.00 2.00;c000 4.00 6.00"))
    annotations = read_annotations("auto", charades)
    assert [(record.key, record.split) for record in annotations.records] == [("46GP8", "train"), ("BBBBB", "test")]
    assert annotations.records[0].labels == ("Holding some clothes",)
    assert annotations.notes == ("1 test video without an action left out, as in the official evaluation",)


def test_segments(charades: Path) -> None:
    annotations = read_annotations("auto", charades, options=ListOptions(trimmed=True))
    assert annotations.task == "single_label"
    assert [(r.key, r.label, r.split, r.group, r.time_start, r.time_end) for r in annotations.records] == [
        ("46GP8_11900ms_21200ms", "Watching/looking outside of a window", "train", "46GP8", 11.9, 21.2),
        ("46GP8_0ms_12600ms", "Someone is cooking something", "train", "46GP8", 0.0, 12.6),
        ("N11GT_8600ms_14200ms", "Holding a broom", "train", "N11GT", 8.6, 14.2),
        ("N11GT_0ms_11700ms", "Tidying up a blanket/s", "train", "N11GT", 0.0, 11.7),
        ("N11GT_0ms_15200ms", "Tidying something on the floor", "train", "N11GT", 0.0, 15.2),
        ("N11GT_6400ms_12100ms", "Someone is sneezing", "train", "N11GT", 6.4, 12.1),
        ("BBBBB_0ms_24830ms", "Someone is cooking something", "test", "BBBBB", 0.0, 24.83),  # cut to `length`
    ]
    assert all(record.exact_times for record in annotations.records)
    assert annotations.notes == ("2 videos without a label left out: 0IH69, CCCCC",)


def test_two_labels_of_one_part_and_a_repeated_one(charades: Path) -> None:
    actions = "c000 1.00 2.00;c147 1.00 2.00;c147 1.00 2.00;c092 3.00 2.00"
    write(charades / "Charades_v1_train.csv", f"{HEADER}\n" + row("46GP8", actions))
    annotations = read_charades(charades / "Charades_v1_train.csv", charades, trimmed=True)
    first, second = annotations.records
    assert first.key == "46GP8_1000ms_2000ms_Holding_some_clothes"
    assert second.key == "46GP8_1000ms_2000ms_Someone_is_cooking_something"
    assert [tuple(refusal)[:3] for refusal in annotations.refused] == [
        ("Charades_v1_480/46GP8.mp4", "46GP8_3000ms_2000ms", "no interval")
    ]
    assert annotations.notes == ("1 segment listed again with the same times and label left out",)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("c999 1.00 2.00", r"Charades_v1_train\.csv, line 2: actions=.*'c999 1\.00 2\.00' must be a class"),
        ("c000 1.00", r"line 2: actions='c000 1\.00': 'c000 1\.00' must be a class"),
        ("c000 1.00 x", r"line 2: .*its start and its end"),
    ],
)
def test_a_wrong_list_is_refused(charades: Path, actions: str, message: str) -> None:
    write(charades / "Charades_v1_train.csv", f"{HEADER}\n" + row("46GP8", actions))
    with pytest.raises(AnnotationError, match=message):
        read_charades(charades / "Charades_v1_train.csv", charades)


def test_the_file_of_classes_is_needed(charades: Path) -> None:
    (charades / "Charades_v1_classes.txt").unlink()
    with pytest.raises(AnnotationError, match=r"Charades_v1_classes\.txt, which names the classes, is not beside it"):
        read_charades(charades, charades)
