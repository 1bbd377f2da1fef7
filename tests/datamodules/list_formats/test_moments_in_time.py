"""Moments in Time: rows without a header, folders of the two splits, classes in the official order."""

from pathlib import Path

import pytest

from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS
from datamodules.list_formats.moments_in_time import read_moments_in_time
from datamodules.list_formats.read_annotations import read_annotations
from tests.datamodules.annotations.test_readers import touch, write


@pytest.fixture
def moments(tmp_path: Path) -> Path:
    write(tmp_path / "moments_categories.txt", "clapping,0\ndancing,1\nblocking,2\n")
    write(tmp_path / "trainingSet.csv", FORMATS["moments_in_time"].example + "\n")
    write(tmp_path / "validationSet.csv", "dancing/yt-a_1.mp4,dancing,3,0\n")
    touch(tmp_path, "training/blocking/x.mp4")
    return tmp_path


def test_three_lines(moments: Path) -> None:
    annotations = read_annotations("auto", moments / "trainingSet.csv", moments)
    first, second, _ = annotations.records
    assert first.path == str(moments / "training" / "blocking" / "getty-karate-video-id635808620_4.mp4")
    assert (first.key, first.label, first.split) == ("blocking_getty-karate-video-id635808620_4", "blocking", "train")
    assert (first.group, second.group) == ("getty-karate-video-id635808620", "yt-5of6ffo6-Bw")
    assert annotations.classes == ("clapping", "dancing", "blocking")


def test_both_lists_and_another_layout(moments: Path) -> None:
    assert [record.split for record in read_annotations("auto", moments).records] == ["train"] * 3 + ["val"]
    (record,) = read_moments_in_time(moments / "validationSet.csv", moments).records
    assert record.path == str(moments / "dancing" / "yt-a_1.mp4")  # no folder `validation` is there


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4\n", r"trainingSet\.csv, line 1: 'a\.mp4': must be a file name, its class"),
        ("a.mp4,running,3,0\n", r"line 1: label='running': is not in moments_categories\.txt"),
        ("a.mp4,dancing,3,0\na.mp4,dancing,3,0\n", r"line 2: video 'a\.mp4' is already in"),
    ],
)
def test_a_wrong_list_is_refused(moments: Path, text: str, message: str) -> None:
    write(moments / "trainingSet.csv", text)
    with pytest.raises(AnnotationError, match=message):
        read_moments_in_time(moments / "trainingSet.csv", moments)
