"""Options of training through the command line, several at once: what a person types, and what the checkpoint holds."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import yaml

from lightning_modules import VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main

MODEL = {"width": 2, "num_frames": 16, "crop_size": 32, "batch_norm": True, "learning_rate": 0.05}
EMA = {"class_path": "WeightEMA", "init_args": {"decay": 0.5}}


def steps(folder):
    """A callback that keeps a checkpoint of every optimizer step."""
    init_args = {"dirpath": str(folder), "filename": "{step}", "every_n_train_steps": 1, "save_top_k": -1}
    return {"class_path": "ModelCheckpoint", "init_args": init_args}


@pytest.fixture
def config(motion_dataset, tmp_path):
    """Writes a config: a very small C3D for two epochs of 40 videos, 4 a batch, with the given changes."""

    def write(folder, model=None, trainer=None, data=None, callbacks=()):
        settings = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "num_workers": 0}
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        content = {
            "seed_everything": 7,
            "model": {"class_path": "C3D", "init_args": MODEL | (model or {})},
            "data": {
                "class_path": "ShardedVideoDataModule",
                "init_args": settings | {"flip_probability": 0.0, **(data or {})},
            },
            "trainer": {
                "accelerator": "cpu",
                "devices": 1,
                "max_epochs": 2,
                "num_sanity_val_steps": 0,
                "default_root_dir": str(tmp_path / "run"),
                "callbacks": [steps(tmp_path / folder), *callbacks],
                **quiet,
                **(trainer or {}),
            },
        }
        path = tmp_path / f"{folder}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def rates(path):
    """The learning rates of the next step, of each group."""
    return [group["lr"] for group in torch.load(path, weights_only=True)["optimizer_states"][0]["param_groups"]]


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_many_options_at_once_resume_bit_for_bit(config, tmp_path):
    """Step 3 is in the middle of the first epoch, where gradients are gathered by twos."""
    model = {
        "lr_schedule": "multi_step",
        "lr_milestones": [0.5, 0.8],
        "warmup_fraction": 0.3,
        "scale_learning_rate_from": 16,
        "learning_rate_scale": {"logits": 10.0},
        "freeze": ["conv1"],
        "channels_last": True,
        "checkpoint_activations": ["conv", "fc"],
        "label_smoothing": 0.1,
        "precise_bn_batches": 2,
    }
    trainer = {"precision": "bf16-mixed", "accumulate_grad_batches": 2, "gradient_clip_val": 1.0}
    assert main(["fit", "--config", config("whole", model, trainer, callbacks=[EMA])]) == 0
    again = config("resumed", model, trainer, callbacks=[EMA])
    assert main(["fit", "--config", again, "--ckpt_path", str(tmp_path / "whole/step=3.ckpt")]) == 0
    whole, resumed = (read_checkpoint(tmp_path / folder / "step=10.ckpt") for folder in ("whole", "resumed"))
    assert_same(whole["state_dict"], resumed["state_dict"])
    assert_same(whole["current_model_state"], resumed["current_model_state"])
    assert whole["lr_schedulers"][0]["_last_lr"] == resumed["lr_schedulers"][0]["_last_lr"]
    # 4 videos a batch, 2 batches a step, for a rate meant for 16; after 5 of 10 steps the first milestone is passed.
    half = 0.05 * 4 * 2 / 16
    assert sorted(set(rates(tmp_path / "whole/step=4.ckpt"))) == pytest.approx([half, 10 * half])
    assert sorted(set(rates(tmp_path / "whole/step=5.ckpt"))) == pytest.approx([0.1 * half, half])
    loaded = VideoClassifier.load(tmp_path / "resumed/step=10.ckpt")
    assert loaded.hparams["learning_rate_scale"] == {"logits": 10.0}


def test_a_checkpoint_of_averaged_weights_gives_the_averaged_ones(config, tmp_path):
    """Decay 0.5: the average starts as the first step's weights, then takes half of every step's."""
    assert main(["fit", "--config", config("kept", trainer={"max_epochs": 1}, callbacks=[EMA])]) == 0
    name = "stages.conv3a.0.weight"
    average = None
    for step in range(1, 11):
        checkpoint = read_checkpoint(tmp_path / f"kept/step={step}.ckpt")
        now = checkpoint["current_model_state"][name]
        average = now if average is None else (average + now) / 2
    torch.testing.assert_close(checkpoint["state_dict"][name], average)
    assert not torch.equal(average, now)
    loaded = VideoClassifier.load(tmp_path / "kept/step=10.ckpt").state_dict()
    assert torch.equal(loaded[name], checkpoint["state_dict"][name])


def test_after_validation_a_checkpoint_holds_precise_statistics_of_averaged_weights(config, tmp_path, motion_dataset):
    after = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(tmp_path / "val"), "monitor": "val/loss"}}
    trainer, model = {"max_epochs": 1, "callbacks": [EMA, after]}, {"precise_bn_batches": 10, "dropout": 0.0}
    assert main(["fit", "--config", config("kept", model, trainer)]) == 0
    [path] = (tmp_path / "val").iterdir()
    loaded, checkpoint = VideoClassifier.load(path), read_checkpoint(path)
    weights, norm = checkpoint["state_dict"]["stages.conv1a.0.weight"], loaded.stages.conv1a[1]
    assert not torch.equal(weights, checkpoint["current_model_state"]["stages.conv1a.0.weight"])
    from datamodules.datamodule import ShardedVideoDataModule

    settings = {"batch_size": 4, "crop_size": 32, "num_workers": 0, "flip_probability": 0.0, "seed": 7}
    with torch.no_grad():
        batches = ShardedVideoDataModule(str(motion_dataset), **settings).train_dataloader()
        outputs = torch.cat([loaded.stages.conv1a[0](loaded.normalize(batch)) for batch in batches])
    torch.testing.assert_close(norm.running_mean, outputs.mean((0, 2, 3, 4)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, outputs.var((0, 2, 3, 4)), rtol=1e-4, atol=1e-5)


def test_accumulated_batches_make_the_step_of_one_large_batch(config, tmp_path):
    model = {"batch_norm": False, "dropout": 0.0, "lr_schedule": "constant"}
    trainer = {"max_epochs": 1, "limit_val_batches": 0}
    large = config("large", model, trainer, {"batch_size": 8})
    small = config("small", model, trainer | {"accumulate_grad_batches": 2})
    for path in (large, small):
        assert main(["fit", "--config", path]) == 0
    first, second = (read_checkpoint(tmp_path / f"{folder}/step=5.ckpt")["state_dict"] for folder in ("large", "small"))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-4, atol=1e-5)


def test_gradients_are_clipped(config, tmp_path):
    """With plain SGD at rate 1, a step changes all weights together by at most the largest norm."""
    model = {"learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "lr_schedule": "constant"}
    trainer = {"max_steps": 2, "gradient_clip_val": 0.01, "limit_val_batches": 0}
    assert main(["fit", "--config", config("kept", model, trainer)]) == 0
    first, second = (read_checkpoint(tmp_path / f"kept/step={step}.ckpt")["state_dict"] for step in (1, 2))
    learnt = [name for name in first if name.endswith(("weight", "bias"))]
    change = torch.cat([(second[name] - first[name]).flatten() for name in learnt]).norm()
    assert change == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_and_keeps_weights_in_full(config, tmp_path, capfd, precision):
    """fp16 is for GPUs; on the CPU Lightning takes bf16 in its place and says so."""
    path = config(precision, trainer={"precision": precision, "max_epochs": 1})
    with pytest.warns(UserWarning, match="not supported on CPU. Using") if precision == "16-mixed" else nullcontext():
        assert main(["fit", "--config", path]) == 0
    weights = read_checkpoint(tmp_path / precision / "step=10.ckpt")["state_dict"]
    assert all(weight.dtype != torch.bfloat16 and weight.isfinite().all() for weight in weights.values())


def test_resuming_with_another_batch_size_keeps_to_the_schedule_by_samples(config, tmp_path):
    """After 16 of 80 samples 8 a batch: 24 of 80 after the next step, though 5 of the epoch's 7 steps."""
    model = {"lr_schedule": "multi_step", "lr_milestones": [0.35], "scale_learning_rate_from": 4}
    assert main(["fit", "--config", config("first", model)]) == 0
    callback = {
        "class_path": "tests.pipeline.training.recording.RecordRates",
        "init_args": {"path": str(tmp_path / "rates")},
    }
    second = config("second", model, data={"batch_size": 8}, callbacks=[callback])
    assert main(["fit", "--config", second, "--ckpt_path", str(tmp_path / "first/step=4.ckpt")]) == 0
    found = {step: rates(tmp_path / f"second/step={step}.ckpt")[0] for step in range(5, 13)}
    # 24 samples are left of the first epoch, 3 steps of 8; the rate is doubled with the batch.
    assert found == pytest.approx({5: 0.1} | dict.fromkeys(range(6, 13), 0.01))
    used = [float(rate) for rate in (tmp_path / "rates").read_text().split()]
    assert used == pytest.approx([0.1, 0.1] + [0.01] * 6), "the first step has it already"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["freeze", "[Mixed]"], "freeze: 'Mixed' is no layer of C3D; its stages are conv1a, pool1"),
        (["lr_schedule", "multi_step"], "multi_step wants milestones"),
        (["lr_schedule", "steps"], "steps"),
    ],
)
def test_a_wrong_option_is_one_sentence(config, capsys, words, message):
    name, value = words
    assert main(["fit", "--config", config("wrong"), f"--model.init_args.{name}", value]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_help_says_how_the_options_of_models_and_data_are_listed(capsys):
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: python -m pipeline validate --config CONFIG [options] Perform one evaluation epoch")
    for options, known in (
        ("--model.help C3D", "--model.width"),
        ("--data.help ShardedVideoDataModule", "--data.root"),
    ):
        assert f"`python -m pipeline validate {options}`" in text.partition("The options of a network: ")[2]
        with pytest.raises(SystemExit):
            main(["validate", *options.split()])
        assert known in capsys.readouterr().out


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--model.help", "I3D"])
    text = capsys.readouterr().out
    options = ["warmup_fraction", "lr_schedule", "lr_milestones", "lr_step_fraction", "lr_gamma", "precise_bn_batches"]
    options += ["scale_learning_rate_from", "learning_rate_scale", "freeze", "channels_last", "compile"]
    for option in [*options, "checkpoint_activations", "label_smoothing"]:
        assert f"--model.{option}" in text


@pytest.mark.slow
def test_statistics_are_averaged_over_ranks(config, tmp_path):
    """With a rate of 0 all ranks' batches of the epoch pass the first filters as they were, however they are dealt."""
    model, trainer = {"precise_bn_batches": 10, "learning_rate": 0.0}, {"max_epochs": 1}
    found = []
    for ranks, size in ((1, 4), (2, 2)):
        after = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(tmp_path / f"{ranks}")}}
        more = {"devices": ranks, "strategy": "ddp" if ranks > 1 else "auto", "callbacks": [after]}
        line = [sys.executable, "-m", "pipeline", "fit", "--config"]
        line += [config(f"ranks{ranks}", model, trainer | more, {"batch_size": size})]
        run = subprocess.run(line, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        [path] = (tmp_path / f"{ranks}").iterdir()
        found.append(read_checkpoint(path)["state_dict"])
    for name in ("running_mean", "running_var"):
        first, second = (state[f"stages.conv1a.1.{name}"] for state in found)
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_synchronized_batch_norms_on_the_cpu_are_one_sentence(config):
    path = config("sync", trainer={"strategy": "ddp", "sync_batchnorm": True})
    line = [sys.executable, "-m", "pipeline", "fit", "--config", path]
    run = subprocess.run(line, capture_output=True, text=True)
    assert run.returncode == 2
    assert "error: trainer.sync_batchnorm=true: torch has it for GPUs alone" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_no_compiler_is_one_sentence(config, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    line = [sys.executable, "-m", "pipeline", "fit", "--config", config("compiled", {"compile": True})]
    run = subprocess.run(line, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("error: compile=True: torch.compile does not work here (")
    assert "Traceback" not in run.stderr
