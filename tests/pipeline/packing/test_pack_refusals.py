"""What packing refuses, and what goes on: bad videos, hangs, crashes, the quarantine list, other folders."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from datamodules.annotations.records import VideoRecord
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.quarantine import QuarantineError, read_quarantine
from datamodules.encoding.transcoding import EncodeProfile, transcode
from pipeline.__main__ import main
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.packing.shard_builder import run_part
from pipeline.packing.shard_plan import PackSettings, ShardPart
from pipeline.processes.killable_process import KillableProcess
from tests.pipeline.gray_videos import (
    NUM_VIDEOS,
    digests,
    keys,
    make_endless,
    make_video,
    reasons,
    write_long_video,
)


def test_what_cannot_be_read_is_refused_with_its_reason(videos: Path, shared_dir: Path, tmp_path: Path) -> None:
    (videos / "run" / "1.mp4").write_text("this is no video\n" * 100)
    (videos / "walk" / "2.mp4").unlink()
    (videos / "run" / "3.mp4").write_bytes(make_video(3, num_frames=2))
    shutil.copy(shared_dir / "data" / "odd_videos" / "corrupted.mp4", videos / "walk" / "4.mp4")
    whole = (videos / "run" / "5.mp4").read_bytes()
    (videos / "run" / "5.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "walk" / "6.mp4").write_bytes(b"")
    (videos / "run" / "7.mp4").unlink()
    (videos / "run" / "7.mp4").mkdir()
    pack(PackOptions(tmp_path / "out", [videos / "list.csv"], min_frames=5))
    found = reasons(tmp_path / "out")
    assert found.keys() == {f"{('walk', 'run')[number % 2]}/{number}.mp4" for number in range(1, 8)}
    assert found["walk/2.mp4"] == "absent"
    assert found["run/3.mp4"] == "too short"
    assert {found[f"{name}.mp4"] for name in ("run/1", "run/5", "walk/6", "run/7")} <= {
        "unreadable",
        "truncated",
        "absent",
        "no video stream",  # cut where its header would list the tracks
    }
    assert found["walk/4.mp4"] in ("unreadable", "truncated", "damaged", "no video stream", "no frames")
    assert len(keys(tmp_path / "out")) == NUM_VIDEOS - 7
    counts = DatasetIndex.open(tmp_path / "out").manifest.splits
    assert sum(split.videos for split in counts.values()) == NUM_VIDEOS - 7
    text = (tmp_path / "out" / "quarantine.csv").read_text()
    assert text.startswith("path,key,reason,detail\n")


def test_a_hanging_video_is_killed_and_the_rest_goes_on(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_endless(videos / "run" / "5.mp4")
    began = time.monotonic()
    pack(PackOptions(tmp_path / "out", [videos / "list.csv"], fps=10.0, timeout=3.0))
    assert 3 < time.monotonic() - began < 100  # the endless video would take minutes
    assert reasons(tmp_path / "out") == {"run/5.mp4": "hang"}
    assert "hang,made no progress for 3 s (--timeout); killed" in (tmp_path / "out" / "quarantine.csv").read_text()
    assert "with a longer --timeout too" in capsys.readouterr().out
    assert len(keys(tmp_path / "out")) == NUM_VIDEOS - 1


def test_a_video_is_not_refused_for_its_length(videos: Path, tmp_path: Path) -> None:
    """It takes twice as long as may pass without progress, on a machine of any speed: it is made longer until it is."""
    path = videos / "run" / "5.mp4"
    took, seconds, timeout = 0.0, 8, 1.5
    while took < 2 * timeout:
        seconds *= 2
        path.write_bytes(write_long_video(seconds, 1280, 720))
        began = time.monotonic()
        transcode(str(path), EncodeProfile())
        took = time.monotonic() - began
    pack(PackOptions(tmp_path / "out", [videos / "list.csv"], timeout=timeout))
    assert reasons(tmp_path / "out") == {}


def test_a_crashing_video_is_refused_and_the_rest_goes_on(videos: Path, tmp_path: Path) -> None:
    make_endless(videos / "run" / "5.mp4")
    records = [VideoRecord(str(videos / "run" / f"{n}.mp4"), f"run_{n}", "run", "train", "") for n in (5, 7)]
    settings = PackSettings(tmp_path, videos, EncodeProfile(fps=10.0))
    with KillableProcess() as process:
        child = process.call(os.getpid, timeout=30)
        timer = threading.Timer(2.0, os.kill, (child, signal.SIGSEGV))
        timer.start()
        result = run_part(ShardPart("d-train-000000.tar", "train", tuple(records)), settings, process=process)
        timer.join()
    (refusal,) = result.refused
    assert (refusal.path, refusal.key, refusal.reason) == ("run/5.mp4", "run_5", "crash")
    assert "SIGSEGV" in refusal.detail
    assert [row.key for row in result.rows] == ["run_7"]


def test_quarantine_is_honoured_until_asked_otherwise(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    spoiled = videos / "run" / "5.mp4"
    good = spoiled.read_bytes()
    spoiled.write_bytes(b"")
    pack(PackOptions(out, [videos / "list.csv"], videos_per_shard=3))
    first = digests(out)
    spoiled.write_bytes(good)
    pack(PackOptions(out, [videos / "list.csv"], videos_per_shard=3))
    assert digests(out) == first
    pack(PackOptions(out, [videos / "list.csv"], videos_per_shard=3, retry_quarantined=True))
    assert reasons(out) == {}
    pack(PackOptions(tmp_path / "clean" / "out", [videos / "list.csv"], videos_per_shard=3))
    assert digests(out) == digests(tmp_path / "clean" / "out")
    # a line added by hand takes a video out again, though it is packed
    with (out / "quarantine.csv").open("a") as file:
        file.write(",run_7,,\n")
    pack(PackOptions(out, [videos / "list.csv"], videos_per_shard=3))
    assert "run_7" not in keys(out)
    assert read_quarantine(out)["run_7"].reason == "by hand"
    (out / "quarantine.csv").write_text("video\nx\n")
    with pytest.raises(QuarantineError, match="header must be"):
        pack(PackOptions(out, [videos / "list.csv"], videos_per_shard=3))


def test_a_folder_of_something_else_is_refused(originals: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lists = [originals / "list.csv"]
    pack(PackOptions(out, lists, videos_per_shard=6))
    before = digests(out)
    for options, message in [
        ({"short_side": 16}, "short_side 256 there, 16 now"),
        ({"fps": 5.0}, "fps None there, 5.0 now"),
        ({"seed": 3}, "seed 0 there, 3 now"),
        ({"copy": True}, "copy False there, True now"),
    ]:
        with pytest.raises(PackError, match=message):
            pack(PackOptions(out, lists, videos_per_shard=6, **options))  # type: ignore[arg-type]
    shorter = originals.parent / f"{tmp_path.name}.csv"  # beside the videos' folder, which is read-only
    shorter.write_text("".join((originals / "list.csv").read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(PackError, match="other videos, labels, groups or splits in the lists"):
        pack(PackOptions(out, [shorter], originals, videos_per_shard=6))
    assert digests(out) == before
    shutil.rmtree(out / ".parts")
    with pytest.raises(PackError, match="no record of the run"):
        pack(PackOptions(out, lists, videos_per_shard=6))
    (tmp_path / "file").touch()
    with pytest.raises(PackError, match="is not a folder"):
        pack(PackOptions(tmp_path / "file", lists))
    for options, message in [
        ({"processes": 0}, "processes=0"),
        ({"videos_per_shard": 0}, "videos_per_shard=0: must be at least 1"),
        ({"shard_bytes": 0}, "shard_bytes=0: must be at least 1"),
        ({"timeout": 0.0}, "timeout=0"),
        ({"short_side": 2}, "short_side=2"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"classes": tmp_path / "absent.txt"}, "absent.txt: cannot be read"),
    ]:
        with pytest.raises(ValueError, match=message):
            pack(PackOptions(tmp_path / "fresh", lists, **options))  # type: ignore[arg-type]
    assert not (tmp_path / "fresh").exists()


def test_all_refused_is_an_error(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ["pack", "--annotations", str(videos / "list.csv"), "--videos", str(empty), "--out", str(tmp_path / "out")]
    assert main(words) != 0
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: all {NUM_VIDEOS} videos were refused (absent; first run/1.mp4")
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert set(reasons(tmp_path / "out").values()) == {"absent"}
