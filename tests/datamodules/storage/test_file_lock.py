"""Locks between processes: exclusive, and free when their holder was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.storage.file_lock import Timeout, file_lock

HOLD = """
import os, sys, time
from pathlib import Path
from datamodules.storage.file_lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            file_lock(path, wait=False).acquire()
        holder.kill()
        holder.wait()
        with file_lock(path):  # the file is still there
            assert path.exists()


def test_two_locks_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock"), pytest.raises(Timeout):
        file_lock(tmp_path / "lock", wait=False).acquire()
