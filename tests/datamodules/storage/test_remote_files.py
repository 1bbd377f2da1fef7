"""Datasets at URLs: a flaky HTTP server on loopback, memory://, other processes, and servers that stay down."""

import multiprocessing
import pickle
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.sampling.batch_sampler import RequestPrefetcher, ResumePoint, TrainRequests
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.storage.errors import ShardFormatError, ShardUnavailableError
from datamodules.storage.remote_files import RemoteFiles, RetryPolicy, split_root
from tests.datamodules.storage.flaky_server import FAULTS, serving

QUICK = RetryPolicy(tries=8, first_wait_s=0.01, longest_wait_s=0.05, timeout_s=0.4)
# Where each request is counted: a busy machine is slower than 0.4 s by itself.
PATIENT = QUICK._replace(timeout_s=3.0)


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


def videos(index, rows=None):
    return [index.read_video(row) for row in (range(len(index)) if rows is None else rows)]


def test_every_fault_is_overcome_and_the_bytes_are_those_of_the_folder(motion_dataset):
    local = DatasetIndex.open(motion_dataset)
    rows = range(24)  # so that two requests stall
    with serving(motion_dataset, every=3, stall_s=4.0) as server:
        remote = DatasetIndex.open(server.url, retry_policy=PATIENT)
        assert (remote.identity, len(remote)) == (local.identity, len(local))
        assert [remote.entry(row) for row in range(len(remote))] == [local.entry(row) for row in range(len(local))]
        server.faults = FAULTS
        server.served.clear()
        assert videos(remote, rows) == videos(local, rows)
        faults = Counter(server.injected)
        once = Counter(server.served)
    assert set(faults) == set(FAULTS)
    entries = [local.entry(row) for row in rows]
    # Each video came whole once: what came otherwise was not taken, and nothing good was asked for again.
    assert once == Counter((entry.shard, entry.video_offset, entry.video_size) for entry in entries)


def test_opening_survives_faults_too(motion_dataset):
    survivable = tuple(fault for fault in FAULTS if fault != "wrong")  # nothing says what dataset.json should hold
    with serving(motion_dataset, *survivable, every=2, stall_s=0.6) as server:
        remote = DatasetIndex.open(f"{server.url}/", retry_policy=QUICK)
        assert remote.rows("test").tolist() == DatasetIndex.open(motion_dataset).rows("test").tolist()
        assert len(server.injected) >= 2


def test_threads_share_a_connection(motion_dataset):
    local = DatasetIndex.open(motion_dataset)
    with serving(motion_dataset, "500", "reset", "short", "cut", every=3) as server:
        remote = DatasetIndex.open(server.url, retry_policy=QUICK)
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(remote.read_video, range(len(remote)))) == videos(local)


def batches(root, **settings):
    data = ShardedVideoDataModule(
        str(root), batch_size=6, num_frames=4, crop_size=32, flip_probability=0.0, decoder="pyav", **settings
    )
    return [(batch.keys, batch.clips) for batch in data.train_dataloader()]


@pytest.mark.parametrize(("workers", "start"), [(0, "fork"), (1, "fork")])
def test_an_epoch_from_a_flaky_server_is_that_of_the_folder(motion_dataset, tmp_path, workers, start):
    expected = batches(motion_dataset, num_workers=0)
    with serving(motion_dataset, "500", "reset", "short", "cut", "wrong", every=8) as server:
        settings = {"num_workers": workers, "worker_start": start, "cache_dir": str(tmp_path / "videos")}
        server.faults, faults = (), server.faults
        DatasetIndex.open(server.url)
        server.faults = tuple(fault for fault in faults if fault != "wrong" or workers == 0)
        found = batches(server.url, **settings)
        assert server.injected
        server.faults = ()
        server.served.clear()
        again = batches(server.url, **settings)
        assert not [name for name, _, _ in server.served if name.endswith(".tar")], "the second epoch is in the cache"
    for got in (found, again):
        assert [keys for keys, _ in got] == [keys for keys, _ in expected]
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(got, expected, strict=True))


@pytest.mark.parametrize("fault", ["500", "reset", "cut", "stall", "wrong"])
def test_a_server_that_stays_down_costs_bounded_time_and_one_sentence(motion_dataset, fault):
    with serving(motion_dataset, stall_s=0.5) as server:
        patience = RetryPolicy(tries=3, first_wait_s=0.01, timeout_s=0.2)
        index = DatasetIndex.open(server.url, retry_policy=patience)
        entry = index.entry(7)
        server.faults, server.every = (fault,), 1
        began = time.monotonic()
        with pytest.raises(ShardUnavailableError) as caught:
            index.read_video(7)
        assert time.monotonic() - began < 5
        message = str(caught.value)
        assert message.startswith(
            f"{server.url}/{entry.shard}: {entry.video_size} bytes at offset {entry.video_offset} could not be read in "
            "3 tries over "
        )
        assert "\n" not in message
        cause = {"500": "500 ", "stall": "no answer in time", "wrong": "not those of the index"}.get(fault, "Error")
        assert cause in message
        server.faults = ()
        assert index.read_video(7) == DatasetIndex.open(motion_dataset).read_video(7)  # it is back


def test_a_server_that_is_gone(motion_dataset):
    with serving(motion_dataset) as server:
        patience = RetryPolicy(tries=3, first_wait_s=0.01, timeout_s=1)
        index = DatasetIndex.open(server.url, retry_policy=patience)
    for call in (lambda: index.read_video(0), lambda: DatasetIndex.open(server.url, retry_policy=patience)):
        with pytest.raises(ShardUnavailableError, match=r"in 3 tries over \d s, the last ended with .*127\.0\.0\.1"):
            call()


