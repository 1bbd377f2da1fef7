"""Segments of a list as the labels of whole files."""

from pathlib import Path

import pytest

from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import TimelineLabel
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.timed_lists.timelines import complete_timeline, join_timelines, timeline_in_seconds
from datamodules.video.video_container import DecodeError
from tests.pipeline.gray_videos import make_video

HEADER = "path,start,end,label,split\n"


def join(folder: Path, *rows: str):
    for row in rows:
        (folder / row.split(",")[0]).write_bytes(b"")
    (folder / "list.csv").write_text(HEADER + "\n".join(rows) + "\n")
    return join_timelines(read_annotations("csv", folder / "list.csv"), folder)


def test_the_segments_of_a_file_become_its_timeline(tmp_path: Path):
    found = join(tmp_path, "a.mp4,1,2,wave,train", "b.mp4,0,4,walk,test", "a.mp4,3,,walk,train")
    assert [(record.key, record.split, record.is_segment) for record in found.records] == [
        ("a", "train", False),
        ("b", "test", False),
    ]
    assert found.records[0].timeline == (TimelineLabel("wave", 1.0, 2.0), TimelineLabel("walk", 3.0, None))
    assert found.records[0].class_names == ("wave", "walk")
    assert found.task == "single_label"


def test_overlapping_classes_make_several_labels_a_frame(tmp_path: Path):
    found = join(tmp_path, "a.mp4,1,3,wave,train", "a.mp4,2,4,walk,train", "b.mp4,0,4,walk,train")
    assert found.task == "multi_label"
    assert found.records[0].labels == ("wave", "walk")
    assert "'wave' from 1 and 'walk' from 2 overlap" in found.notes[-1]


def test_touching_parts_and_repeated_classes_are_no_overlap(tmp_path: Path):
    found = join(tmp_path, "a.mp4,1,3,wave,train", "a.mp4,3,4,walk,train", "a.mp4,2,2.5,wave,train")
    assert found.task == "single_label"


def test_a_list_that_cannot_be_a_timeline_is_refused(tmp_path: Path):
    with pytest.raises(AnnotationError, match=r"a\.mp4: its segments are in several splits"):
        join(tmp_path, "a.mp4,1,2,wave,train", "a.mp4,3,4,wave,test")
    with pytest.raises(AnnotationError, match=r"a\.mp4: the segment begins at 3\.0 s and ends at 2\.0 s.*correct"):
        join(tmp_path, "a.mp4,1,2,wave,train", "a.mp4,3,2,wave,train")


def test_the_rest_of_a_video_is_background():
    timeline = (("walk", 2.0, float("inf")), ("wave", 0.0, 1.0))
    expected = (("wave", 0.0, 1.0), ("none", 1.0, 2.0), ("walk", 2.0, 3.5))
    assert complete_timeline(timeline, 3.5, "none") == expected
    assert complete_timeline((), 3.5, "none") == (("none", 0.0, 3.5),)
    assert complete_timeline(timeline, 3.5, None) == (("wave", 0.0, 1.0), ("walk", 2.0, 3.5))


def test_parts_end_with_the_video_and_are_refused_beyond_it():
    assert complete_timeline((("wave", 1.0, 4.2),), 3.5, None) == (("wave", 1.0, 3.5),)
    for start, end in ((3.5, 4.0), (1.0, 4.6)):
        with pytest.raises(DecodeError, match=r"after the end: the video lasts 3\.50 s"):
            complete_timeline((("wave", start, end),), 3.5, None)


def test_frame_numbers_are_times_of_the_file(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(make_video(3, num_frames=20))  # 10 a second
    labels = [TimelineLabel("wave", start_frame=5, end_frame=12), TimelineLabel("walk", start_frame=12)]
    assert timeline_in_seconds(str(path), labels) == (("wave", 0.5, 1.2), ("walk", 1.2, float("inf")))
