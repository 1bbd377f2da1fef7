"""A loss that is NaN on one rank, once or more often: the run ends with a sentence, or leaves the steps out."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from pipeline.training.metrics_csv import read_metrics
from tests.pipeline.training.fault_injection import SometimesNaN
from tests.pipeline.training.test_lightning_cli import TINY
from tests.pipeline.training.test_run import config  # noqa: F401 # a fixture

EVERY_STEP = {"every_n_steps": 1, "keep_newest": 99}


def troubled(bad_batches, bad_rank=0, **more):
    """The model section of a config."""
    arguments = TINY["model"]["init_args"] | {"bad_batches": bad_batches, "bad_rank": bad_rank, **more}
    return {"class_path": "tests.pipeline.training.fault_injection.SometimesNaN", "init_args": arguments}


def state_of(folder, step):
    return torch.load(folder / "checkpoints" / f"step-{step:08d}.ckpt", weights_only=True)


def test_a_nan_ends_the_run_and_says_where(config, tmp_path, capsys):  # noqa: F811
    path = config(model=troubled([4]), checkpoints=EVERY_STEP)
    assert main(["fit", "--config", path]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: the loss is not finite at step 5 in epoch 0: nan on rank 0, videos ")
    last = tmp_path / "run" / "checkpoints" / "step-00000004.ckpt"
    assert f"the newest checkpoint is {last}; go on with: python -m pipeline fit --config {path} --ckpt_path " in line
    keys = re.search(r"videos ([^;]+);", line)[1].split(", ")
    assert len(keys) == 4
    assert not (tmp_path / "run" / "checkpoints" / "step-00000005.ckpt").exists()


@pytest.mark.parametrize(
    ("accumulate", "what", "optimizer"),
    [
        (1, "activations", "sgd"),
        (2, "activations", "sgd"),
        (1, "loss", "sgd"),  # its gradients are finite
        pytest.param(1, "gradients", "sgd", marks=pytest.mark.slow),  # the loss is finite
        pytest.param(1, "activations", "adamw", marks=pytest.mark.slow),
    ],
)
def test_bad_steps_are_left_out_and_counted(config, tmp_path, accumulate, what, optimizer):  # noqa: F811
    """Neither weights nor the optimizer's averages nor the running statistics of batch norms change in such a step."""
    trainer = {"max_epochs": 1, "log_every_n_steps": 1, "accumulate_grad_batches": accumulate}
    bad = {"max_bad_batches": 2}
    model = troubled([4, 7], what=what, optimizer=optimizer)
    path = config(trainer=trainer, model=model, checkpoints=EVERY_STEP, bad_loss=bad)
    assert main(["fit", "--config", path]) == 0
    left_out = [5, 8] if accumulate == 1 else [3, 4]
    for step in range(2, 10 // accumulate + 1):
        before, after = (state_of(tmp_path / "run", one) for one in (step - 1, step))
        changed = [
            name
            for name in before["state_dict"]
            if not torch.equal(before["state_dict"][name], after["state_dict"][name])
        ]
        assert bool(changed) == (step not in left_out), (step, changed)
        assert all(tensor.isfinite().all() for tensor in after["state_dict"].values())
        averages = [
            [value for state in one["optimizer_states"][0]["state"].values() for value in state.values()]
            for one in (before, after)
        ]
        assert all(value.isfinite().all() for value in averages[1])
        assert all(map(torch.equal, *averages)) == (step in left_out)
    counts = [row["bad_batches"] for row in read_metrics(tmp_path / "run" / "metrics.csv")]
    assert counts[-1] == "2"


def test_the_first_step_of_all_is_left_out_when_it_is_bad(config, tmp_path):  # noqa: F811
    """SGD makes its momentum buffers in it, without values, so that it cannot be left out on the device."""
    model = troubled([0])
    path = config(model=model, trainer={"max_epochs": 1}, checkpoints=EVERY_STEP, bad_loss={"max_bad_batches": 1})
    assert main(["fit", "--config", path]) == 0
    first, second = (state_of(tmp_path / "run", step) for step in (1, 2))
    assert first["optimizer_states"][0]["state"] == {}
    assert second["optimizer_states"][0]["state"]
    assert all(tensor.isfinite().all() for tensor in second["state_dict"].values())


class OwnOptimizer(SometimesNaN):
    """With an optimizer that is not fused, which cannot leave a step out on the device."""

    def configure_optimizers(self):
        return torch.optim.RMSprop(self.parameters(), lr=1e-3)


def test_an_optimizer_that_cannot_skip_by_itself_gets_no_gradients(config, tmp_path):  # noqa: F811
    model = troubled([4]) | {"class_path": f"{__name__}.OwnOptimizer"}
    path = config(model=model, trainer={"max_epochs": 1}, checkpoints=EVERY_STEP, bad_loss={"max_bad_batches": 1})
    assert main(["fit", "--config", path]) == 0
    states = [state_of(tmp_path / "run", step)["state_dict"] for step in (4, 5, 6)]
    equal = [all(torch.equal(before[name], after[name]) for name in before) for before, after in pairwise(states)]
    assert equal == [True, False]


def test_one_more_than_allowed_ends_the_run(config, tmp_path, capsys):  # noqa: F811
    path = config(model=troubled([2, 5]), checkpoints=EVERY_STEP, bad_loss={"max_bad_batches": 1})
    assert main(["fit", "--config", path]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: the loss is not finite at step 6 in epoch 0: ")
    assert "1 such steps were left out before" in line


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0, 1])
def test_two_ranks_do_the_same_where_one_has_a_nan(config, tmp_path, allowed):  # noqa: F811
    record = {
        "class_path": "tests.pipeline.training.fault_injection.RecordWeights",
        "init_args": {"folder": str(tmp_path / "ends")},
    }
    trainer = {"devices": 2, "strategy": "ddp", "max_epochs": 2, "callbacks": [record]}
    path = config(
        trainer=trainer, model=troubled([2], bad_rank=1), checkpoints=EVERY_STEP, bad_loss={"max_bad_batches": allowed}
    )
    line = [sys.executable, "-m", "pipeline", "fit", "--config", path]
    run = subprocess.run(line, capture_output=True, text=True, timeout=200)
    if not allowed:
        assert run.returncode != 0
        told = [one for one in run.stderr.splitlines() if one.startswith("error: ")]
        assert told
        assert all("at step 3 in epoch 0: nan on rank 1, videos " in one for one in told)
        assert "step-00000002.ckpt" in told[-1]
        return
    assert run.returncode == 0, run.stderr
    first, second = ((tmp_path / "ends" / f"rank{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    last = read_checkpoint(tmp_path / "run" / "last.ckpt")
    assert last["global_step"] == 10
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())
