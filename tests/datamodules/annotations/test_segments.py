"""Segments in plain lists: bounds, keys and groups, and the errors of bounds that are wrong."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.records import VideoRecord
from datamodules.annotations.refusals import NO_INTERVAL
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.video.video_container import OUT_OF_RANGE


def read(tmp_path: Path, *lines: str, header: str = "path,start,end,label,split"):
    (tmp_path / "list.csv").write_text("\n".join([header, *lines]) + "\n")
    return read_annotations("auto", tmp_path / "list.csv")


def test_a_file_may_have_any_number_of_segments(tmp_path: Path) -> None:
    segments = ("1.5,2.25,nod", "2,4.5,shake", ",1,nod", "9,,nod", ",,nod")
    records = read(tmp_path, *(f"talk.mp4,{segment},train" for segment in segments)).records
    assert records[0] == VideoRecord(
        str(tmp_path / "talk.mp4"), "talk_1500ms_2250ms", "nod", "train", "talk", 1.5, 2.25, exact_times=True
    )
    assert [record.key for record in records[1:]] == [
        "talk_2000ms_4500ms",
        "talk_0ms_1000ms",
        "talk_9000ms_end",
        "talk",
    ]
    assert {record.group for record in records} == {"talk"}
    assert [(record.time_start, record.time_end) for record in records[2:]] == [(None, 1.0), (9.0, None), (None, None)]
    assert [record.is_segment for record in records] == [True] * 4 + [False]


def test_frames_other_names_and_clock_times(tmp_path: Path) -> None:
    header = "video;start_frame;end_frame;group;class;split"
    (record,) = read(tmp_path, "a.mp4;10;20;scene;nod;train", header=header).records
    assert (record.start_frame, record.end_frame, record.group, record.key) == (10, 20, "scene", "a_f10_f20")
    (record,) = read(
        tmp_path, "a.mp4,1:02.5,1:00:00,nod,train", header="filename,time_start,time_end,label,split"
    ).records
    assert (record.time_start, record.time_end) == (62.5, 3600.0)


def test_keys_depend_on_file_and_times_alone(tmp_path: Path) -> None:
    one = read(tmp_path, "a.mp4,1.0001,2,nod,train", "a.mp4,1.0002,2,nod,train").records
    assert len({record.key for record in one}) == 2
    (again,) = read(tmp_path, "a.mp4,1.00020,2.0,nod,val").records
    assert again.key == one[1].key
    clash = read(tmp_path, "a.mp4,1,2,nod,train", "a_1000ms_2000ms.mp4,,,nod,train").records
    assert len({record.key for record in clash}) == 2


def test_a_table_of_numbers(tmp_path: Path) -> None:
    columns = {"path": ["a.mp4", "a.mp4"], "start": [0.5, None], "end": [1.0, 3.0], "label": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    records = read_csv(tmp_path / "list.parquet", split="train").records
    assert [(record.time_start, record.time_end) for record in records] == [(0.5, 1.0), (None, 3.0)]


def test_segments_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    listed = read(tmp_path, "a.mp4,1,2,x,train", "a.mp4,2,1,x,train", "a.mp4,3,3,x,train", "b/c.mp4,-1,2,x,train")
    assert [record.key for record in listed.records] == ["a_1000ms_2000ms"]
    assert [(refusal.path, refusal.reason) for refusal in listed.refused] == [
        ("a.mp4", NO_INTERVAL),
        ("a.mp4", NO_INTERVAL),
        ("b/c.mp4", OUT_OF_RANGE),
    ]
    assert listed.refused[0].detail == "the segment begins at 2.0 s and ends at 1.0 s, not after its beginning"
    frames = read(tmp_path, "a.mp4,,5,x,train", "a.mp4,5,5,x,train", header="path,start_frame,end_frame,label,split")
    assert frames.refused[0].detail == "the segment begins at frame 5 and ends at frame 5, not after its beginning"


@pytest.mark.parametrize(
    ("lines", "header", "words"),
    [
        (["a.mp4,soon,2,x,train"], None, r"line 2: start='soon': must be a number of seconds, as 83.5 or 1:23.5"),
        (["a.mp4,nan,2,x,train"], None, "start='nan'"),
        (["a.mp4,1.5,2,x,train"], "path,start_frame,end_frame,label,split", "must be a whole frame number"),
        (["a.mp4,1,2,x,train"] * 2, None, r"line 3: path '.*a.mp4_1000ms_2000ms' is already in .* line 2"),
        (["a.mp4,1,2,5,x,train"], "path,start,end,start_frame,label,split", "keep one of the two pairs"),
        (["a.mp4,2,1,x,train"], None, "holds no video: a.mp4: the segment begins at 2.0 s and ends at 1.0 s"),
    ],
)
def test_errors_give_line_value_and_fix(tmp_path: Path, lines: list[str], header: str | None, words: str) -> None:
    with pytest.raises(AnnotationError, match=words):
        read(tmp_path, *lines, header=header or "path,start,end,label,split")
