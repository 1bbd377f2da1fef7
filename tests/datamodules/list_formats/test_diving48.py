"""Diving48: the quoted lines of the official files, names of dives, groups by source video."""

import json
from pathlib import Path

import pytest

from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.diving48 import read_diving48
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from tests.datamodules.annotations.test_readers import touch, write

VOCABULARY = [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "15Twis", "FREE"]]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    clips = [json.loads(line) for line in FORMATS["diving48"].example.splitlines()]
    write(tmp_path / "Diving48_vocab.json", json.dumps(VOCABULARY))
    write(tmp_path / "Diving48_V2_train.json", json.dumps(clips))
    write(tmp_path / "Diving48_V2_test.json", '[{"vid_name":"x_y_00001","label":1,"start_frame":0,"end_frame":9}]')
    write(tmp_path / "Diving48_train.json", "[]")
    return tmp_path


def test_three_lines(lists: Path) -> None:
    touch(lists, "rgb/-mmq0PT-u8k_00155.mp4")
    annotations = read_annotations("auto", lists / "Diving48_V2_train.json", lists)
    assert [(record.key, record.label, record.split, record.group) for record in annotations.records] == [
        (f"-mmq0PT-u8k_0015{n}", "Back_15som_05Twis_FREE", "train", "-mmq0PT-u8k") for n in (5, 6, 7)
    ]
    assert annotations.records[0].path == str(lists / "rgb" / "-mmq0PT-u8k_00155.mp4")
    assert (annotations.records[0].start_frame, annotations.records[0].exact_times) == (None, False)
    assert annotations.classes == ("Back_15som_05Twis_FREE", "Back_15som_15Twis_FREE")


def test_the_second_version_in_a_folder_of_both(lists: Path) -> None:
    annotations = read_annotations("auto", lists)
    assert [record.split for record in annotations.records] == ["train", "train", "train", "test"]
    assert (annotations.records[3].label, annotations.records[3].group) == ("Back_15som_15Twis_FREE", "x_y")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Diving48_V2_train.json", '[{"vid_name":"a","label":2}]', r"entry 1: label=2: is not in the vocabulary"),
        ("Diving48_V2_train.json", '[{"vid_name":"a","label":"1"}]', r"entry 1: label='1': must be a whole number"),
        ("Diving48_V2_train.json", '[{"label":1}]', r"entry 1: vid_name is missing"),
        ("Diving48_vocab.json", "[[]]", r"vocab\.json: must be a JSON list with a list of texts"),
        ("Diving48_vocab.json", '[["a"],["a"]]', r"vocab\.json: class 'a' is listed twice"),
    ],
)
def test_a_wrong_list_is_refused(lists: Path, name: str, text: str, message: str) -> None:
    write(lists / name, text)
    with pytest.raises(AnnotationError, match=message):
        read_diving48(lists / "Diving48_V2_train.json", lists)
