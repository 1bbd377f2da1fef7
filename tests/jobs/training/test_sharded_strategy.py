"""`fsdp2` under Ray: which command lines get it, and a job whose checkpoints are sharded."""

import re
from pathlib import Path

import pytest
import yaml

from jobs.client import local_state
from jobs.training.sharded_strategy import strategy_arguments
from lightning_modules.weights.checkpoint_file import read_checkpoint
from tests.jobs.conftest import SPEC, Run

RAY = ['--config={"trainer": {"strategy": {"class_path": "jobs.training.sharded_strategy.RayFullyShardedStrategy"}}}']


def test_a_command_that_asks_for_it_gets_it(tmp_path: Path) -> None:
    def config(strategy: object, verb: str = "") -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        trainer = {"trainer": {"strategy": strategy}}
        path.write_text(yaml.safe_dump({verb: trainer} if verb else trainer))
        return str(path)

    assert strategy_arguments(["--trainer.strategy", "fsdp2"]) == RAY
    assert strategy_arguments(["--trainer.strategy=fsdp2", "--trainer.devices=2"]) == RAY
    assert strategy_arguments(["--config", config("fsdp2")]) == RAY
    assert strategy_arguments([f"--config={config('fsdp2', 'fit')}"]) == RAY
    whole = {"class_path": "pipeline.processes.fully_sharded_strategy.FullyShardedStrategy"}
    assert strategy_arguments(["--config", config(whole)]) == RAY
    assert strategy_arguments(["--config", config("fsdp2"), "--trainer.strategy", "ddp"]) == []
    assert strategy_arguments(["--trainer.strategy", "ddp", "--config", config("fsdp2")]) == RAY
    assert strategy_arguments(["--config", config("ddp")]) == strategy_arguments([]) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_job_saves_in_shards(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path
) -> None:
    data = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "flip_probability": 0.0, "num_workers": 0}
    content = {
        "model": {"class_path": "C3D", "init_args": {"width": 2, "num_frames": 16, "crop_size": 32}},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": {"max_epochs": 1, "logger": False, "enable_progress_bar": False, "strategy": "fsdp2"},
    }
    (folder / "sharded.yaml").write_text(yaml.safe_dump(content))
    arguments = [
        "submit",
        "--spec",
        SPEC,
        "--name",
        "sharded",
        "--no_check",
        "--checkpoint_every_n_steps",
        "2",
        "--wait",
    ]
    finished = run_jobs(*arguments, "--", "fit", "--config", "sharded.yaml", timeout_s=1000)
    assert finished.returncode == 0, finished.stdout
    run = folder / "runs" / "sharded"
    assert all(path.is_dir() for path in (run / "checkpoints").glob("step-*"))
    assert re.search(r"last checkpoint: \S+/last.ckpt", finished.stdout)
    checkpoint = read_checkpoint(run / "last.ckpt")
    assert checkpoint["classifier"]["class_path"] == "lightning_modules.C3D"
    assert checkpoint["global_step"] == 5
