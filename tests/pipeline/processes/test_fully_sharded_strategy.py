"""Training with parameters in shards: the same as with whole ones; checkpoints that any number of ranks resumes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules import VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from pipeline.training.metrics_csv import read_metrics
from tests.pipeline.training.test_lightning_cli import TINY, assert_same_weights, weights
from tests.pipeline.training.test_run import EMA, config  # noqa: F401 # a fixture
from tests.process_group import rank_variables  # noqa: F401 # a fixture

STEP = {"every_n_steps": 1, "keep_newest": 100, "every_minutes": 0}
NETWORKS = {
    "precise batch norm, clipping, mixing": (
        TINY["model"],
        {"precise_bn_batches": 2, "mixup_alpha": 0.4, "optimizer": "adamw"},
        {"gradient_clip_val": 0.1},
    ),
    "recurrent layers": ({"class_path": "CNNLSTM"}, {"channels": [2, 2], "hidden_size": 4}, {}),
    "layers called by their parts": ({"class_path": "Video2Vec"}, {"channels": [2, 2], "hidden_size": 4}, {}),
    "activations recomputed, layers frozen": (
        TINY["model"],
        {"checkpoint_activations": True, "freeze": ["conv1"], "learning_rate_scale": {"fc7": 10}},
        {"accumulate_grad_batches": 2},
    ),
}


def fit(path: str, folder: Path, *words: str, ranks: int = 2) -> list[dict[str, str]]:
    """Fits in processes of its own, as a person does; returns the rows of metrics.csv."""
    line = [sys.executable, "-m", "pipeline", "fit", "--config", path, "--trainer.default_root_dir", str(folder)]
    run = subprocess.run([*line, f"--trainer.devices={ranks}", *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return read_metrics(folder / "metrics.csv")


def checkpoint(folder: Path, step: int, suffix: str = "sharded") -> Path:
    return folder / "checkpoints" / f"step-{step:08d}.{suffix}"


def largest_difference(first: dict, second: dict) -> float:
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def augmented(config, folder: Path) -> str:  # noqa: F811
    """A configuration of ten steps on two ranks with all that is random, which notes bytes in `folder / bytes`."""
    record = {
        "class_path": "tests.pipeline.training.recording.RecordBytes",
        "init_args": {"folder": str(folder / "bytes")},
    }
    trainer = {"max_epochs": 2, "log_every_n_steps": 1, "gradient_clip_val": 1.0, "callbacks": [record]}
    data = {"rand_augment": {"num_ops": 2, "magnitude": 7}}
    model = TINY["model"] | {"init_args": TINY["model"]["init_args"] | {"dropout": 0.5, "precise_bn_batches": 2}}
    return config(trainer=trainer, data=data, checkpoints=STEP, model=model)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_ranks_in_shards_train_as_two_whole_ones_with_half_of_the_bytes(config, tmp_path):  # noqa: F811
    path = augmented(config, tmp_path)
    whole = fit(path, tmp_path / "ddp", "--trainer.strategy=ddp")
    shards = fit(path, tmp_path / "fsdp2", "--trainer.strategy=fsdp2")
    assert len(whole) == len(shards) == 10
    for one, other in zip(whole, shards, strict=True):
        for name in ("train/loss", "val/loss", "val/top1"):
            assert (one.get(name) or "") == (other.get(name) or "") or float(one[name]) == pytest.approx(
                float(other[name]), rel=1e-4
            ), name
    last, last_whole = checkpoint(tmp_path / "fsdp2", 10), checkpoint(tmp_path / "ddp", 10, "ckpt")
    assert largest_difference(weights(last_whole), weights(last)) < 1e-4
    bytes_of = {path.name: list(map(int, path.read_text().split())) for path in (tmp_path / "bytes").iterdir()}
    for rank in (0, 1):  # parameters, gradients, optimizer
        counts = zip(bytes_of[f"DDPStrategy{rank}"], bytes_of[f"FullyShardedStrategy{rank}"], strict=True)
        shares = [in_shards / in_whole for in_whole, in_shards in counts]
        print(f"rank {rank}: shares of the bytes {shares}")
        assert all(0.4 < share < 0.6 for share in shares)
    middle = f"--ckpt_path={checkpoint(tmp_path / 'ddp', 7, 'ckpt')}"
    fit(path, tmp_path / "from-ddp", "--trainer.strategy=fsdp2", middle)
    assert largest_difference(weights(last), weights(checkpoint(tmp_path / "from-ddp", 10))) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_two_and_three_ranks_resume_what_two_saved(config, tmp_path):  # noqa: F811
    path = augmented(config, tmp_path)
    fit(path, tmp_path / "whole", "--trainer.strategy=fsdp2")
    last = checkpoint(tmp_path / "whole", 10)
    middle = f"--ckpt_path={checkpoint(tmp_path / 'whole', 7)}"  # within the second epoch
    fit(path, tmp_path / "two", "--trainer.strategy=fsdp2", middle)
    assert_same_weights(weights(last), weights(checkpoint(tmp_path / "two", 10)))
    for strategy in ("fsdp2", "auto"):
        rows = fit(path, tmp_path / f"one-{strategy}", f"--trainer.strategy={strategy}", middle, ranks=1)
        assert rows[-1]["samples"] == "80"  # each video once
    one, one_whole = checkpoint(tmp_path / "one-fsdp2", 13), checkpoint(tmp_path / "one-auto", 13, "ckpt")
    assert largest_difference(weights(one), weights(one_whole)) < 1e-4
    again = f"--ckpt_path={checkpoint(tmp_path / 'one-fsdp2', 9)}"  # 1 to 2
    assert fit(path, tmp_path / "again", "--trainer.strategy=fsdp2", again)[-1]["samples"] == "80"
    rows = fit(path, tmp_path / "three", "--trainer.strategy=fsdp2", middle, ranks=3)
    assert rows[-1]["samples"] == "80"
    fit(path, tmp_path / "ddp", "--trainer.strategy=ddp", middle)
    assert largest_difference(weights(last), weights(checkpoint(tmp_path / "ddp", 10, "ckpt"))) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rank_whose_videos_cannot_be_decoded_does_what_the_others_wait_for(config, tmp_path):  # noqa: F811
    empty = {"class_path": "tests.pipeline.training.fault_injection.EmptyBatches", "init_args": {"rank": 1, "step": 2}}
    rows = fit(config(trainer={"max_epochs": 1, "callbacks": [empty]}), tmp_path / "run", "--trainer.strategy=fsdp2")
    assert rows[-1]["step"] == "5"


@pytest.mark.parametrize("case", NETWORKS)
def test_networks_train_in_shards_as_they_do_whole(config, tmp_path, rank_variables, case):  # noqa: F811
    """One rank, whose shards are whole: what gathers, computes and steps is the same code as with several."""
    model, arguments, trainer = NETWORKS[case]
    model = model | {"init_args": model.get("init_args", {}) | arguments}
    limits = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 1} | trainer
    path = config(trainer=limits, model=model)
    for strategy in ("fsdp2", "auto"):
        folder = str(tmp_path / strategy)
        words = ["--trainer.strategy", strategy, "--trainer.default_root_dir", folder]
        assert main(["fit", "--config", path, *words]) == 0
    ends = [read_checkpoint(tmp_path / strategy / "last.ckpt")["state_dict"] for strategy in ("fsdp2", "auto")]
    assert largest_difference(*ends) < 1e-5


def test_a_sharded_checkpoint_opens_as_the_network_that_was_trained(config, tmp_path, rank_variables):  # noqa: F811
    path = config(trainer={"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0, "strategy": "fsdp2"})
    assert main(["fit", "--config", path]) == 0
    network = VideoClassifier.load(tmp_path / "run" / "last.ckpt")
    assert type(network).__name__ == "C3D"
    assert all(type(parameter.data) is torch.Tensor for parameter in network.parameters())
    words = ["--checkpoint", str(tmp_path / "run" / "last.ckpt"), "--num-workers", "0", "--num-clips", "1"]
    root = yaml.safe_load(Path(path).read_text())["data"]["init_args"]["root"]
    assert main(["evaluate", *words, "--data", root, "--split", "val", "--out", str(tmp_path / "results")]) == 0
    start = config("start", trainer={"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 0})
    assert main(["fit", "--config", start, "--model.init_args.weights", str(tmp_path / "run" / "last.ckpt")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.init_args.channels_last", "true"], "channels_last=true: shards have one layout"),
        (
            ["--model.init_args.learning_rate_scale", "{fc8: 10}"],
            "learning_rate_scale: 'fc8' is no layer of C3D; its stages are",
        ),
        (["--trainer.callbacks+", yaml.safe_dump(EMA)], "averaging of weights needs a whole copy of them"),
    ],
)
def test_what_does_not_work_with_shards_is_said(config, capsys, rank_variables, words, message):  # noqa: F811
    assert main(["fit", "--config", config(trainer={"strategy": "fsdp2"}), *words]) == 2
    assert message in capsys.readouterr().err
