"""VIA 3: segments of the sample project, options and texts as classes, what is no segment."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.via3 import read_via3
from tests.datamodules.annotations.test_readers import touch, write

ACTIVITY = {
    "aname": "Activity",
    "anchor_id": "FILE1_Z2_XY0",
    "type": 4,
    "options": {"1": "Break Egg", "2": "Pour Liquid", "3": "Cut Garlic", "4": "Mix"},
    "default_option_id": "",
}
OBJECT = {"aname": "Object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}, "default_option_id": ""}


def project(**more: Any) -> dict[str, Any]:
    """The sample project of VIA's documentation, with its three segments and its region in a frame."""
    metadata = json.loads(f"{{{FORMATS['via3'].example}}}")
    metadata["fH-oMre1"] = {"vid": "1", "flg": 0, "z": [0.917], "xy": [4, 263, 184, 17, 13], "av": {"2": "Egg"}}
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "sample", "vid_list": ["1"]},
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}},
        "attribute": {"1": ACTIVITY, "2": OBJECT},
        "file": {"1": {"fid": "1", "fname": "Alioli.ogv", "type": 4, "loc": 2, "src": "https://host/x/Alioli.ogv"}},
        "metadata": metadata,
        "view": {"1": {"fid_list": [1]}},
    } | more


def save(path: Path, content: Any) -> Path:
    return write(path, json.dumps(content))


def segment(z: list[float], **av: str) -> dict[str, Any]:
    return {"vid": "1", "flg": 0, "z": z, "xy": [], "av": {key[1:]: value for key, value in av.items()}}


def test_the_sample_project(tmp_path: Path) -> None:
    touch(tmp_path, "videos/Alioli.ogv")
    annotations = read_annotations("auto", save(tmp_path / "p.json", project()), split="train")
    assert [(r.key, r.label, r.group, r.time_start, r.time_end) for r in annotations.records] == [
        ("Alioli_2000ms_6500ms", "Break Egg", "Alioli", 2.0, 6.5),
        ("Alioli_9000ms_20000ms", "Pour Liquid", "Alioli", 9.0, 20.0),
        ("Alioli_24000ms_26000ms", "Pour Liquid", "Alioli", 24.0, 26.0),
    ]
    assert annotations.records[0].path == str(tmp_path / "videos" / "Alioli.ogv")
    assert annotations.notes == ("1 annotation of single frames, regions or other files left out",)
    whole = read_via3(tmp_path / "p.json", tmp_path, "train", trimmed=False)
    assert [record.labels for record in whole.records] == [("Break Egg", "Pour Liquid")]


def test_attributes_texts_checkboxes_and_whole_videos(tmp_path: Path) -> None:
    attributes = {
        "1": ACTIVITY,
        "2": OBJECT,
        "3": ACTIVITY | {"aname": "Hands", "type": 2, "options": {"0": "l", "1": "r"}},
    }
    metadata = {
        "a": segment([1.0, 2.0], _1="4", _2="Egg"),
        "b": segment([3.0, 4.0], _3="0,1", _2="_DEFAULT"),
        "c": segment([], _2="kitchen"),
        "d": segment([-1, -1], _1="2"),
    }
    listed = save(tmp_path / "p.json", project(attribute=attributes, metadata=metadata))
    with pytest.raises(AnnotationError, match="segments have several attributes, Activity, Object, Hands; choose one"):
        read_via3(listed, tmp_path, "train")

    def labels(field: str) -> list[tuple[str, float | None, bool]]:
        annotations = read_annotations("via3", listed, split="train", options=ListOptions(label_field=field))
        assert not annotations.refused
        return [(record.label, record.time_start, record.exact_times) for record in annotations.records]

    assert labels("Activity") == [("Mix", 1.0, True)]
    assert labels("Hands") == [("l", 3.0, True), ("r", 3.0, True)]
    assert labels("Object") == [("Egg", 1.0, True), ("kitchen", None, False)]
    with pytest.raises(AnnotationError, match=r"label_field='Feet': segments of .* have Activity, Object, Hands"):
        labels("Feet")


def test_several_projects(tmp_path: Path) -> None:
    first = save(tmp_path / "a.json", project())
    second = save(tmp_path / "b.json", project(metadata={"e": segment([1.0, 2.0], _1="4")}))
    files = {"1": {"fid": "1", "fname": "other.mp4", "type": 4, "loc": 1, "src": ""}}
    third = save(tmp_path / "c.json", project(file=files, metadata={"e": segment([1.0, 2.0], _1="4")}))
    annotations = read_annotations("auto", [first, second, third], split="train")
    assert [record.key for record in annotations.records][3:] == ["Alioli_1000ms_2000ms", "other_1000ms_2000ms"]
    renamed = ACTIVITY | {"aname": "Action"}
    fourth = save(tmp_path / "d.json", project(attribute={"1": renamed}, metadata={"e": segment([1.0, 2.0], _1="4")}))
    with pytest.raises(AnnotationError, match="attributes of several names, Action, Activity; choose one"):
        read_via3([first, fourth], tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"p\.json: it must be a JSON object of a VIA 3 project"),
        (project(file=[]), r"p\.json: file must be a JSON object"),
        (project(file={n: {"fname": "a.mp4", "type": 4, "loc": 1} for n in "12"}), r"two files are called 'a\.mp4'"),
        (project(metadata={}), r"p\.json: no segment has a value of an attribute"),
        (project(metadata={"a": segment([1.0, 2.0, 3.0], _1="1")}), r"metadata a: z=\[1\.0, 2\.0, 3\.0\]: must be two"),
    ],
)
def test_a_wrong_project_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_via3(save(tmp_path / "p.json", content), tmp_path, "train")
    with pytest.raises(AnnotationError, match="the list has no splits"):
        read_via3(tmp_path / "p.json", tmp_path)
