"""Videos at URLs read at once, ahead of being asked for: in order, whole, once, bounded; after forks; with faults."""

import multiprocessing
import threading
import time
from collections import Counter

import numpy as np
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.errors import ShardFormatError, ShardUnavailableError
from datamodules.storage.remote_files import RetryPolicy
from datamodules.storage.remote_options import RemoteOptions
from tests.datamodules.storage.flaky_server import FAULTS, serving

QUICK = RetryPolicy(tries=8, first_wait_s=0.01, longest_wait_s=0.05, timeout_s=0.4)


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


def shuffled_batches(index, size=16):
    return np.array_split(np.random.default_rng(0).permutation(len(index)), len(index) // size)


def read_epoch(index, batches):
    """As a worker reads: each batch with the next one announced."""
    videos = {}
    for batch, later in zip(batches, [*batches[1:], ()], strict=True):
        index.expect([*batch, *later])
        videos |= {int(row): index.read_video(int(row)) for row in batch}
    return videos


def whole_videos(index, served):
    """How often each row was inside of a range that was sent whole."""
    entries = [index.entry(row) for row in range(len(index))]
    return Counter(
        row
        for shard, start, size in served
        for row, entry in enumerate(entries)
        if entry.shard == shard
        and start <= entry.video_offset
        and entry.video_offset + entry.video_size <= start + size
    )


def test_reads_are_under_way_together_and_waiting_is_shared(motion_dataset):
    local = DatasetIndex.open(motion_dataset)
    with serving(motion_dataset) as server:
        index = DatasetIndex.open(server.url, remote=RemoteOptions(remote_reads=8))
        server.latency_s = 0.1
        began = time.monotonic()
        videos = read_epoch(index, shuffled_batches(index))
        took = time.monotonic() - began
        assert 4 <= server.most_at_once <= 9  # the threads, and who asks
    assert videos == {row: local.read_video(row) for row in range(len(local))}
    assert took < len(local) * 0.1 / 3


@pytest.mark.parametrize("cached", [True, False])
def test_with_every_fault_nothing_is_lost_and_nothing_doubled(motion_dataset, tmp_path, cached):
    local = DatasetIndex.open(motion_dataset)
    with serving(motion_dataset, stall_s=0.6) as server:
        index = DatasetIndex.open(
            server.url, retry_policy=QUICK, remote=RemoteOptions(cache_dir=str(tmp_path / "videos") if cached else None)
        )
        server.faults, server.every = (*FAULTS, "500", "short"), 3
        server.served.clear()
        videos = read_epoch(index, shuffled_batches(index))
        assert set(server.injected) == set(FAULTS)
        assert whole_videos(local, server.served) == Counter(range(len(local)))
        if cached:
            server.faults, gets = (), server.gets
            assert read_epoch(index, shuffled_batches(index)) == videos
            assert server.gets == gets
    assert videos == {row: local.read_video(row) for row in range(len(local))}
    assert index._read_ahead.held_bytes == 0


def test_an_error_is_that_of_the_video_asked_for(motion_dataset, tmp_path):
    local = DatasetIndex.open(motion_dataset)
    with serving(motion_dataset) as server:
        index = DatasetIndex.open(server.url, retry_policy=RetryPolicy(tries=2, first_wait_s=0.01, timeout_s=0.3))
        folder = tmp_path / "some"
        folder.mkdir()
        lost = local.entry(0).shard
        for path in motion_dataset.glob("*.tar"):
            if path.name != lost:
                (folder / path.name).symlink_to(path)
        server.folder = folder
        rows = np.random.default_rng(1).permutation(len(index)).tolist()
        index.expect(rows)
        for row in rows:
            entry = local.entry(row)
            if entry.shard == lost:
                with pytest.raises(
                    ShardFormatError,
                    match=rf"{lost}: {entry.video_size} bytes at offset "
                    rf"{entry.video_offset}: there is no such file",
                ):
                    index.read_video(row)
            else:
                assert index.read_video(row) == local.read_video(row)
        server.folder, server.faults, server.every = motion_dataset, ("500", "reset"), 1
        index.expect(rows[:9])
        entry = local.entry(rows[0])
        with pytest.raises(
            ShardUnavailableError,
            match=rf"{entry.shard}: {entry.video_size} bytes at offset "
            rf"{entry.video_offset} could not be read in 2 tries",
        ):
            index.read_video(rows[0])
        server.faults = ()
        assert index.read_video(rows[0]) == local.read_video(rows[0])  # it is back


def test_bytes_are_bounded_and_what_is_not_wanted_any_more_is_let_go(motion_dataset):
    local = DatasetIndex.open(motion_dataset)
    sizes = local.column("video_size", range(len(local)))
    bound = int(3 * sizes.max())
    with serving(motion_dataset, latency_s=0.005) as server:
        index = DatasetIndex.open(server.url, remote=RemoteOptions(remote_read_bytes=bound))
        index.expect(range(len(index)))
        time.sleep(0.2)
        ahead = index._read_ahead
        assert bound - sizes.max() < ahead.held_bytes <= bound
        assert [index.read_video(row) for row in range(20)] == [local.read_video(row) for row in range(20)]
        assert ahead.peak_bytes <= bound
        index.expect([])
        deadline = time.monotonic() + 5
        while ahead.held_bytes and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ahead.held_bytes == 0
        # Less than any video: one at a time.
        small = DatasetIndex.open(server.url, remote=RemoteOptions(remote_read_bytes=1))
        assert read_epoch(small, [[3, 4, 5]]) == {row: local.read_video(row) for row in (3, 4, 5)}
        assert small._read_ahead.peak_bytes <= sizes.max()
        with pytest.raises(ValueError, match="remote_reads=0: must be at least 1"):
            RemoteOptions(remote_reads=0)


def read_in_child(index, rows, results):
    index.expect(rows)
    results.put([index.read_video(row) for row in rows])


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_other_processes_have_threads_of_their_own(motion_dataset, method):
    rows = [40, 3, 17, 5, 22, 9]
    expected = [DatasetIndex.open(motion_dataset).read_video(row) for row in rows]
    with serving(motion_dataset, latency_s=0.02) as server:
        index = DatasetIndex.open(server.url)
        index.expect(rows)  # under way in this process when the other one starts
        context = multiprocessing.get_context(method)
        results = context.Queue()
        child = context.Process(target=read_in_child, args=(index, rows, results))
        index._read_ahead._changed.acquire()  # as one of the threads may have
        child.start()
        index._read_ahead._changed.release()
        assert results.get(timeout=60) == expected
        assert [index.read_video(row) for row in rows] == expected
        child.join(60)
        assert child.exitcode == 0


def test_threads_start_when_there_is_something_to_read(motion_dataset):
    before = {thread for thread in threading.enumerate() if thread.name == "remote-reads"}
    with serving(motion_dataset) as server:
        index = DatasetIndex.open(server.url)
        index.expect([])
        local = DatasetIndex.open(motion_dataset)
        local.expect(range(5))
        assert {thread for thread in threading.enumerate() if thread.name == "remote-reads"} <= before
