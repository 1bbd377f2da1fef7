"""What every `fit` does without being told: its folder, its record, its checkpoints; across restarts."""

import json
import logging
import re
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
import wandb
import yaml

from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.storage import LocalStorage
from pipeline.training.metrics_csv import read_metrics
from pipeline.training.run_folder import resolve_best
from pipeline.training.secret_patterns import without_secrets
from tests.conftest import REPOSITORY
from tests.pipeline.training.test_lightning_cli import TINY, assert_same_weights, weights
from tests.pipeline.training.wandb_files import configuration_of, history_of, run_of

EMA = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5}}


@pytest.fixture
def config(motion_dataset, tmp_path):
    """Writes a config of two epochs of 10 steps, without callbacks for checkpoints."""

    def write(name="run", trainer=None, data=None, **sections):
        settings = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "num_workers": 0}
        content = TINY | sections
        content["data"] = {
            "class_path": "ShardedVideoDataModule",
            "init_args": settings | {"flip_probability": 0.0, **(data or {})},
        }
        quiet = {name: value for name, value in TINY["trainer"].items() if name != "logger"}
        content["trainer"] = quiet | {"default_root_dir": str(tmp_path / name), **(trainer or {})}
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def test_a_run_continues_as_one_record_with_the_newest_and_the_best_checkpoints(
    config, tmp_path, monkeypatch, caplog, capsys
):
    monkeypatch.setitem(TINY["model"]["init_args"], "lr_schedule", "constant")  # max_steps must not bend it
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger = {"class_path": "WandbLogger", "init_args": {"project": "test", "save_dir": str(tmp_path)}}
    keep = {"every_n_steps": 3, "keep_newest": 2, "keep_best": 1, "every_minutes": 0}
    options = {"trainer": {"logger": logger, "log_every_n_steps": 2, "callbacks": [EMA]}, "checkpoints": keep}
    path = config(**options)
    with caplog.at_level(logging.INFO, "pytorch_lightning.utilities.rank_zero"):
        assert main(["fit", "--config", path, "--trainer.max_steps", "13"]) == 0
    assert "bottleneck: " in caplog.text
    assert re.search(r"run/last\.ckpt is of step 13, best\.ckpt of step 10 \(val/top1 [\d.]+\)", caplog.text)
    wandb.finish()  # as the end of the process does
    folder = tmp_path / "run" / "checkpoints"
    names = sorted(one.name for one in folder.glob("step-*"))
    assert names == ["step-00000010.ckpt", "step-00000012.ckpt", "step-00000013.ckpt"]  # the best is the validated one
    assert (tmp_path / "run" / "last.ckpt").resolve().name == names[-1]
    assert (tmp_path / "run" / "best.ckpt").resolve().name == names[0]
    record = json.loads((folder / "checkpoints.json").read_text())["checkpoints"]
    assert [(one["file"], "val/top1" in one["metrics"]) for one in record] == [
        (name, name == names[0]) for name in names
    ]
    content = read_checkpoint(folder / names[1])
    assert content["averaging_state"]
    assert content["optimizer_states"][0]["state"]
    assert content["lr_schedulers"][0]["last_epoch"] == 12
    state = content["ShardedVideoDataModule"]
    assert (state["epoch"], state["consumed"], state["steps"]) == (1, 8, 2)
    assert state["order"] == {
        "scheme": 1,
        "seed": 7,
        "shuffle": "global",
        "shard_window": None,
        "class_balance": "none",
    }
    assert state["dataset"]["decoder"]
    run_id = content["callbacks"]["RunMonitor"]["run_id"]

    (folder / ".step-00000009.ckpt.0123.partial").write_bytes(b"half")  # what a kill leaves
    (folder / "step-00000013.ckpt").write_bytes((folder / names[2]).read_bytes()[:5000])
    capsys.readouterr()
    assert main(["fit", "--config", path, "--ckpt_path", "last"]) == 0
    wandb.finish()  # the damaged one was passed by: from step 12
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: checkpoint ")]
    assert told == [
        f"warning: checkpoint {folder / names[2]} is damaged (it has 5000 bytes of {record[2]['bytes']}); "
        f"going on from the one before it that is whole, {folder / names[1]}, step 12"
    ]
    assert (folder / "step-00000013.ckpt.damaged").stat().st_size == 5000
    assert sorted(one.name for one in folder.glob("*step-*.ckpt"))[-2:] == ["step-00000018.ckpt", "step-00000020.ckpt"]
    assert not list(folder.glob(".*"))
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    steps = [int(row["step"]) for row in rows]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]  # that of step 13, the end of the first attempt, is gone
    assert [row["attempt"] for row in rows] == ["1"] * 6 + ["2"] * 4
    assert [row["samples"] for row in rows] == [str(4 * step) for step in steps]
    assert all(row["train/loss"] and row["lr"] and row["clips_per_s"] and row["load_ms"] for row in rows)
    assert all(0 <= float(row["data_wait"]) <= 1 and float(row["transfer_ms"]) >= 0 for row in rows)
    assert [bool(row["val/top1"]) for row in rows] == [step in (10, 20) for step in steps]
    assert [row["epoch"] for row in rows] == ["0"] * 5 + ["1"] * 5
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)

    assert read_checkpoint(folder / "step-00000020.ckpt")["callbacks"]["RunMonitor"]["run_id"] == run_id
    attempts = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(attempts) == 2
    for attempt, first_step, last_step in zip(attempts, (2, 14), (13, 20), strict=True):
        run = run_of(attempt)
        assert (run.run_id, run.resume) == (run_id, True)  # by which `wandb sync` makes one run of them
        history = history_of(attempt)
        assert (min(history) + 1, max(history) + 1) == (first_step, last_step)  # wandb's count is from 0
        for row in (row for row in rows if int(row["step"]) - 1 in history):
            logged = history[int(row["step"]) - 1]
            names = ("lr", "train/loss", "samples", "clips_per_s", "data_wait", "load_ms", "epoch", "val/top1")
            assert {name: logged[name] for name in names if name in logged} == pytest.approx(
                {name: float(row[name]) for name in names if row[name]}, rel=1e-6
            )
    told = configuration_of(attempts[1])
    assert told["data"]["init_args"]["batch_size"] == 4
    assert told["model"]["init_args"]["width"] == 2
    assert told["checkpoints"]["every_n_steps"] == 3

    whole = config("whole", **options)
    assert main(["fit", "--config", whole, "--trainer.logger", "false"]) == 0
    for kind in ("step-00000018.ckpt", "step-00000020.ckpt"):
        assert_same_weights(weights(folder / kind), weights(tmp_path / "whole" / "checkpoints" / kind))
    first, second = (read_metrics(tmp_path / name / "metrics.csv")[-1] for name in ("run", "whole"))
    same = ("step", "epoch", "samples", "lr", "train/loss", "val/top1", "val/loss")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_a_new_run_in_a_used_folder_moves_the_other_aside(config, tmp_path):
    path = config(trainer={"max_epochs": 1})
    assert main(["fit", "--config", path]) == 0
    before, configuration = ((tmp_path / "run" / name).read_text() for name in ("metrics.csv", "config.yaml"))
    assert main(["fit", "--config", path, "--data.init_args.batch_size", "8"]) == 0
    assert (tmp_path / "run" / "earlier" / "1" / "metrics.csv").read_text() == before
    assert (tmp_path / "run" / "earlier" / "1" / "config.yaml").read_text() == configuration
    assert "batch_size: 8" in (tmp_path / "run" / "config.yaml").read_text()
    assert (tmp_path / "run" / "earlier" / "1" / "last.ckpt").is_file()
    assert {row["attempt"] for row in read_metrics(tmp_path / "run" / "metrics.csv")} == {"1"}


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_and_left_as_it_is(config, tmp_path, capsys):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for step in (4, 8):
        (folder / f"step-{step:08d}.ckpt").write_bytes(b"PK" * 50)
    (tmp_path / "run" / "metrics.csv").write_text("step\n8\n")
    assert main(["fit", "--config", config(), "--ckpt_path", "last"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"error: ckpt_path=last: none of the 2 checkpoints in {folder} can be read (step-00000008.ckpt: "
    )
    assert "step-00000004.ckpt: its table of contents cannot be read); bring one back there, or begin anew" in last
    assert sorted(one.name for one in (tmp_path / "run").rglob("*.*")) == [
        "metrics.csv",
        "step-00000004.ckpt",
        "step-00000008.ckpt",
    ]


def test_a_run_killed_in_a_validation_goes_on_behind_the_epoch(config, tmp_path):
    """And once more from within the next one, to its last step: the ten batches of an epoch are three steps."""
    accumulate = {"accumulate_grad_batches": 4}
    faults = "tests.pipeline.training.fault_injection"
    path = config(trainer=accumulate | {"callbacks": [{"class_path": f"{faults}.FailInValidation"}]})
    with pytest.raises(RuntimeError, match="on fire"):
        main(["fit", "--config", path])
    assert (tmp_path / "run" / "last.ckpt").resolve().name == "step-00000003.ckpt"
    leave = {"class_path": f"{faults}.AskToLeave", "init_args": {"step": 4, "number": 15}}
    assert main(["fit", "--config", config(trainer=accumulate | {"callbacks": [leave]}), "--ckpt_path", "last"]) == 143
    assert (tmp_path / "run" / "last.ckpt").resolve().name == "step-00000005.ckpt"
    assert main(["fit", "--config", config(trainer=accumulate), "--ckpt_path", "last"]) == 0
    assert (tmp_path / "run" / "last.ckpt").resolve().name == "step-00000006.ckpt"
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.csv")] == ["3", "6"]


def test_a_folder_is_named_after_the_config(config, tmp_path, monkeypatch):
    path = config(trainer={"default_root_dir": None, "max_steps": 1, "limit_val_batches": 0})
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", path]) == 0
    assert (tmp_path / "runs" / path.rpartition("/")[2].removesuffix(".yaml") / "last.ckpt").is_file()


def test_no_secret_goes_to_wandb():
    config = {
        "data": {"root": "https://me:hunter2@host/shards", "class_path": "X", "tokenizer": "bert"},
        "logger": [{"init_args": {"api_key": "hunter2", "anonymous": None, "entity": "we"}}],
        "storage": {"AWS_SECRET_ACCESS_KEY": "hunter2", "tokens": ["hunter2"], "authToken": "hunter2"},
    }
    told = without_secrets(config)
    assert "hunter2" not in json.dumps(told)
    assert told["data"] == {"root": "https://(hidden)@host/shards", "class_path": "X", "tokenizer": "bert"}
    assert told["logger"][0]["init_args"] | {"entity": "we", "anonymous": None} == told["logger"][0]["init_args"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": {"train_split": "other"}}, "train_split=train: the checkpoint was trained on train_split=other"),
        ({"dataset": {"fold": "2"}}, "fold=None: the checkpoint was trained on fold=2"),
        ({"order": {"seed": 8}}, "seed=7 (it was 8): the checkpoint is from within an epoch"),
        ({"dataset": {"identity": "0" * 64, "family": "1"}}, "resume on the same data"),
    ],
)
def test_a_run_of_other_data_is_refused_unless_allowed(config, tmp_path, capsys, change, message, stopped):
    content = torch.load(stopped, weights_only=True)
    for name, values in change.items():
        content["ShardedVideoDataModule"][name] |= values
    torch.save(content, tmp_path / "other.ckpt")
    words = ["fit", "--config", config(trainer={"max_epochs": 1}), "--ckpt_path", str(tmp_path / "other.ckpt")]
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert "resume_on_other_data=true" in error
    assert main([*words, "--data.init_args.resume_on_other_data", "true"]) == 0
    steps = max(int(one.stem[5:]) for one in (tmp_path / "run" / "checkpoints").glob("step-*.ckpt"))
    assert steps == (14 if "identity" in change.get("dataset", {}) else 10)  # of other videos, all; else the rest


