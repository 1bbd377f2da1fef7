"""DataLoader workers that die or stick: real processes, killed and stopped from outside while they read."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.worker_heartbeat import IDLE
from datamodules.loading.worker_watchdog import WorkerFailedError
from tests.datamodules.storage.flaky_server import serving

slow = pytest.mark.slow
INTERRUPTED_AT_ONCE = """
import multiprocessing, os, signal, sys
from datamodules.loading.worker_watchdog import _interrupts_deferred

if __name__ == "__main__":
    worker = multiprocessing.get_context(sys.argv[1]).Process(target=os.kill, args=(0, signal.SIGINT))
    os.setpgrp()
    signal.signal(signal.SIGINT, lambda *_: None)  # for this process alone; ignoring it would be inherited
    with _interrupts_deferred(sys.argv[1]):
        worker.start()
    worker.join()
    sys.exit(worker.exitcode)
"""


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


@contextmanager
def slow_loader(root, start, split="train", timeout_s=300, num_workers=1):
    """A loader whose workers read their first video for a minute, and that video's keys by process."""
    with serving(root) as server:
        data = ShardedVideoDataModule(
            server.url,
            batch_size=2,
            num_frames=4,
            crop_size=32,
            flip_probability=0.0,
            num_workers=num_workers,
            worker_start=start,
            worker_timeout_s=timeout_s,
            shuffle="none",
        )
        loader = data.train_dataloader() if split == "train" else data.test_dataloader()
        server.faults, server.every, server.stall_s = ("stall",), 1, 60
        yield loader, data.index


def quick_loader(root, **settings):
    """A loader of training clips that are read from a folder, in no time."""
    data = ShardedVideoDataModule(str(root), num_frames=4, crop_size=32, flip_probability=0.0, **settings)
    return data.train_dataloader()


def strike_when_reading(loader, number, then_timeout_s=None):
    """Sends a signal to the first worker that reads, from a thread; gives its process and the row that it was reading.

    A limit for which the worker may be stuck is set after the signal, as this thread may be late on a busy machine.
    """
    struck = []

    def strike():
        for _ in range(1200):
            time.sleep(0.05)
            pid, row, _ = loader._watchdog._heartbeats.read()[0].tolist()
            if pid and row != IDLE:
                time.sleep(0.3)
                struck.append((pid, row))
                os.kill(pid, number)
                if then_timeout_s is not None:
                    loader._watchdog._timeout_s = then_timeout_s
                return

    threading.Thread(target=strike, daemon=True).start()
    return struck


