"""Something-Something V2: the quoted lines of the official files, the order of classes, lists without classes."""

import json
from pathlib import Path

import pytest

from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.list_formats.something_something import read_something_something_v2
from tests.datamodules.annotations.test_readers import touch, write

LABELS = {
    "[Something] falling like a feather or paper".replace("[", "").replace("]", ""): "2",
    "Holding something next to something": "0",
    "Spreading something onto something": "1",
    "Throwing something": "3",
}
THREE = [json.loads(line) for line in FORMATS["something_something_v2"].example.splitlines()]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A folder with labels.json, train.json of two videos, validation.json of one and test.json of two."""
    folder = tmp_path / "labels"
    write(folder / "labels.json", json.dumps(LABELS))
    write(folder / "train.json", json.dumps(THREE[:2]))
    write(folder / "validation.json", json.dumps(THREE[2:]))
    write(folder / "test.json", '[{"id":"1420"},{"id":"166429"}]')
    return folder


def test_three_lines(labels: Path, tmp_path: Path) -> None:
    touch(tmp_path / "v", "20bn-something-something-v2/78687.webm")
    annotations = read_annotations("auto", [labels / "train.json", labels / "validation.json"], tmp_path / "v")
    assert [(record.key, record.label, record.split, record.group) for record in annotations.records] == [
        ("78687", "Holding something next to something", "train", "78687"),
        ("42326", "Spreading something onto something", "train", "42326"),
        ("36585", "Something falling like a feather or paper", "val", "36585"),
    ]
    assert annotations.records[0].path == str(tmp_path / "v" / "20bn-something-something-v2" / "78687.webm")
    assert annotations.records[1].path == str(tmp_path / "v" / "42326.webm")
    assert annotations.records[0].captions == ("holding potato next to vicks vaporub bottle",)
    assert annotations.classes == (
        "Holding something next to something",
        "Spreading something onto something",
        "Something falling like a feather or paper",
        "Throwing something",
    )


def test_the_test_list_has_no_classes_until_its_answers_are_there(labels: Path) -> None:
    annotations = read_something_something_v2(labels, labels)
    tests = [record for record in annotations.records if record.split == "test"]
    assert [(record.key, record.label) for record in tests] == [("1420", ""), ("166429", "")]
    assert annotations.notes == ("2 videos of a list without classes packed without a label",)
    write(labels / "test-answers.csv", "1420;Throwing something\n166429;Spreading something onto something\n")
    annotations = read_something_something_v2(labels, labels)
    tests = [record for record in annotations.records if record.split == "test"]
    assert [record.label for record in tests] == ["Throwing something", "Spreading something onto something"]
    assert not annotations.notes


def test_names_of_the_older_release(labels: Path, tmp_path: Path) -> None:
    for name in ("labels.json", "train.json"):
        (labels / name).rename(labels / f"something-something-v2-{name}")
    (labels / "validation.json").unlink()
    (labels / "test.json").unlink()
    annotations = read_annotations("auto", labels, tmp_path)
    assert [record.split for record in annotations.records] == ["train", "train"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "train.json",
            '[{"id":"1","template":"Eating [something]"}]',
            r"train\.json, entry 1: template='Eating \[some",
        ),
        ("train.json", '[{"id":"1","template":"Throwing [something]"},{"id":"2"}]', r"entry 2: template is missing"),
        ("train.json", '[{"id":"36585","template":"Throwing [something]"}]', r"the video 36585 is listed twice"),
        ("train.json", '{"id":"1"}', r"train\.json: must be a JSON list of objects"),
        ("train.json", '[{"id":"1"', r"train\.json, line 1: is not valid JSON"),
        ("labels.json", '{"a":"0","b":"2"}', r"labels\.json: must number the classes from 0"),
        ("labels.json", None, r"train\.json: labels\.json, which numbers the classes, is not beside it"),
        ("test-answers.csv", "1420;Eating something\n", r"test-answers\.csv, line 1: .*a class of labels\.json"),
    ],
)
def test_a_wrong_list_is_refused(labels: Path, name: str, text: str | None, message: str) -> None:
    if text is None:
        (labels / name).unlink()
    else:
        write(labels / name, text)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_something_something_v2(labels, labels)
    assert "\n" not in str(caught.value)
