"""Networks of other libraries, and low-rank updates of them, with parameters in shards: the same as with whole ones."""

from pathlib import Path

import pytest

from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from tests.pipeline.processes.test_fully_sharded_strategy import fit, largest_difference
from tests.pipeline.test_video_transformers import fit_words
from tests.process_group import rank_variables  # noqa: F401 # a fixture
from tests.video_transformers import save_video_transformer

NUM_STEPS = 3
LIMITS = ["--trainer.max_steps", str(NUM_STEPS), "--trainer.limit_val_batches", "1", "--trainer.log_every_n_steps", "1"]
CASES = {
    "all weights, layers recomputed": (
        "videomae",
        {"layer_decay": 0.8, "drop_path": 0.1, "checkpoint_activations": True, "optimizer": "sgd"},
    ),
    "low-rank updates": ("timesformer", {"lora_rank": 2, "optimizer": "adamw"}),
    "low-rank updates, attentive head": ("vjepa2", {"lora_rank": 2, "optimizer": "adamw"}),
}
ON_TWO_RANKS = "low-rank updates"


def configuration(case: str, folder: Path, dataset: Path) -> str:
    family, arguments = CASES[case]
    save_video_transformer(folder / "network", family)
    arguments = arguments | {"network": f"transformers:{folder / 'network'}", "learning_rate": 1e-2}
    return fit_words(folder, dataset, {"class_path": "PretrainedVideoNetwork", "init_args": arguments})[-1]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_they_train_in_shards_as_whole(motion_dataset, tmp_path, rank_variables, case):  # noqa: F811
    """One rank, whose shards are whole: what gathers, computes and steps is the same code as with several."""
    path = configuration(case, tmp_path, motion_dataset)
    ends = []
    for strategy in ("auto", "fsdp2"):
        folder = tmp_path / strategy
        words = ["--trainer.strategy", strategy, "--trainer.default_root_dir", str(folder)]
        assert main(["fit", "--config", path, *words, *LIMITS]) == 0
        ends.append(read_checkpoint(folder / "last.ckpt")["state_dict"])
    assert largest_difference(*ends) < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_ranks_train_one_in_shards_as_whole(motion_dataset, tmp_path):
    path = configuration(ON_TWO_RANKS, tmp_path, motion_dataset)
    losses, ends = [], []
    for strategy in ("ddp", "fsdp2"):
        rows = fit(path, tmp_path / strategy, f"--trainer.strategy={strategy}", *LIMITS)
        losses.append([float(row["train/loss"]) for row in rows if row["train/loss"]])
        ends.append(read_checkpoint(tmp_path / strategy / "last.ckpt")["state_dict"])
    assert len(losses[0]) == NUM_STEPS
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert largest_difference(*ends) < 1e-4
