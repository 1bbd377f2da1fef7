"""`evaluate --timeline` on made long videos: files, figures, resume, and what it refuses."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from pipeline.__main__ import main
from pipeline.localization.labelled_videos import read_labelled_videos
from pipeline.localization.timeline_options import TimelineOptions
from pipeline.localization.timeline_scores import TIMELINES_NAME


@pytest.fixture(scope="module")
def long_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two long videos of eight frames a second, and their list long.csv; `synthesize --long` makes them."""
    root = tmp_path_factory.mktemp("made") / "videos"
    size = {"width": 64, "height": 48, "fps": 8.0, "num_frames": 2}
    make_synthetic_dataset(root, SyntheticDatasetOptions(train=1, val=0, test=0, long=2, **size))
    return root


@pytest.fixture
def evaluate(motion_checkpoint: Path, long_videos: Path, tmp_path: Path):
    def run(*words: object, annotations: Path = long_videos / "long.csv", out: str = "out") -> int:
        told = ["--checkpoint", motion_checkpoint, "--timeline", "--annotations", annotations, "--out", tmp_path / out]
        return main(["evaluate", *map(str, [*told, *words])])

    return run


def test_files_and_figures(evaluate, long_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate() == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    rows = list(csv.DictReader((long_videos / "long.csv").open()))
    assert (report["num_videos"], report["num_segments"]) == (2, len(rows)) == (2, 12)
    table = pq.read_table(tmp_path / "out" / TIMELINES_NAME)
    assert len(table) == pytest.approx(report["duration_s"], abs=2)  # a row a second
    assert set(report["by_tiou"]) == {"0.3", "0.4", "0.5", "0.6", "0.7"}
    found = json.loads((tmp_path / "out/detections.json").read_text())["results"]
    assert sum(map(len, found.values())) == report["num_detections"]
    assert set(found) == {"long_000", "long_001"}
    page = (tmp_path / "out/report.html").read_text()
    assert page.count('<div class="lane">') == 4
    assert rows[0]["label"] in page
    assert "mAP by tIoU  0.3: " in capsys.readouterr().out
    assert not list(tmp_path.glob("out/*.parts"))


def test_the_list_gives_each_video_its_segments(long_videos: Path) -> None:
    names = sorted({row["label"] for row in csv.DictReader((long_videos / "long.csv").open())})
    options = TimelineOptions(timeline=True, annotations=[long_videos / "long.csv"])
    videos = read_labelled_videos(options, "test", names)
    assert [len(video.segments) for video in videos] == [6, 6]
    for video in videos:
        starts = [start for _, start, _ in video.segments]
        assert starts == sorted(starts)
        assert all(end - start >= 3 for _, start, end in video.segments)


def test_a_stopped_evaluation_goes_on(evaluate, long_videos: Path, tmp_path: Path) -> None:
    """The second video is damaged at first: the first one's scores are kept, and not computed again."""
    rows = (long_videos / "long.csv").read_text()
    (tmp_path / "long").mkdir()
    (tmp_path / "long.csv").write_text(rows)
    for name in ("long_000.mp4", "long_001.mp4"):
        (tmp_path / "long" / name).write_bytes((long_videos / "long" / name).read_bytes())
    (tmp_path / "long/long_001.mp4").write_bytes(b"no video")
    assert evaluate(annotations=tmp_path / "long.csv") != 0
    parts = list((tmp_path / f"out/{TIMELINES_NAME}.parts").glob("part-*.arrow"))
    assert len(parts) == 1
    (tmp_path / "long/long_001.mp4").write_bytes((long_videos / "long/long_001.mp4").read_bytes())
    (tmp_path / "long/long_000.mp4").write_bytes(b"not read again")
    assert evaluate(annotations=tmp_path / "long.csv") == 0
    assert evaluate(out="whole") == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("out", "whole")]
    assert reports[0]["by_tiou"] == reports[1]["by_tiou"]
    assert reports[0]["frames"] == reports[1]["frames"]


def test_detections_by_option(evaluate, tmp_path: Path) -> None:
    assert evaluate("--thresholds", "[0.05, 0.12, 0.2]", "--smooth-s", "3", "--tiou", "[0.5]", out="more") == 0
    report = json.loads((tmp_path / "more/report.json").read_text())
    assert report["detections"]["thresholds"] == [0.05, 0.12, 0.2]
    assert list(report["by_tiou"]) == ["0.5"]
    assert report["num_detections"] > 12


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--smooth-s", "2"], "smooth_s=2: must be an odd number of seconds"),
        (["--tiou", "[1.5]"], "tiou=[1.5]: must be numbers above 0 and at most 1"),
        (["--num-clips", "3"], "num_clips=3: with --timeline a clip is taken around each second"),
        (["--background", "nothing"], "background='nothing': is no class of the network"),
        (["--split", "val"], "split='val': "),
        (["--devices", "2"], "--timeline runs in one process in float32"),
    ],
)
def test_what_does_not_fit_is_refused(evaluate, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str):
    assert evaluate(*words) != 0
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told


def test_lists_that_do_not_fit(evaluate, long_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = {
        "class": ("path,label,start,end,split\nlong/long_000.mp4,flying,1,2,test\n", "does not know flying"),
        "file": ("path,label,start,end,split\nlong/none.mp4,growing,1,2,test\n", "1 of 1 files are not there"),
    }
    for name, (text, sentence) in lists.items():
        path = long_videos / f"{name}.csv"
        path.write_text(text)
        assert evaluate(annotations=path) != 0
        assert sentence in capsys.readouterr().err
        path.unlink()
    no_timeline = ["evaluate", "--checkpoint", "x", "--data", "y", "--annotations", "z"]
    assert main(no_timeline) != 0
    assert "is for --timeline" in capsys.readouterr().err
