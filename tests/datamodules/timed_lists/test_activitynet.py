"""ActivityNet's json form: the quoted objects of ActivityNet, HACS Segments and THUMOS'14."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS, detect_format
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.activitynet import read_activitynet
from tests.datamodules.annotations.test_readers import touch, write


def save(path: Path, content: Any) -> Path:
    return write(path, json.dumps(content))


def example(name: str) -> Any:
    return json.loads(FORMATS[name].example)


def test_activitynet(tmp_path: Path) -> None:
    content = example("activitynet")
    content["database"]["aaaaaaaaaaa"] = {"duration": 9.0, "subset": "testing", "annotations": []}
    content["database"]["v_bbbbbbbbb"] = {
        "duration": 9.0,
        "subset": "validation",
        "annotations": [{"label": "Archery", "segment": [1.0, 10.5]}],
    }
    touch(tmp_path, "train/v_5n7NCViB5TU.mkv")
    listed = save(tmp_path / "activity_net.v1-3.min.json", content | {"taxonomy": [], "version": "VERSION 1.3"})
    annotations = read_annotations("auto", listed)
    assert [
        (r.key.split("-")[0], r.label, r.split, r.group, r.time_start, r.time_end) for r in annotations.records
    ] == [
        ("5n7NCViB5TU_24250ms_38080ms", "Discus throw", "train", "5n7NCViB5TU", 24.25018, 38.08036),
        ("5n7NCViB5TU_97001ms_106284ms", "Discus throw", "train", "5n7NCViB5TU", 97.00073, 106.284),
        ("v_bbbbbbbbb_1000ms_9000ms", "Archery", "val", "v_bbbbbbbbb", 1.0, 9.0),  # cut to the duration
    ]
    assert [Path(record.path).relative_to(tmp_path).as_posix() for record in annotations.records] == [
        "train/v_5n7NCViB5TU.mkv",
        "train/v_5n7NCViB5TU.mkv",
        "v_bbbbbbbbb.mp4",
    ]
    assert annotations.notes == ("1 video without annotations left out: aaaaaaaaaaa",)


def test_untrimmed_videos_have_all_their_labels(tmp_path: Path) -> None:
    listed = save(tmp_path / "l.json", example("activitynet"))
    annotations = read_annotations("auto", listed, options=ListOptions(trimmed=False))
    (record,) = annotations.records
    assert (annotations.task, record.labels, record.time_start) == ("multi_label", ("Discus throw",), None)


def test_hacs_has_durations_as_texts_and_folders_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "Dodgeball/v_--0edUL8zmA.mp4")
    listed = save(tmp_path / "HACS_segments_v1.1.1.json", example("hacs"))
    annotations = read_annotations("auto", listed)
    assert [(record.key, record.label, record.split) for record in annotations.records] == [
        ("--0edUL8zmA_5400ms_11600ms", "Dodgeball", "train"),
        ("--0edUL8zmA_12600ms_88160ms", "Dodgeball", "train"),
    ]
    assert {record.path for record in annotations.records} == {str(tmp_path / "Dodgeball" / "v_--0edUL8zmA.mp4")}


@pytest.mark.parametrize("level", [True, False])
def test_thumos14_trains_on_validation(tmp_path: Path, level: bool) -> None:
    content = example("thumos14")
    content["video_test_0000006"]["annotations"] += [{"segment": [1, 2], "label": "Ambiguous"}]
    listed = save(tmp_path / "thumos14.json", {"database": content} if level else content)
    assert detect_format(listed).name == "thumos14"
    annotations = read_annotations("auto", listed)
    assert [(record.key, record.label, record.split) for record in annotations.records] == [
        ("video_test_0000006_18800ms_57300ms", "VolleyballSpiking", "test"),
        ("video_validation_0000950_4900ms_9200ms", "ThrowDiscus", "train"),
    ]
    assert annotations.records[0].path == str(tmp_path / "video_test_0000006.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"database": {}}, r"l\.json: must be a JSON object of objects"),
        ({"a": {"annotations": [{"label": "x"}], "subset": "training"}}, r"'a', annotations 1: segment is missing"),
        ({"a": {"annotations": [{"label": "x", "segment": [1]}], "subset": "test"}}, r"segment=\[1\]: must be two"),
        ({"a": {"annotations": [{"label": "x", "segment": [1, 2]}]}}, r"'a': subset is missing: must be a text"),
        ({"a": {"annotations": [], "subset": "testing"}}, r"l\.json: has no labelled segment"),
        ({"a": {"annotations": [], "subset": "training", "duration": "long"}}, r"duration='long': must be a number"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_activitynet(save(tmp_path / "l.json", content), tmp_path)
