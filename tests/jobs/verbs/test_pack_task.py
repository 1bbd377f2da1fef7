"""One part of a packing job as a plain function: what a node that lacks something answers, without a cluster."""

import dataclasses
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from datamodules.annotations.records import VideoRecord
from datamodules.encoding.transcoding import EncodeProfile
from jobs.spec.job import Job
from jobs.spec.job_spec import JobSpec
from jobs.verbs import pack_progress, pack_task
from jobs.verbs.pack import check_folders, is_complete
from jobs.verbs.pack_task import NodeRequirements, PartFailure, pack_part
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack_options import parse_pack_options
from pipeline.packing.shard_builder import PackProgress, PartResult
from pipeline.packing.shard_plan import PackSettings, ShardPart, encoder_versions
from tests.pipeline.gray_videos import noisy_videos

TOKEN = "job-0123456789abcdef"


@pytest.fixture
def part(tmp_path: Path) -> ShardPart:
    """Two videos and one that is not there."""
    noisy_videos(tmp_path / "videos")
    names = ("0", "1", "absent")
    records = [VideoRecord(str(tmp_path / "videos" / f"{name}.mp4"), name, "a", "train", name) for name in names]
    return ShardPart("x-train-000000.tar", "train", tuple(records))


@pytest.fixture
def requirements(tmp_path: Path, part: ShardPart, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeRequirements]:
    """As the driver makes it, in a folder that has its token."""
    settings = PackSettings(tmp_path / "out", tmp_path / "videos", EncodeProfile(short_side=64))
    (tmp_path / "out" / ".parts").mkdir(parents=True)
    (tmp_path / "out" / ".parts" / TOKEN).write_text(TOKEN)
    monkeypatch.chdir(tmp_path)
    job = Job(JobSpec(name="x"), str(tmp_path))
    yield NodeRequirements(job, settings, TOKEN, part.records[0].path, encoder_versions(), timeout_s=0.2)
    if pack_task._decoding_process.cache_info().currsize:
        pack_task._decoding_process().close()
        pack_task._decoding_process.cache_clear()


def failure(part: ShardPart, requirements: NodeRequirements) -> str:
    result = pack_part(0, part, requirements)
    assert isinstance(result, PartFailure)
    assert not [path for path in Path("out").iterdir() if path.name != ".parts"], "no shard, and no part of one"
    return result.message


def test_a_part_is_made(part: ShardPart, requirements: NodeRequirements) -> None:
    result = pack_part(0, part, requirements)
    assert isinstance(result, PartResult)
    assert [row.key for row in result.rows] == ["0", "1"]
    assert [(refusal.key, refusal.reason) for refusal in result.refused] == [("absent", "absent")]


def test_segments_and_folders_of_images_in_a_part(
    part: ShardPart, requirements: NodeRequirements, tmp_path: Path
) -> None:
    """The node sees a folder as it sees a file, and stores the seek table of a file for other nodes."""
    folder = tmp_path / "videos" / "frames"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48)).save(folder / f"{number}.png")
    segment = dataclasses.replace(part.records[0], key="cut", time_start=0.1, time_end=0.3, exact_times=True)
    images = VideoRecord(str(folder), "images", "a", "train", "images", frames_per_second=12.0)
    part = dataclasses.replace(part, records=(segment, images))
    result = pack_part(0, part, dataclasses.replace(requirements, reference_video=str(folder)))
    assert isinstance(result, PartResult)
    descriptions = [row.description for row in result.rows]
    assert [(one.num_frames, one.fps, one.source_start) for one in descriptions] == [(2, 10.0, 0.1), (3, 12.0, None)]
    assert len(list((tmp_path / "out" / ".parts" / "seek_tables").iterdir())) == 1


def test_what_two_attempts_left_is_seen(part: ShardPart, requirements: NodeRequirements) -> None:
    result = pack_part(0, part, requirements)
    assert isinstance(result, PartResult)
    folders = requirements.settings.folders
    assert is_complete(part, result, folders)
    assert not is_complete(part, dataclasses.replace(result, refused=[]), folders), (
        "a video is neither kept nor refused"
    )
    assert not is_complete(part, dataclasses.replace(result, rows=result.rows[:1]), folders)
    other = dataclasses.replace(result, refused=[*result.refused, result.refused[0]._replace(key="0")])
    assert not is_complete(part, other, folders), "it is both"
    os.truncate(requirements.settings.root / part.shard, 1000)
    assert not is_complete(part, result, folders)
    (requirements.settings.root / part.shard).unlink()
    assert not is_complete(part, result, folders)
    assert is_complete(
        dataclasses.replace(part, records=part.records[2:]), PartResult("train", None, [], result.refused, 0), folders
    )


