"""A child process that hangs, crashes, is stopped, or loses its parent."""

import inspect
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from datamodules.video.decoding import DecodeError, probe
from pipeline.processes import killable_process
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung, ProcessUnavailable
from tests.pipeline.processes import steady_work


@pytest.fixture
def child() -> Iterator[KillableProcess]:
    with KillableProcess() as process:
        yield process


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for (a zombie) does not."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(status.strip()) and not status.strip().startswith("Z")


def wait_until_gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


def test_one_child_serves_many_calls(child: KillableProcess) -> None:
    pid = child.call(os.getpid, timeout=10)
    assert pid != os.getpid()
    assert [child.call(math.factorial, number, timeout=10) for number in (3, 4)] == [6, 24]
    assert child.call(bytes, 5_000_000, timeout=10) == bytes(5_000_000)
    assert child.call(os.getpid, timeout=10) == pid


def test_errors_come_back_as_they_were(child: KillableProcess) -> None:
    with pytest.raises(DecodeError) as caught:
        child.call(probe, b"this is no video", timeout=30)
    assert caught.value.reason == "unreadable"
    with pytest.raises(ValueError, match="math domain"):
        child.call(math.sqrt, -1, timeout=10)
    assert child.call(math.sqrt, 4, timeout=10) == 2


def test_a_hanging_call_is_killed_and_the_next_one_works(child: KillableProcess) -> None:
    pid = child.call(os.getpid, timeout=10)
    began = time.monotonic()
    with pytest.raises(ProcessHung, match=r"more than 0\.3 s"):
        child.call(time.sleep, 60, timeout=0.3)
    assert time.monotonic() - began < 3
    assert not is_alive(pid)
    assert child.call(math.sqrt, 9, timeout=10) == 3


def test_a_call_that_makes_progress_may_take_long(child: KillableProcess) -> None:
    """Three seconds, of which one without progress would be too many; as a call without progress it is killed."""
    assert child.call(steady_work.work, 15, 0.2, timeout=1.0, by_progress=True) == 15
    assert child.call(steady_work.report_fast, 300_000, timeout=1.0, by_progress=True) == 300_000
    with pytest.raises(ProcessHung, match=r"^took more than 0\.5 s$"):
        child.call(time.sleep, 3, timeout=0.5)
    began = time.monotonic()
    with pytest.raises(ProcessHung, match=r"^made no progress for 0\.5 s$"):
        child.call(steady_work.stand_still, timeout=0.5, by_progress=True)
    assert time.monotonic() - began < 5
    assert child.call(math.sqrt, 9, timeout=10) == 3


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_named_and_the_next_call_works(child: KillableProcess, number: signal.Signals) -> None:
    child.call(math.sqrt, 1, timeout=10)
    with pytest.raises(ProcessDied, match=number.name):
        child.call(signal.raise_signal, number, timeout=10)
    with pytest.raises(ProcessDied, match="exit code 3"):
        child.call(os._exit, 3, timeout=10)
    assert child.call(math.sqrt, 9, timeout=10) == 3


def test_a_child_killed_between_two_calls_is_replaced(child: KillableProcess) -> None:
    pid = child.call(os.getpid, timeout=10)
    os.kill(pid, signal.SIGKILL)
    assert wait_until_gone(pid, 5)
    assert child.call(math.sqrt, 9, timeout=10) == 3


def test_stop_from_another_thread_ends_a_call(child: KillableProcess) -> None:
    child.call(math.sqrt, 1, timeout=10)
    threading.Timer(0.3, child.stop).start()
    began = time.monotonic()
    with pytest.raises(ProcessUnavailable, match="stopped"):
        child.call(time.sleep, 60, timeout=60)
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessUnavailable, match="stopped"):
        child.call(math.sqrt, 1, timeout=10)


def test_a_child_that_cannot_start_is_an_error_not_a_crash(
    child: KillableProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise ImportError('a broken installation')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ProcessUnavailable, match=r"cannot be started: exit code 1: (.|\n)*a broken installation"):
        child.call(math.sqrt, 1, timeout=10)


def test_a_busy_child_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed with SIGKILL while the child is in a call that would take a minute."""
    code = """
import os, sys, threading, time
from pipeline.processes import killable_process
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import KillableProcess
child = KillableProcess()
print(child.call(os.getpid, timeout=10), flush=True)
child.call(time.sleep, 60, timeout=60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    assert wait_until_gone(pid, 10)


def test_a_child_has_the_environment_folder_and_path_that_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "pipeline").symlink_to(Path(killable_process.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "COLOR": "blue"}
    with KillableProcess(environment, tmp_path, inherit_path=False) as child:
        assert child.call(os.getenv, "COLOR", timeout=10) == "blue"
        assert child.call(os.getcwd, timeout=10) == str(tmp_path)
        assert child.call(inspect.getsourcefile, KillableProcess, timeout=10).startswith(str(tmp_path))


def test_the_death_of_a_child_is_noticed_while_its_own_child_lives(child: KillableProcess) -> None:
    """A DataLoader worker, say, holds the connection open when the process that forked it was killed."""
    began = time.monotonic()
    with pytest.raises(ProcessDied, match="SIGKILL") as died:
        child.call(steady_work.fork_and_die, 20, timeout=60)
    assert time.monotonic() - began < 10
    assert died.value.exit_status == -signal.SIGKILL


def test_a_pool_lends_its_children_and_drops_what_waits_where_one_fails() -> None:
    def work(number: int, child: KillableProcess) -> float:
        return child.call(math.sqrt, number, timeout=10)

    with KillablePool(2, timeout=10) as pool:
        assert [pool.submit(partial(work, number)).result() for number in (4, 9)] == [2, 3]
        assert pool.map(math.factorial, [(3,), (4,)], lambda: None) == [6, 24]

    def fail() -> None:
        with KillablePool(1, timeout=60) as pool:
            failing = pool.submit(partial(work, -1))
            pool.submit(lambda child: child.call(time.sleep, 60, timeout=60))
            failing.result()

    began = time.monotonic()
    with pytest.raises(ValueError, match="math domain"):
        fail()
    assert time.monotonic() - began < 20
