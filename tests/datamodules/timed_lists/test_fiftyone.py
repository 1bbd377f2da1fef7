"""FiftyOne's temporal detections: supports from 1 with both ends, timestamps, classes by position."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.fiftyone import read_fiftyone
from tests.datamodules.annotations.test_readers import touch, write


def test_the_documented_form(tmp_path: Path) -> None:
    touch(tmp_path, "data/video1.mp4", "data/video2.avi")
    annotations = read_annotations("auto", write(tmp_path / "labels.json", FORMATS["fiftyone"].example), split="train")
    assert [(r.key, r.label, r.start_frame, r.end_frame, r.time_start, r.time_end) for r in annotations.records] == [
        ("video1_f0_f40", "wave", 0, 40, None, None),
        ("video1_f30_f90", "run", 30, 90, None, None),
        ("video2_500ms_2250ms", "run", None, None, 0.5, 2.25),
    ]
    assert [Path(record.path).name for record in annotations.records] == ["video1.mp4", "video1.mp4", "video2.avi"]
    assert (annotations.classes, annotations.notes) == (
        ("wave", "run"),
        ("1 video without a label left out: video3",),
    )
    with pytest.raises(AnnotationError, match="format fiftyone takes one file"):
        read_annotations("fiftyone", [tmp_path / "labels.json"] * 2, split="train")
    whole = read_fiftyone(tmp_path, tmp_path, "train", trimmed=False)
    assert [record.labels for record in whole.records] == [("wave", "run"), ("run",), ()]


def test_names_as_labels_clock_times_folders_and_a_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "data/a/one.mp4", "data/b/one.mp4", "elsewhere/two.mp4")
    labels = {
        "b/one": [{"label": "wave", "timestamps": ["00:00:01.500", "00:01:02.000"]}],
        "two": [{"label": "wave", "support": [5, 5]}],
    }
    listed = write(tmp_path / "labels.json", json.dumps({"classes": None, "labels": labels}))
    write(tmp_path / "data.json", json.dumps({"two": str(tmp_path / "elsewhere" / "two.mp4")}))
    first, second = read_annotations("auto", listed, split="val").records
    write(tmp_path / "data.json", json.dumps({"two.mp4": str(tmp_path / "elsewhere" / "two.mp4")}))
    assert read_annotations("auto", listed, split="val").records == [first, second]
    assert (first.path, first.time_start, first.time_end) == (str(tmp_path / "data" / "b" / "one.mp4"), 1.5, 62.0)
    assert (second.path, second.start_frame, second.end_frame) == (str(tmp_path / "elsewhere" / "two.mp4"), 4, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": {}}, r"labels\.json: must be an object with labels of each video"),
        ({"classes": ["a"], "labels": {"v": [{"label": 1, "support": [1, 2]}]}}, r"v 1: label=1: must be the position"),
        ({"labels": {"v": [{"label": "a"}]}}, r"v 1: timestamps is missing: must be two numbers"),
        (
            {"labels": {"v": [{"label": "a", "timestamps": ["1", "2"]}]}},
            r"v 1: timestamps=\['1', '2'\]: must be two numbers",
        ),
        ({"labels": {"v": "a"}}, r"v='a': must be a list of objects"),
        ({"labels": {"v": None}}, r"labels\.json: has no labelled segment"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_fiftyone(write(tmp_path / "labels.json", json.dumps(content)), tmp_path, "train")
    with pytest.raises(AnnotationError, match="the list has no splits"):
        read_fiftyone(tmp_path / "labels.json", tmp_path)