def test_counts_of_an_attempt_that_was_lost() -> None:
    actor = pack_progress.PackProgressActor()
    lost, restarted = PackProgress(3, 1, 100, False, (10, 5)), PackProgress(1, 0, 40, False, (4, 2))
    actor.report(7, "first", lost)
    assert actor.take_reports() == ({7: lost}, [])
    actor.report(7, "second", restarted)
    actor.report(7, "second", restarted)
    assert actor.take_reports() == ({7: restarted}, [7])
    assert actor.take_reports() == ({}, [])
    assert pack_progress.add_progress(restarted, lost, -1) == PackProgress(-2, -1, -60, False, (-6, -3))
    assert pack_progress.add_progress(PackProgress(0, 0, 0), lost) == lost


def test_another_folder_of_the_same_name(part: ShardPart, requirements: NodeRequirements) -> None:
    """A node whose `out` is a disk of its own, with what an earlier job left there."""
    (requirements.settings.root / ".parts" / TOKEN).rename(
        requirements.settings.root / ".parts" / "job-fedcba9876543210"
    )
    message = failure(part, requirements)
    assert message.startswith(f"node {socket.gethostname()} (")
    assert f"does not see the folder out={requirements.settings.root} that the others see; give a folder of" in message


def test_a_token_that_appears_late(part: ShardPart, requirements: NodeRequirements) -> None:
    token = requirements.settings.root / ".parts" / TOKEN
    token.unlink()
    patient = dataclasses.replace(requirements, timeout_s=30.0)
    timer = threading.Timer(0.5, lambda: token.write_text(TOKEN))
    timer.start()
    assert isinstance(pack_part(0, part, patient), PartResult)
    timer.join()


def test_videos_that_are_not_seen(part: ShardPart, requirements: NodeRequirements, tmp_path: Path) -> None:
    """An empty mount point has the folder, and not one of the videos: they would all be refused as absent."""
    (tmp_path / "videos").rename(tmp_path / "elsewhere")
    (tmp_path / "videos").mkdir()
    assert f"does not see the videos in {tmp_path}/videos that the others see (such as" in failure(part, requirements)


def test_videos_that_go_away_in_the_middle(
    part: ShardPart, requirements: NodeRequirements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_progress, "REPORT_INTERVAL_S", 0.0)
    reported = []

    def unmount(part_number: int, attempt_id: str, progress: PackProgress) -> None:
        reported.append(progress.videos)
        if progress.videos == 1:
            (tmp_path / "videos").rename(tmp_path / "elsewhere")

    handle = SimpleNamespace(report=SimpleNamespace(remote=unmount))
    result = pack_part(0, part, requirements, handle)
    assert isinstance(result, PartFailure)
    assert f"does not see the videos in {tmp_path}/videos" in result.message
    assert reported == [0, 1], "it ended at the first video that seemed absent"
    assert not list(requirements.settings.root.glob("*x-train*"))


def test_a_folder_of_submit_that_the_node_lacks(
    part: ShardPart, requirements: NodeRequirements, tmp_path: Path
) -> None:
    settings = dataclasses.replace(requirements.settings, root=Path("relative"))
    elsewhere = Job(requirements.job.spec, str(tmp_path / "nowhere"))
    result = pack_part(0, part, dataclasses.replace(requirements, settings=settings, job=elsewhere))
    assert isinstance(result, PartFailure)
    assert f"because it has no folder {tmp_path}/nowhere to take that path from" in result.message


def test_relative_paths_where_the_driver_lacks_the_folder_of_submit(tmp_path: Path) -> None:
    """The lists may have travelled; what is written, and the videos, cannot lie in the copy that did."""
    elsewhere = Job(JobSpec(name="x"), str(tmp_path / "nowhere"))

    def check(*arguments: str, job: Job = elsewhere) -> None:
        check_folders(job, parse_pack_options(["--annotations", "list.csv", *arguments]))

    with pytest.raises(PackError, match=r"out=shards: node .* has no folder .*/nowhere to take a relative path from"):
        check("--out", "shards", "--videos", "/shared/videos")
    with pytest.raises(PackError, match=r"videos=\.: node .* give --videos as a whole path"):
        check("--out", "/shared/shards")
    check("--out", "/shared/shards", "--videos", "/shared/videos")
    check("--out", "shards", job=Job(JobSpec(name="x"), str(tmp_path)))


def test_other_libraries(part: ShardPart, requirements: NodeRequirements) -> None:
    other = dataclasses.replace(requirements, versions=requirements.versions | {"av": "1.0"})
    assert f"(av {requirements.versions['av']}, not 1.0); install the same everywhere" in failure(part, other)


def test_no_room(part: ShardPart, requirements: NodeRequirements) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        message = failure(part, requirements)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith(f"node {socket.gethostname()} (")
    assert f"out={requirements.settings.root}: no room left to write (File too large)" in message