def gone(pid):
    """Whether a process has ended (a zombie has)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.parametrize("split", ["train", pytest.param("test", marks=slow)])
@pytest.mark.parametrize("start", ["fork", pytest.param("forkserver", marks=slow), pytest.param("spawn", marks=slow)])
def test_a_worker_that_is_killed_is_explained(motion_dataset, start, split):
    with slow_loader(motion_dataset, start, split) as (loader, index):
        struck = strike_when_reading(loader, signal.SIGKILL)
        with pytest.raises(WorkerFailedError) as caught:
            next(iter(loader))
        [(pid, row)] = struck
        entry = index.entry(row)
        assert str(caught.value) == (
            f"DataLoader worker 0 (process {pid}) was lost: killed by SIGKILL, as the system does when memory runs "
            f"out; it was reading video {entry.key} in {entry.shard}; if that video is to blame, add {entry.key} to "
            f"{index.root}/quarantine.csv and resume"
        )


@pytest.mark.parametrize("start", ["fork", pytest.param("forkserver", marks=slow), pytest.param("spawn", marks=slow)])
def test_a_worker_that_is_stopped_is_killed_and_explained(motion_dataset, start):
    with slow_loader(motion_dataset, start, timeout_s=300) as (loader, index):
        struck = strike_when_reading(loader, signal.SIGSTOP, then_timeout_s=2)
        with pytest.raises(WorkerFailedError) as caught:
            next(iter(loader))
        [(pid, row)] = struck
        assert f"(process {pid}) was stuck for 2 s (worker_timeout_s) and was killed" in str(caught.value)
        assert f"it was reading video {index.entry(row).key} in" in str(caught.value)
        assert gone(pid)


def test_the_other_workers_end_too(motion_dataset):
    with slow_loader(motion_dataset, "fork", num_workers=2) as (loader, _):
        strike_when_reading(loader, signal.SIGSEGV)
        with pytest.raises(WorkerFailedError, match="killed by SIGSEGV, a crash inside a library"):
            next(iter(loader))
        pids = [int(pid) for pid in loader._watchdog._heartbeats.read()[:, 0]]
        assert len(pids) == 2
        deadline = time.monotonic() + 30
        while not all(gone(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(gone(pid) for pid in pids)


def worker_that_has_read_ahead(loader, num_batches):
    """The process of the only worker, once it has read so many batches of two videos and has nothing to read."""
    notes = 3 * num_batches  # of each: two videos, and that it is done
    for _ in range(1200):
        pid, row, noted = loader._watchdog._heartbeats.read()[0].tolist()
        if (row, noted) == (IDLE, notes):
            return pid
        time.sleep(0.05)
    pytest.fail(f"after a minute it has noted {noted} things, not {notes}")


def test_a_worker_that_is_killed_between_videos(motion_dataset):
    loader = quick_loader(motion_dataset, batch_size=2, num_workers=1, prefetch_factor=2, worker_start="fork")
    batches = iter(loader)
    next(batches)
    os.kill(worker_that_has_read_ahead(loader, 3), signal.SIGKILL)
    with pytest.raises(WorkerFailedError, match="memory runs out; it was reading no video; if this comes again"):
        list(batches)


def test_a_worker_that_is_stopped_between_videos_ends_the_run(motion_dataset):
    loader = quick_loader(motion_dataset, batch_size=2, num_workers=1, worker_start="fork", worker_timeout_s=300)
    batches = iter(loader)
    next(batches)
    os.kill(worker_that_has_read_ahead(loader, 3), signal.SIGSTOP)
    loader._watchdog._timeout_s = 2  # not before: a busy machine may take longer to read
    with pytest.raises(WorkerFailedError, match=r"gave no batch for 2 s \(worker_timeout_s\) and was killed"):
        list(batches)


@pytest.mark.parametrize("start", ["forkserver", pytest.param("spawn", marks=slow)])
def test_a_worker_that_has_not_begun_outlives_ctrl_c(tmp_path, start):
    """The first worker of a process too, with which Python starts helpers of its own."""
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED_AT_ONCE)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, script, start], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_worker_that_is_killed_between_epochs(motion_dataset):
    loader = quick_loader(motion_dataset, batch_size=8, num_workers=2)
    assert len(list(loader)) == 5
    os.kill(int(loader._watchdog._heartbeats.read()[1, 0]), signal.SIGKILL)
    loader.sampler.set_epoch(1)
    with pytest.raises(WorkerFailedError, match=r"DataLoader worker 1 \(process \d+\) was lost: killed by SIGKILL"):
        list(loader)


def test_slow_consumers_and_later_epochs_are_no_failure(motion_dataset):
    loader = quick_loader(motion_dataset, batch_size=8, num_workers=2, worker_start="fork", worker_timeout_s=3)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        count = 0
        for batch in loader:
            count += batch.num_videos
            if count == 8 and epoch == 0:
                time.sleep(4)  # a long step: the workers have nothing to read
        assert count == 40


def test_errors_of_the_program_are_left_as_they_are(motion_dataset):
    loader = quick_loader(motion_dataset, batch_size=2, num_workers=1, worker_start="fork")
    loader._loader.dataset.sampler.__dict__["shape"] = None  # a fault of ours, not of the worker
    with pytest.raises(AttributeError, match="NoneType"):
        next(iter(loader))
