"""Ranks of an evaluation or export that failed are ended, also where they heed no SIGTERM."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from pipeline.processes.rank_exit import end_other_ranks
from tests.conftest import REPOSITORY

# As a rank in a collective of NCCL is: whatever handler Python has for SIGTERM never runs.
DEAF = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})"

RUN = f"""
import os, signal, sys, time
from pathlib import Path

import pytorch_lightning as pl
import torch

from pipeline.inference.inference_options import ComputeOptions
from pipeline.inference.split_runner import run_over_split

mark = Path(sys.argv[1])


class Network(pl.LightningModule):
    def predict_step(self, batch, batch_idx):
        if self.global_rank == 1:
            {DEAF}
            mark.with_suffix(".new").write_text(str(os.getpid()))
            mark.with_suffix(".new").rename(mark)
            time.sleep(600)
        while not mark.exists():
            time.sleep(0.05)
        raise ValueError("what went wrong")


class Data(pl.LightningDataModule):
    def predict_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(4, 1))


if __name__ == "__main__":
    run_over_split(Network(), Data(), pl.Callback(), ComputeOptions(accelerator="cpu", devices=2))
"""


def is_there(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_a_rank_that_heeds_no_sigterm_is_ended():
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=3, num_nodes=1)
    sleep = "import signal, time; {}; print('ready', flush=True); time.sleep(600)"
    deaf = subprocess.Popen([sys.executable, "-c", sleep.format(DEAF)], stdout=subprocess.PIPE, text=True)
    done = subprocess.Popen([sys.executable, "-c", ""])
    try:
        assert deaf.stdout.readline() == "ready\n"
        launcher.procs = watched = [deaf, done]
        end_other_ranks(launcher)
        assert deaf.poll() == -signal.SIGKILL
        assert watched == [], "Lightning's observer has this list: it would kill this process for theirs"
    finally:
        deaf.kill()
        deaf.wait()


@pytest.mark.slow
def test_a_failed_run_ends_with_all_its_ranks(tmp_path):
    script, mark = tmp_path / "action-pipeline-run", tmp_path / "pid"
    script.write_text(RUN)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(mark)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, "not killed by Lightning's observer"
    assert done.stderr.strip().endswith("ValueError: what went wrong")
    assert not is_there(int(mark.read_text()))
