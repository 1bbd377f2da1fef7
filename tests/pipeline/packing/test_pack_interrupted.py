"""Packing that is killed, interrupted, out of room or run twice: it goes on, and nothing half-written is a dataset."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules.annotations.records import VideoRecord
from datamodules.dataset.dataset_index import DatasetIndex, ShardFormatError
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.packing.shard_plan import order_records, plan_parts
from tests.pipeline.gray_videos import (
    NUM_VIDEOS,
    command,
    digests,
    keys,
    make_endless,
    noisy_videos,
    split_of,
    wait_for,
)


@pytest.fixture
def uninterrupted(originals: Path, tmp_path: Path) -> dict[str, str]:
    """Digests of what the command makes of the originals."""
    pack(PackOptions(tmp_path / "whole" / "out", [originals / "list.csv"], videos_per_shard=3, fps=10.0))
    return digests(tmp_path / "whole" / "out")


def test_killed_in_the_middle_and_started_again(videos: Path, tmp_path: Path, uninterrupted: dict[str, str]) -> None:
    """It hangs in its fourth shard of five, is killed with SIGKILL, and goes on with a good video in that place."""
    out = tmp_path / "out"
    records = [VideoRecord("", f"{('walk', 'run')[n % 2]}_{n}", "", split_of(n), "") for n in range(NUM_VIDEOS)]
    fourth = plan_parts(order_records(records), "out", {"test": [2, 2], "train": [2, 3, 3]})[3]
    hanging = videos / (fourth.records[1].key.replace("_", "/") + ".mp4")
    good = hanging.read_bytes()
    make_endless(hanging)
    run = subprocess.Popen(command(out, videos, "--processes", "1"), stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(out.glob(".parts/*.tar.json"))) == 3 and list(out.glob(".*.partial")))
    time.sleep(1)
    run.kill()
    run.wait()
    done = sorted(path.name for path in out.glob("*.tar"))
    assert len(done) == 3
    assert len(list(out.glob(".*.partial"))) == 1
    assert not (out / "dataset.json").exists()
    with pytest.raises(ShardFormatError, match="run pack again to finish it"):
        DatasetIndex.open(out)
    before = {name: (out / name).stat().st_ino for name in done}
    hanging.write_bytes(good)
    subprocess.run(command(out, videos), check=True, capture_output=True)
    assert digests(out) == uninterrupted
    assert {name: (out / name).stat().st_ino for name in done} == before
    assert not list(out.glob(".*.partial"))


def test_a_finished_shard_that_was_damaged_is_made_again(
    originals: Path, tmp_path: Path, uninterrupted: dict[str, str]
) -> None:
    out = tmp_path / "whole" / "out"
    tars = sorted(out.glob("*.tar"))
    content = bytearray(tars[0].read_bytes())
    content[1000] ^= 1
    tars[0].write_bytes(content)
    os.truncate(tars[1], 5000)
    tars[2].unlink()
    (out / ".parts" / f"{tars[3].name}.json").write_text("{")
    pack(PackOptions(out, [originals / "list.csv"], videos_per_shard=3, fps=10.0))
    assert digests(out) == uninterrupted


def test_a_dataset_is_no_dataset_while_a_shard_is_made_again(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(PackOptions(out, [videos / "list.csv"], videos_per_shard=3, fps=10.0))
    index = DatasetIndex.open(out)
    shard = next(index.entry(row).shard for row in range(len(index)) if index.entry(row).key == "run_5")
    os.truncate(out / shard, 5000)
    make_endless(videos / "run" / "5.mp4")
    run = subprocess.Popen(command(out, videos), stderr=subprocess.DEVNULL)
    wait_for(lambda: list(out.glob(".*.partial")))
    run.kill()
    run.wait()
    with pytest.raises(ShardFormatError, match="run pack again to finish it"):
        DatasetIndex.open(out)


def test_two_runs_in_one_folder(videos: Path, tmp_path: Path) -> None:
    make_endless(videos / "run" / "5.mp4")
    run = subprocess.Popen(command(tmp_path / "out", videos), stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "out" / ".parts" / "run.json").exists)
    with pytest.raises(PackError, match="another run of pack works in it"):
        pack(PackOptions(tmp_path / "out", [videos / "list.csv"], videos_per_shard=3, fps=10.0))
    run.kill()
    run.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here; the limit on file size is tested anyway")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_error(small_disk: Path, tmp_path: Path) -> None:
    videos = noisy_videos(tmp_path / "noisy")
    words = command(small_disk / "out", videos, "--processes", "1")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith(f"error: out={small_disk / 'out'}: no room left to write (No space")
    assert "Traceback" not in done.stderr
    assert not list((small_disk / "out").glob(".*.partial"))
    assert not (small_disk / "out" / "dataset.json").exists()
    resized = subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=False)
    if resized.returncode == 0:
        subprocess.run(words, capture_output=True, check=True)
        assert len(keys(small_disk / "out")) == 6


def test_a_limit_on_file_size_is_one_error(tmp_path: Path) -> None:
    videos = noisy_videos(tmp_path / "noisy")
    words = " ".join(f"'{word}'" for word in command(tmp_path / "out", videos))
    done = subprocess.run(["bash", "-c", f"ulimit -f 20; exec {words}"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no room left to write (File too large)" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").glob(".*.partial"))
    subprocess.run(command(tmp_path / "out", videos), capture_output=True, check=True)
    assert len(keys(tmp_path / "out")) == 6


def test_an_interrupt_ends_the_run_at_once(videos: Path, tmp_path: Path) -> None:
    make_endless(videos / "run" / "5.mp4")
    run = subprocess.Popen(command(tmp_path / "out", videos), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((tmp_path / "out").glob(".*.partial")))
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=150)  # the endless video would take longer
    assert run.returncode == 130
    assert errors.splitlines()[-1] == "error: interrupted"
    assert not list((tmp_path / "out").glob(".*.partial"))
    assert not (tmp_path / "out" / "quarantine.csv").exists()
