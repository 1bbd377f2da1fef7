"""Label Studio: ranges of frames from 1 at the configuration's rate, file names, newest annotations, both exports."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.label_studio import read_label_studio
from tests.datamodules.annotations.test_readers import touch, write


def region(start: int | None, end: int | None, *labels: str, field: str = "actions") -> dict[str, Any]:
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}
    return {"value": value, "from_name": field, "to_name": "video", "type": "timelinelabels"}


def task(number: int, video: str, *regions: dict[str, Any], **more: Any) -> dict[str, Any]:
    annotation = {"result": list(regions), "created_at": "2026-01-01T00:00:00Z", "was_cancelled": False} | more
    return {"id": number, "data": {"video": video, "note": "a"}, "annotations": [annotation], "predictions": []}


def save(path: Path, *tasks: Any) -> Path:
    return write(path, json.dumps(list(tasks)))


def test_the_documented_form(tmp_path: Path) -> None:
    touch(tmp_path, "mydata/drive_data/person_01.mp4")
    listed = write(tmp_path / "export.json", FORMATS["label_studio"].example)
    annotations = read_annotations("auto", listed, split="train", options=ListOptions(annotation_fps=25))
    (record,) = annotations.records
    assert (record.label, record.split, record.group, record.exact_times) == ("right", "train", "person_01", True)
    assert (record.time_start, record.time_end) == (381 / 25, 445 / 25)  # frames 382 to 445, both included
    assert record.path == str(tmp_path / "mydata" / "drive_data" / "person_01.mp4")
    assert annotations.notes == ()


def test_default_rate_open_ranges_and_several_labels_of_a_region(tmp_path: Path) -> None:
    listed = save(tmp_path / "e.json", task(1, "a.mp4", region(None, 24, "run"), region(25, None, "walk", "wave")))
    annotations = read_label_studio(listed, tmp_path, "train")
    assert [(record.label, record.time_start, record.time_end) for record in annotations.records] == [
        ("run", None, 1.0),
        ("walk", 1.0, None),
        ("wave", 1.0, None),
    ]
    assert annotations.notes == ("frames counted at 24 a second, Label Studio's default; else give --annotation-fps",)
    whole = read_label_studio(listed, tmp_path, "train", trimmed=False)
    assert (whole.task, whole.records[0].labels) == ("multi_label", ("run", "walk", "wave"))


def test_names_of_uploaded_files_and_urls(tmp_path: Path) -> None:
    touch(tmp_path, "plain.mp4", "0123abcd-kept.mp4", "deep/er/cloud.mp4")
    listed = save(
        tmp_path / "e.json",
        task(1, "/data/upload/3/3d3ad63e-plain.mp4", region(1, 2, "a")),
        task(2, "/data/upload/3/0123abcd-kept.mp4", region(1, 2, "a")),
        task(3, "s3://bucket/some/cloud.mp4", region(1, 2, "a")),
        task(4, "https://host/d%20r/absent.mp4?x=1", region(1, 2, "a")),
    )
    records = read_label_studio(listed, tmp_path, "train", annotation_fps=24).records
    names = ["plain.mp4", "0123abcd-kept.mp4", "deep/er/cloud.mp4", "absent.mp4"]
    assert [record.path for record in records] == [str(tmp_path / name) for name in names]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/a/clip.mp4", "x/b/clip.mp4")
    tasks = [task(n, f"/data/local-files/?d=store/{n}/clip.mp4", region(1, 24, n)) for n in ("a", "b")]  # type: ignore[arg-type]
    records = read_label_studio(save(tmp_path / "e.json", *tasks), tmp_path, "train", annotation_fps=24).records
    assert [record.key for record in records] == ["store_a_clip_0ms_1000ms", "store_b_clip_0ms_1000ms"]
    assert [record.path for record in records] == [str(tmp_path / "x" / n / "clip.mp4") for n in ("a", "b")]


def test_the_newest_annotation_counts_and_cancelled_ones_do_not(tmp_path: Path) -> None:
    one = task(1, "a.mp4", region(1, 24, "old"))
    one["annotations"] += [
        task(1, "a.mp4", region(1, 24, "new"), created_at="2026-02-01T00:00:00Z")["annotations"][0],
        task(1, "a.mp4", region(1, 24, "no"), created_at="2026-03-01T00:00:00Z", was_cancelled=True)["annotations"][0],
    ]
    annotations = read_label_studio(save(tmp_path / "e.json", one), tmp_path, "train", annotation_fps=24)
    assert [record.label for record in annotations.records] == ["new"]
    assert annotations.notes == ("1 older annotation of the same tasks left out",)


def test_exports_of_several_projects_may_number_tasks_alike(tmp_path: Path) -> None:
    first = save(tmp_path / "first.json", task(1, "a.mp4", region(1, 24, "run")))
    second = save(
        tmp_path / "second.json", task(1, "b.mp4", region(1, 24, "run")), task(2, "a.mp4", region(25, 48, "run"))
    )
    records = read_annotations("auto", [first, second], split="train").records
    assert [record.key for record in records] == ["a_0ms_1000ms", "a_1000ms_2000ms", "b_0ms_1000ms"]


def test_json_min_gives_the_same_records(tmp_path: Path) -> None:
    whole = save(tmp_path / "json.json", task(1, "a.mp4", region(3, 5, "run")), task(2, "b.mp4", region(1, 9, "run")))
    records = [
        {"video": name, "id": number, "actions": [region(start, end, "run")["value"]], "annotator": 1, "lead_time": 2.5}
        for number, name, start, end in ((1, "a.mp4", 3, 5), (2, "b.mp4", 1, 9))
    ]
    short = save(tmp_path / "min.json", *records)
    assert read_annotations("auto", short, split="val").records == read_label_studio(whole, tmp_path, "val").records


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task(1, "a.mp4", region(1, 2, "a"), region(1, 2, "b", field="other"))], r"several controls, actions, other"),
        ([{"id": 1, "annotations": []}], r"entry 1: data is missing: must be an object"),
        ([task(1, "a.txt") | {"data": {"clip": "a.txt"}}], r"entry 1: not one of its values is the path of a video"),
        ([task(1, "a.mp4", region("x", 2, "a"))], r"ranges 1: start='x': must be the number of a frame"),  # type: ignore[arg-type]
        ([task(1, "a.mp4")], r"e\.json: has no labelled segment"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, tasks: list[Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_label_studio(save(tmp_path / "e.json", *tasks), tmp_path, "train")


def test_split_and_field(tmp_path: Path) -> None:
    listed = save(tmp_path / "e.json", task(1, "a.mp4", region(1, 2, "a"), region(1, 2, "b", field="other")))
    with pytest.raises(AnnotationError, match=r"e\.json: the list has no splits; give the split of all its videos"):
        read_label_studio(listed, tmp_path)
    records = read_label_studio(listed, tmp_path, "train", label_field="other").records
    assert [record.label for record in records] == ["b"]
    with pytest.raises(AnnotationError, match=r"label_field='third': .*e\.json has actions, other"):
        read_label_studio(listed, tmp_path, "train", label_field="third")


def test_choices_are_labels_of_the_whole_video(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")

    def task(number: int, video: str, *names: str) -> dict[str, Any]:
        region = {"value": {"choices": list(names)}, "from_name": "action", "to_name": "video", "type": "choices"}
        return {"id": number, "data": {"video": video}, "annotations": [{"result": [region], "created_at": "1"}]}

    listed = write(tmp_path / "export.json", json.dumps([task(1, "a.mp4", "run"), task(2, "b.mp4", "run", "jump")]))
    whole = read_label_studio(listed, tmp_path, "train", trimmed=False)
    assert [(one.key, one.labels, one.is_segment) for one in whole.records] == [
        ("a", ("run",), False),
        ("b", ("run", "jump"), False),
    ]
    trimmed = read_annotations("auto", listed, split="train").records
    assert [(one.key, one.label) for one in trimmed] == [("a", "run"), ("b_run", "run"), ("b_jump", "jump")]
    # JSON-MIN: a text for one choice, an object for several.
    short = [
        {"id": 1, "video": "a.mp4", "action": "run"},
        {"id": 2, "video": "b.mp4", "action": {"choices": ["run", "jump"]}},
    ]
    listed = write(tmp_path / "short.json", json.dumps(short))
    again = read_label_studio(listed, tmp_path, "train", trimmed=False, label_field="action")
    assert [one.labels for one in again.records] == [("run",), ("run", "jump")]
