"""What a training step waits for: one collective of two bytes besides the gradients, and never its own results."""

import json
import subprocess
import sys

import pytest

from pipeline.__main__ import main
from tests.pipeline.training.test_run import config  # noqa: F401 # a fixture

# Reads of what the previous step has left in memory of the host.
LATE_READS = {("numpy", "device_transfer.py", "read"), ("tolist", "preemption.py", "_wait_for_results")}
MIXED = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "label_smoothing": 0.1}


def counted(path, *words):
    """The arguments of a fit whose waits are counted."""
    return ["fit", "--config", path, "--trainer.log_every_n_steps", "100", *words]


@pytest.mark.parametrize("options", [{}, MIXED, {"optimizer": "adamw"}])
def test_the_host_reads_no_result_of_a_step(config, tmp_path, options):  # noqa: F811
    counter = {"class_path": "tests.pipeline.training.recording.CountWaits", "init_args": {"folder": str(tmp_path)}}
    trainer = {"max_epochs": 1, "callbacks": [counter], "enable_progress_bar": True, "gradient_clip_val": 1.0}
    path = config(trainer=trainer, bad_loss={"max_bad_batches": 1})
    assert main(counted(path, *(f"--model.{name}={value}" for name, value in options.items()))) == 0
    found = json.loads((tmp_path / "rank0.json").read_text())
    assert {tuple(place) for place in found["places"]} == {("numpy", "device_transfer.py", "read")}
    assert found["collectives"] == []


@pytest.mark.slow
def test_two_ranks_agree_by_one_small_collective_a_step(config, tmp_path):  # noqa: F811
    counter = {"class_path": "tests.pipeline.training.recording.CountWaits", "init_args": {"folder": str(tmp_path)}}
    trainer = {"max_epochs": 1, "callbacks": [counter], "devices": 2, "strategy": "ddp"}
    path = config(trainer=trainer, data={"batch_size": 2}, checkpoints={"every_minutes": 30})
    run = subprocess.run(
        [sys.executable, "-m", "pipeline", *counted(path)], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    for rank in (0, 1):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert {tuple(place) for place in found["places"]} == LATE_READS
        agreements = [one for one in found["collectives"] if one == ["allreduce_", [["torch.uint8", 2]]]]
        assert len(agreements) == found["steps"]
        others = [one for one in found["collectives"] if one not in agreements]
        assert {name for name, _ in others} == {"allreduce_"}  # of gradients
        assert {dtype for _, tensors in others for dtype, _ in tensors} == {"torch.float32"}