@pytest.fixture(scope="module")
def stopped(motion_dataset, tmp_path_factory):
    """The checkpoint of a run that was left at step 4 of 10."""
    folder = tmp_path_factory.mktemp("stopped")
    settings = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "num_workers": 0}
    content = TINY | {
        "data": {"class_path": "ShardedVideoDataModule", "init_args": settings | {"flip_probability": 0.0}},
        "trainer": TINY["trainer"] | {"default_root_dir": str(folder), "max_steps": 4},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    before = (folder / "config.yaml").read_text()
    assert main(["fit", "--config", str(folder / "config.yaml")]) == 0
    assert (folder / "config.yaml").read_text() == before  # of the person who typed it
    return folder / "checkpoints" / "step-00000004.ckpt"


@pytest.mark.slow
def test_two_ranks_keep_one_record(config, tmp_path):
    logger = {"class_path": "WandbLogger", "init_args": {"project": "test", "save_dir": str(tmp_path)}}
    path = config(trainer={"devices": 2, "strategy": "ddp", "log_every_n_steps": 1, "max_epochs": 1, "logger": logger})
    run = subprocess.run([sys.executable, "-m", "pipeline", "fit", "--config", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert [row["samples"] for row in rows] == ["8", "16", "24", "32", "40"]
    assert len(list(tmp_path.rglob("metrics*.csv"))) == 1
    assert len(list(tmp_path.rglob("run-*.wandb"))) == 1


def test_best_is_the_undamaged_checkpoint_with_the_best_metric(tmp_path):
    store = CheckpointStore(LocalStorage(tmp_path), CheckpointOptions(keep_newest=9))
    store.begin(0)
    for step, top1 in ((1, 0.2), (2, 0.8), (3, 0.5)):
        store.save(lambda path: torch.save({"weight": torch.zeros(9)}, path), step, {"val/top1": top1})
    options = Namespace(trainer=Namespace(default_root_dir=str(tmp_path)))
    best = tmp_path / "checkpoints" / "step-00000002.ckpt"
    assert resolve_best(options) == str(best)
    best.write_bytes(best.read_bytes()[:100])
    assert resolve_best(options) == str(tmp_path / "checkpoints" / "step-00000003.ckpt")


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_without_a_checkpoint_best_is_refused_in_one_line(tmp_path, capsys, folder):
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    config = str(REPOSITORY / "pipeline" / "configs" / "demo.yaml")
    root = tmp_path / folder
    assert main(["fit", "--config", config, "--trainer.default_root_dir", str(root), "--ckpt_path", "best"]) == 2
    assert capsys.readouterr().err == (
        f"error: ckpt_path=best: there is no undamaged checkpoint in {root}/checkpoints; give a file, or the "
        "trainer.default_root_dir of a run that has one\n"
    )
