"""s3:// against moto's S3 server in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.errors import ShardFormatError, ShardUnavailableError
from datamodules.storage.remote_files import RetryPolicy
from tests.s3_server import environment_for

QUICK = RetryPolicy(tries=8, first_wait_s=0.05, longest_wait_s=0.2, timeout_s=0.5)


@pytest.fixture
def bucket(s3_server, motion_dataset, tmp_path, monkeypatch):
    """A file system that sees the dataset at s3://bucket/data."""
    import s3fs

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    for name, value in environment_for(s3_server[1]).items():
        monkeypatch.setenv(name, value)
    filesystem = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    if not filesystem.exists("bucket"):
        filesystem.mkdir("bucket")
    for path in motion_dataset.iterdir():
        if path.is_file():
            filesystem.pipe(f"bucket/data/{path.name}", path.read_bytes())
    return filesystem


def test_videos_come_by_range_one_by_one_and_ahead(bucket, motion_dataset):
    local = DatasetIndex.open(motion_dataset)
    index = DatasetIndex.open("s3://bucket/data", retry_policy=RetryPolicy(tries=3, first_wait_s=0.05))
    expected = [local.read_video(row) for row in range(len(local))]
    assert [index.read_video(row) for row in range(len(index))] == expected
    index.expect(range(len(index)))
    assert [index.read_video(row) for row in range(len(index))] == expected


def test_a_server_that_stalls_is_asked_again(bucket, s3_server, motion_dataset):
    process, _ = s3_server
    local = DatasetIndex.open(motion_dataset)
    index = DatasetIndex.open("s3://bucket/data", retry_policy=QUICK)
    process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(1.5, lambda: process.send_signal(signal.SIGCONT))
    timer.start()
    index.expect(range(0, 60, 7))
    began = time.monotonic()
    assert [index.read_video(row) for row in range(0, 60, 7)] == [local.read_video(row) for row in range(0, 60, 7)]
    assert time.monotonic() - began > 1
    timer.join()
    process.send_signal(signal.SIGSTOP)
    try:
        index._files.retry_policy = RetryPolicy(tries=2, first_wait_s=0.01, timeout_s=0.3)
        with pytest.raises(
            ShardUnavailableError, match=r"could not be read in 2 tries .*, the network and your access"
        ):
            index.read_video(0)
    finally:
        process.send_signal(signal.SIGCONT)


def test_what_is_not_there_and_what_is_short(bucket):
    patience = RetryPolicy(tries=3, first_wait_s=0.05)
    index = DatasetIndex.open("s3://bucket/data", retry_policy=patience)
    for root in ("s3://bucket/nothing", "s3://no-bucket/data"):
        with pytest.raises(ShardFormatError, match=r"dataset\.json: its size: there is no such file"):
            DatasetIndex.open(root, retry_policy=patience)
    shard = index.entry(0).shard
    bucket.pipe(f"bucket/data/{shard}", b"short")
    with pytest.raises(ShardUnavailableError, match="may be shorter than the index says"):
        index.read_video(0)
    bucket.rm(f"bucket/data/{shard}")
    with pytest.raises(ShardFormatError, match=rf"{shard}: \d+ bytes at offset \d+: there is no such file"):
        index.read_video(0)


def test_without_credentials_it_says_which_to_set(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    began = time.monotonic()
    with pytest.raises(ShardUnavailableError, match=r"Unable to locate credentials\).*AWS_ACCESS_KEY_ID") as caught:
        DatasetIndex.open("s3://bucket/data")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("root", "package"), [("s3://b/data", "s3fs"), ("gs://b/data", "gcsfs"), ("az://b/d", "adlfs")]
)
def test_an_absent_package_is_named_with_its_command(root, package):
    code = f"import sys; sys.modules[{package!r}] = None; from pipeline.__main__ import main; main(['plan', {root!r}])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert re.fullmatch(rf"error: root={root}: .*; pip install {package}", printed.strip())


@pytest.mark.slow
def test_gs_without_credentials_ends_in_one_sentence(monkeypatch, tmp_path):
    pytest.importorskip("gcsfs", reason="pip install gcsfs")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", os.devnull)
    with pytest.raises(ShardUnavailableError, match=r"^gs://b/data/dataset\.json: .*your access") as caught:
        DatasetIndex.open("gs://b/data", retry_policy=RetryPolicy(tries=2, first_wait_s=0.05, timeout_s=5))
    assert "\n" not in str(caught.value)
