"""The trials of a search are one group of Weights & Biases, a run each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPT = """
from pytorch_lightning.loggers import WandbLogger
from jobs.spec.job import Job
from jobs.spec.job_spec import JobSpec
from jobs.training.worker import name_wandb_run
name_wandb_run(Job(JobSpec(name="0003", storage_path="runs/rates/trials"), ".", search="rates"))
run = WandbLogger(project="p", offline=True).experiment
print(run.group, run.name, run.id)
"""


@pytest.mark.slow
def test_a_trial_is_a_run_of_its_search(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "WANDB_SILENT": "true"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    group, name, run_id = done.stdout.split()
    assert (group, name) == ("rates", "rates-0003")
    assert len(run_id) == 8
