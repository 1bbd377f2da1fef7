"""Jester: lines of id and class, folders of images at 12 a second, the classes in the official order."""

from pathlib import Path

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.jester import read_jester
from datamodules.list_formats.read_annotations import read_annotations
from tests.datamodules.annotations.test_readers import touch, write

LABELS = "Sliding Two Fingers Right\nSliding Two Fingers Down\nDrumming Fingers\nNo gesture\nDoing other things\n"


@pytest.fixture
def jester(tmp_path: Path) -> Path:
    """The lists of the first release, three training videos, and the folder of the frames of one of them."""
    write(tmp_path / "jester-v1-labels.csv", LABELS)
    write(tmp_path / "jester-v1-train.csv", FORMATS["jester"].example + "\n")
    write(tmp_path / "jester-v1-validation.csv", "9;No gesture\n")
    write(tmp_path / "jester-v1-test.csv", "7\n8\n")
    touch(tmp_path, "20bn-jester-v1/34870/00001.jpg", "20bn-jester-v1/56557.webm")
    return tmp_path


def test_three_lines(jester: Path) -> None:
    annotations = read_annotations("auto", jester / "jester-v1-train.csv", jester)
    assert [(record.key, record.label, record.split) for record in annotations.records] == [
        ("34870", "Drumming Fingers", "train"),
        ("56557", "Sliding Two Fingers Right", "train"),
        ("129112", "Sliding Two Fingers Down", "train"),
    ]
    folder = jester / "20bn-jester-v1"
    assert [(record.path, record.frames_per_second) for record in annotations.records] == [
        (str(folder / "34870"), 12.0),
        (str(folder / "56557.webm"), None),
        (str(folder / "129112"), 12.0),
    ]
    assert annotations.classes == tuple(LABELS.splitlines())
    options = ListOptions(frames_per_second=24)
    faster = read_annotations("auto", jester / "jester-v1-train.csv", jester, options=options)
    assert [record.frames_per_second for record in faster.records] == [24.0, None, 24.0]


def test_a_folder_of_lists_and_a_test_list_without_classes(jester: Path) -> None:
    annotations = read_annotations("auto", jester)
    assert [record.split for record in annotations.records] == ["train", "train", "train", "val", "test", "test"]
    assert [record.label for record in annotations.records[4:]] == ["", ""]
    assert annotations.notes == ("2 videos of a list without classes packed without a label",)


def test_names_of_the_newer_release(jester: Path) -> None:
    folder = jester / "labels"
    for name in ("labels", "train", "test"):
        write(folder / f"{name}.csv", (jester / f"jester-v1-{name}.csv").read_text())
    write(folder / "test-answers.csv", "7;No gesture\n8;Drumming Fingers\n")
    annotations = read_jester(folder, jester)
    assert [record.label for record in annotations.records[3:]] == ["No gesture", "Drumming Fingers"]
    assert not annotations.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("34870;Waving\n", r"jester-v1-train\.csv, line 1: label='Waving': is not in the list of labels"),
        ("a;No gesture\n", r"line 1: video='a': must be the number of a video; its class follows"),
        ("1;No gesture\n2\n", r"line 2: label='': is empty, while other lines have a class"),
        ("1;No gesture\n1;No gesture\n", r"line 2: video '1' is already in"),
    ],
)
def test_a_wrong_list_is_refused(jester: Path, text: str, message: str) -> None:
    write(jester / "jester-v1-train.csv", text)
    with pytest.raises(AnnotationError, match=message):
        read_jester(jester / "jester-v1-train.csv", jester)


def test_a_list_of_another_name_needs_a_split(jester: Path) -> None:
    mine = write(jester / "mine.csv", "34870;Drumming Fingers\n")
    with pytest.raises(AnnotationError, match=r"mine\.csv: its name gives no split"):
        read_jester(mine, jester)
    assert [record.split for record in read_jester(mine, jester, "train").records] == ["train"]


# Three lines of each table of the copy on Kaggle.
TABLES = {
    "Train": """video_id,label,frames,label_id,shape,format
1,Doing other things,37,0,"(100, 176)",JPEG
3,Pushing Two Fingers Away,37,6,"(100, 176)",JPEG
6,Drumming Fingers,37,1,"(100, 176)",JPEG
""",
    "Test": """video_id,label,frames,label_id,shape,format
2,,37,,"(100, 176)",JPEG
21,,37,,"(100, 176)",JPEG
53,,37,,"(100, 176)",JPEG
""",
}


@pytest.mark.parametrize("lists", ["", "Train.csv"])
def test_the_tables_of_copies(tmp_path: Path, lists: str) -> None:
    for name, text in TABLES.items():
        write(tmp_path / f"{name}.csv", text)
    touch(tmp_path, "Train/1/00001.jpg", "Train/3.mp4", "Test/2/00001.jpg")
    annotations = read_annotations("auto", tmp_path / lists, tmp_path)
    assert [(record.key, record.label, record.split) for record in annotations.records[:3]] == [
        ("1", "Doing other things", "train"),
        ("3", "Pushing Two Fingers Away", "train"),
        ("6", "Drumming Fingers", "train"),
    ]
    places = ["Train/1", "Train/3.mp4", "Train/6", "Test/2", "Test/21", "Test/53"]
    found = [(record.path, record.frames_per_second) for record in annotations.records]
    expected = [(str(tmp_path / place), None if place.endswith("mp4") else 12.0) for place in places]
    assert found == (expected[:3] if lists else expected)
    assert [(record.label, record.split) for record in annotations.records[3:]] == ([] if lists else [("", "test")] * 3)
    # The folder of one list, as the folder of the videos.
    inside = read_annotations("auto", tmp_path / "Train.csv", tmp_path / "Train").records
    assert [record.path for record in inside] == [record.path for record in annotations.records[:3]]


def test_tables_with_another_name_of_the_id_and_a_missing_class(tmp_path: Path) -> None:
    named = write(tmp_path / "Test.csv", TABLES["Test"].replace("video_id", "id"))
    assert [record.key for record in read_annotations("auto", named, tmp_path).records] == ["2", "21", "53"]
    write(tmp_path / "Train.csv", TABLES["Train"].replace("6,Drumming Fingers", "6,"))
    with pytest.raises(AnnotationError, match=r"Train\.csv, line 4: label='': is empty, while other lines"):
        read_jester(tmp_path / "Train.csv", tmp_path)
