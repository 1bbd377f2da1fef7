"""A DataLoader worker of one rank is lost: the whole run ends soon, with the video's key, and leaves no process."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from tests.datamodules.storage.flaky_server import serving

COMMAND = """
    fit --config pipeline/configs/demo.yaml --trainer.max_epochs 20 --trainer.logger false
    --trainer.enable_checkpointing false --trainer.devices 2 --trainer.strategy ddp --data.init_args.num_workers 1
    --data.init_args.batch_size 2 --trainer.num_sanity_val_steps 0
"""


def children(pid):
    """Ids of the child processes of a process, with the LOCAL_RANK that they were started with ('' for none)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                rank = re.search(rb"(?:^|\0)LOCAL_RANK=(\d+)", (folder / "environ").read_bytes())
                found[int(folder.name)] = rank[1].decode() if rank else ""
    return found


def lives(pid):
    """Whether a process has not ended; one that nobody asks for its status has."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def workers_of(pid, rank):
    """DataLoader workers of the first rank, which is process `pid`, or of the second, which it started."""
    mine = children(pid)
    if rank == 0:
        return [child for child, local in mine.items() if local == ""]
    return [worker for child, local in mine.items() if local == "1" for worker in children(child)]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_all_ranks_end_when_a_worker_of_one_is_lost(motion_dataset, tmp_path, rank, number):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with serving(motion_dataset) as server:
        words = [*COMMAND.split(), "--data.init_args.root", server.url, "--data.init_args.worker_start", "fork"]
        words += ["--data.init_args.worker_timeout_s", "8", "--trainer.default_root_dir", str(tmp_path)]
        log = (tmp_path / "log").open("w+")
        run = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *words], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 120
            while not (len(server.served) > 20 and len(workers_of(run.pid, rank)) == 1):
                assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            server.faults, server.every, server.stall_s = ("stall",), 1, 90  # all workers will read for long
            time.sleep(3)
            [worker] = workers_of(run.pid, rank)
            processes = [run.pid, *children(run.pid)]
            os.kill(worker, number)
            run.wait(timeout=90)
        finally:
            run.kill()
        text = (tmp_path / "log").read_text()
        assert run.returncode != 0, text[-3000:]
        how = "was lost: killed by SIGKILL" if number == signal.SIGKILL else "was stuck for 8 s"
        told = re.search(rf"DataLoader worker 0 \(process \d+\) {how}.*; it was reading video (\S+) in", text)
        assert told, text[-3000:]
        assert told[1] in {DatasetIndex.open(motion_dataset).entry(row).key for row in range(64)}
        deadline = time.monotonic() + 30
        while any(map(lives, [*processes, worker])) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not [pid for pid in [*processes, worker] if lives(pid)], text[-3000:]
