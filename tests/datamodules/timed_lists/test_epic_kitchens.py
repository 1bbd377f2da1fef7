"""EPIC-KITCHENS-100: true rows as verbs, nouns and actions, participants as groups, the list without classes."""

from pathlib import Path

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.epic_kitchens import read_epic_kitchens
from tests.datamodules.annotations.test_readers import touch, write

THIRD = "P01_01_2,P01,P01_01,00:00:05.349,00:00:06.98,00:00:09.49,418,569,close door,close,4,door,3,['door'],[3]"
QUOTED = (
    "P03_02_15,P03,P03_02,00:00:24.900,00:00:23.79,00:00:24.60,1427,1476,put rubbish in the bin,put-in,5,rubbish,54,"
    "\"['rubbish', 'bin']\",\"[54, 36]\""
)


def class_file(names: dict[int, str], count: int) -> str:
    rows = [f"{number},{names.get(number, f'other{number}')},\"['a', 'b']\",leave\n" for number in range(count)]
    return "id,key,instances,category\n" + "".join(rows)


@pytest.fixture
def epic(tmp_path: Path) -> Path:
    write(tmp_path / "EPIC_100_train.csv", f"{FORMATS['epic_kitchens'].example}\n{THIRD}\n")
    header = FORMATS["epic_kitchens"].example.splitlines()[0]
    write(tmp_path / "EPIC_100_validation.csv", f"{header}\n{QUOTED}\n")
    write(tmp_path / "EPIC_100_verb_classes.csv", class_file({3: "open", 4: "close", 5: "insert", 6: "turn-on"}, 97))
    write(tmp_path / "EPIC_100_noun_classes.csv", class_file({3: "door", 54: "rubbish", 114: "light"}, 300))
    touch(tmp_path, "P01/videos/P01_01.MP4")
    return tmp_path


def test_true_rows(epic: Path) -> None:
    annotations = read_annotations("auto", epic)
    assert [(r.key, r.label, r.split, r.group, r.time_start, r.time_end) for r in annotations.records] == [
        ("P01_01_0", "open door", "train", "P01", 0.14, 3.37),
        ("P01_01_1", "turn-on light", "train", "P01", 4.37, 6.17),
        ("P01_01_2", "close door", "train", "P01", 6.98, 9.49),
        ("P03_02_15", "insert rubbish", "val", "P03", 23.79, 24.6),
    ]
    assert annotations.classes == ("open door", "close door", "insert rubbish", "turn-on light")
    assert annotations.records[3].captions == ("put rubbish in the bin",)
    assert annotations.records[0].path == str(epic / "P01" / "videos" / "P01_01.MP4")
    assert annotations.records[3].path == str(epic / "P03" / "videos" / "P03_02.MP4")
    assert all(record.exact_times for record in annotations.records)


def test_verbs_and_nouns(epic: Path) -> None:
    verbs = read_annotations("auto", epic, options=ListOptions(label_field="verb"))
    nouns = read_annotations("auto", epic, options=ListOptions(label_field="noun"))
    assert [record.label for record in verbs.records] == ["open", "turn-on", "close", "insert"]
    assert [record.label for record in nouns.records] == ["door", "light", "door", "rubbish"]
    assert (len(verbs.classes), len(nouns.classes), nouns.classes[114]) == (97, 300, "light")
    with pytest.raises(AnnotationError, match="label_field='adverb': must be action, verb or noun"):
        read_annotations("epic_kitchens", epic, options=ListOptions(label_field="adverb"))


def test_whole_videos(epic: Path) -> None:
    annotations = read_epic_kitchens(epic / "EPIC_100_train.csv", epic, trimmed=False, label_field="noun")
    (record,) = annotations.records
    assert (annotations.task, record.key, record.labels) == ("multi_label", "P01_01", ("door", "light"))


def test_the_test_list_has_no_classes(epic: Path) -> None:
    rows = [",".join(line.split(",")[:8]) for line in (epic / "EPIC_100_train.csv").read_text().splitlines()]
    listed = write(epic / "EPIC_100_test_timestamps.csv", "\n".join(rows) + "\n")
    annotations = read_epic_kitchens(listed, epic)
    assert [(record.label, record.split) for record in annotations.records] == [("", "test")] * 3
    assert annotations.notes == ("3 segments of a list without classes packed without a label",)


def test_times_of_minutes_and_hours(epic: Path) -> None:
    header = FORMATS["epic_kitchens"].example.splitlines()[0]
    line = THIRD.replace("00:00:06.98", "00:01:06.98").replace("00:00:09.49", "01:02:09.5")
    (record,) = read_epic_kitchens(write(epic / "EPIC_100_train.csv", f"{header}\n{line}\n"), epic).records
    assert (record.time_start, record.time_end) == (66.98, 3729.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (THIRD.replace("00:00:06.98", "6.98"), r"line 2: start_timestamp='6\.98': must be a time such as"),
        (THIRD.replace(",close,4,", ",close,97,"), r"line 2: verb_class='97': must be the number of a class, 0 to 96"),
        (f"{THIRD}\n{THIRD}", r"line 3: segment 'P01_01_2' is already in"),
    ],
)
def test_a_wrong_list_is_refused(epic: Path, line: str, message: str) -> None:
    header = FORMATS["epic_kitchens"].example.splitlines()[0]
    listed = write(epic / "EPIC_100_train.csv", f"{header}\n{line}\n")
    with pytest.raises(AnnotationError, match=message):
        read_epic_kitchens(listed, epic)