def test_a_worker_says_the_same_sentence(motion_dataset):
    with serving(motion_dataset) as server:
        data = ShardedVideoDataModule(server.url, batch_size=4, num_frames=4, crop_size=32, num_workers=1)
        loader = data.train_dataloader()
        removed = server.folder
        server.folder = removed / "nowhere"
        with pytest.raises(ShardFormatError, match=r"there is no such file") as caught:
            next(iter(loader))
        assert "\n" not in str(caught.value)


def test_what_waiting_does_not_mend_is_said_at_once(motion_dataset, tmp_path):
    with serving(motion_dataset) as server:
        index = DatasetIndex.open(server.url, retry_policy=QUICK)
        server.ranges = False
        with pytest.raises(ShardFormatError, match="ignores byte ranges"):
            index.read_video(0)
        server.folder = tmp_path
        gets = server.gets
        with pytest.raises(ShardFormatError, match=r"\.tar: \d+ bytes at offset \d+: there is no such file"):
            index.read_video(0)
        assert server.gets == gets + 1
        with pytest.raises(ShardFormatError, match=r"dataset\.json: .*there is no such file"):
            DatasetIndex.open(server.url, retry_policy=QUICK)
    with pytest.raises(ValueError, match="tries=0"):
        RemoteFiles("http://127.0.0.1", RetryPolicy(tries=0))


def read_in_child(index, results):
    results.put(videos(index, range(5)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_connect_anew(motion_dataset, method):
    expected = videos(DatasetIndex.open(motion_dataset), range(5))
    with serving(motion_dataset) as server:
        index = DatasetIndex.open(server.url)
        assert videos(index, range(5)) == expected
        assert len(pickle.dumps(index)) < 8000
        index._files._lock.acquire()  # as another thread may have
        context = multiprocessing.get_context(method)
        results = context.Queue()
        child = context.Process(target=read_in_child, args=(index, results))
        child.start()
        index._files._lock.release()
        assert results.get(timeout=60) == expected
        child.join(60)
        assert child.exitcode == 0
        assert videos(index, range(5)) == expected


def test_memory(motion_dataset):
    memory = fsspec.filesystem("memory")
    for path in motion_dataset.iterdir():
        if path.is_file():
            memory.pipe(f"/motion/{path.name}", path.read_bytes())
    try:
        index = DatasetIndex.open("memory://motion", retry_policy=QUICK)
        assert videos(index) == videos(DatasetIndex.open(motion_dataset))
        shard = index.entry(0).shard
        memory.pipe(f"/motion/{shard}", b"short")
        with pytest.raises(ShardUnavailableError, match=r"could not be read in 8 tries .* 0 of \d+ bytes came"):
            index.read_video(0)
        memory.rm(f"/motion/{shard}")
        with pytest.raises(ShardFormatError, match="there is no such file"):
            index.read_video(0)
    finally:
        memory.rm("/motion", recursive=True)


@pytest.mark.parametrize(
    ("root", "meant"),
    [
        ("s3://bucket/data/", "s3://bucket/data"),
        (Path("s3://bucket/data"), "s3://bucket/data"),
        ("http://host:80/a", "http://host:80/a"),
        ("memory:///a", "memory:///a"),
        ("file:///data/a", Path("/data/a")),
        ("data/a", Path("data/a")),
        ("/data/a", Path("/data/a")),
    ],
)
def test_roots(root, meant):
    assert split_root(root) == meant


def test_training_reads_a_batch_and_the_next_one_ahead(motion_dataset):
    expected = batches(motion_dataset, num_workers=0)
    with serving(motion_dataset, latency_s=0.03) as server:
        found = batches(server.url, num_workers=0, remote_reads=4)
        assert 3 <= server.most_at_once <= 5
        ranges = [served for served in server.served if served[0].endswith(".tar")]
        assert len(ranges) == len(set(ranges)) == sum(len(keys) for keys, _ in found)
        data = ShardedVideoDataModule(server.url, batch_size=6, num_frames=4, crop_size=32, num_workers=0)
        data.index._files.retry_policy = RetryPolicy(tries=2, first_wait_s=0.01, timeout_s=0.3)
        first = data.index.entry(int(data.index.rows("train")[next(TrainPlan(40, 6).batches(0, 0))[0]]))
        server.faults, server.every = ("500",), 1
        with pytest.raises(ShardFormatError, match=f"^video {first.key}: {server.url}/{first.shard}: "):
            next(iter(data.train_dataloader()))
        with pytest.raises(ValueError, match="remote_reads=0: must be at least 1"):
            ShardedVideoDataModule(server.url, remote_reads=0)
    assert [keys for keys, _ in found] == [keys for keys, _ in expected]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, expected, strict=True))


@pytest.mark.parametrize("workers", [1, 3])
def test_each_request_tells_what_the_same_worker_reads_next(workers):
    requests = TrainRequests(TrainPlan(20, 2), rank=0, resume=ResumePoint())
    told = list(RequestPrefetcher(requests, workers))
    assert [request.samples.tolist() for request in told] == [request.samples.tolist() for request in requests]
    for number, request in enumerate(told):
        later = told[number + workers].samples.tolist() if number + workers < len(told) else []
        assert list(request.ahead) == later
    assert len(RequestPrefetcher(requests, workers)) == len(requests)
