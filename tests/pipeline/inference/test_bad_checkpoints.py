"""Whatever stands in the place of a checkpoint: one sentence that says what to do, status 2, nothing executed."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.__main__ import main
from tests.pipeline.training.test_lightning_cli import TINY


class Mine:
    """An object whose pickle makes a file when it is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def lightning(**parts):
    return {"pytorch-lightning_version": "2.6.0", "state_dict": {}, "optimizer_states": [], **parts}


def cut(path, whole, share=0.5):
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flipped(path, whole):
    """One bit of a weight is another: torch loads it without a word."""
    content = bytearray(whole.read_bytes())
    weights = torch.load(whole, weights_only=True)["state_dict"]["stages.fc6.1.weight"]
    place = content.index(weights.numpy().tobytes()[:64])
    content[place + 2] ^= 1
    path.write_bytes(content)


KINDS = {
    "a pickle with an object": (
        lambda path, whole: torch.save(lightning(mine=Mine(path.parent / "executed")), path),
        "holds more than plain data and tensors (it asks for",
    ),
    "a bare pickle with an object": (
        lambda path, whole: path.write_bytes(pickle.dumps(Mine(path.parent / "executed"), protocol=2)),
        "and nothing of it was executed",
    ),
    "text": (lambda path, whole: path.write_text("hello\n"), "this is no file that torch saved; give a checkpoint"),
    "a video": (
        lambda path, whole: path.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 99),
        "this is no file that torch saved; give a checkpoint",
    ),
    "another archive": (lambda path, whole: zipped(path), "this is no file that torch saved; give a checkpoint"),
    "empty": (lambda path, whole: path.touch(), "the file is empty; give a checkpoint"),
    "cut off": (cut, "the file is cut off or damaged; copy it again"),
    "damaged": (flipped, "the file is damaged, "),
    "a folder": (lambda path, whole: path.mkdir(), "is a folder without a checkpoint: it has no .ckpt file"),
    "missing": (lambda path, whole: None, "no such file"),
    "a dangling link": (lambda path, whole: path.symlink_to("/nowhere"), "it is a link to '/nowhere', which is not"),
    "a list": (lambda path, whole: torch.save([1, 2], path), ""),
    "a tensor": (lambda path, whole: torch.save(torch.zeros(2), path), ""),
    "of another kind": (lambda path, whole: torch.save({"a": 1}, path), ""),
    "without weights": (lambda path, whole: torch.save(lightning(state_dict=3), path), ""),
    "without arguments": (lambda path, whole: torch.save(lightning(classifier={}), path), ""),
}


def zipped(path):
    (path.parent / "inside").mkdir()
    (path.parent / "inside" / "notes.txt").write_text("hello")
    shutil.make_archive(str(path.parent / "notes"), "zip", path.parent / "inside")
    (path.parent / "notes.zip").rename(path)


@pytest.fixture
def bad(request, tmp_path, motion_checkpoint):
    """The path of what is no checkpoint, and what must be said."""
    write, message = KINDS[request.param]
    path = tmp_path / "wrong.ckpt"
    write(path, motion_checkpoint)
    yield path, message
    assert not (tmp_path / "executed").exists()


def told(capsys, *words):
    """What a command that must end as bad input says: its only line that begins with error."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert said.splitlines()[-1] == line
    return line


@pytest.fixture
def config(tmp_path):
    """A configuration that nothing needs to be there for: the checkpoint is looked at first."""
    data = {
        "class_path": "ShardedVideoDataModule",
        "init_args": {"root": "nowhere", "crop_size": 32, "flip_probability": 0.0},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(TINY | {"data": data}))
    return str(path)


def each(all_kinds, few_kinds):
    """Every kind with some commands; with those that share their code three of them."""
    few = ("a pickle with an object", "text", "missing")
    pairs = [(kind, verb) for verb in all_kinds for kind in KINDS] + [
        (kind, verb) for verb in few_kinds for kind in few
    ]
    return pytest.mark.parametrize(("bad", "verb"), pairs, indirect=["bad"])


@each(["fit"], ["validate", "test", "predict"])
def test_lightning_s_verbs(config, bad, capsys, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, message = bad
    before = sorted(tmp_path.iterdir())
    line = told(capsys, verb, "--config", config, "--ckpt_path", path)
    assert line.startswith(f"error: ckpt_path={str(path)!r}")
    assert message in line
    assert sorted(tmp_path.iterdir()) == before


@each(["evaluate", "convert"], ["features", "classify", "describe", "linear", "start"])
def test_ours(config, bad, capsys, verb, tmp_path, motion_dataset, motion_checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, message = bad
    (tmp_path / "a.mp4").touch()
    words = {
        "evaluate": ["evaluate", "--checkpoint", path, "--data", motion_dataset, "--out", tmp_path / "out"],
        "features": ["features", "--checkpoint", path, "--data", motion_dataset, "--split", "test", "--out", "out"],
        "classify": ["classify", "a.mp4", "--checkpoint", path],
        "describe": ["describe", "a.mp4", "--checkpoint", path],
        "convert": ["weights", "convert", path, "--out", tmp_path / "out"],
        "linear": ["classify", "a.mp4", "--checkpoint", motion_checkpoint, "--linear", path],
        "start": [
            *("fit", "--config", config, "--data.init_args.root", motion_dataset, "--trainer.default_root_dir", "run"),
            *("--model.init_args.weights", path),
        ],
    }
    line = told(capsys, *words[verb])
    assert str(path) in line
    assert message in line or verb == "linear"  # whose files are safetensors
    assert not (tmp_path / "out").exists()


def test_a_folder_with_checkpoints_names_one(config, capsys, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000004.ckpt").touch()
    line = told(capsys, "test", "--config", config, "--ckpt_path", tmp_path)
    assert line.endswith(f"is a folder; give the file in it, such as {tmp_path}/checkpoints/step-00000004.ckpt")


def test_folders_of_shards_are_told_by_what_they_have(config, capsys, tmp_path):
    (tmp_path / "run" / "step-00000004.sharded").mkdir(parents=True)
    (tmp_path / "run" / "step-00000004.sharded" / "shards-5f2c").mkdir()
    line = told(capsys, "test", "--config", config, "--ckpt_path", tmp_path / "run" / "step-00000004.sharded")
    assert line.endswith("which is written last: its save did not end; give another checkpoint")
    (tmp_path / "run" / "step-00000004.sharded" / "content.ckpt").touch()
    line = told(capsys, "test", "--config", config, "--ckpt_path", tmp_path / "run")
    assert line.endswith(f"is a folder; give the folder in it, such as {tmp_path}/run/step-00000004.sharded")


def test_another_model_s_checkpoint_is_named_by_its_class(config, capsys, tmp_path):
    ours = {"class_path": "lightning_modules.CNNLSTM", "init_args": {"num_classes": 2}}
    torch.save(lightning(classifier=ours), tmp_path / "ours.ckpt")
    torch.save(lightning(hyper_parameters={"lr": 0.1}), tmp_path / "others.ckpt")
    for verb in ("fit", "test"):
        line = told(capsys, verb, "--config", config, "--ckpt_path", tmp_path / "ours.ckpt")
        assert "is a checkpoint of CNNLSTM, and the configuration's model is C3D: give one of C3D, or the" in line
        line = told(capsys, verb, "--config", config, "--ckpt_path", tmp_path / "others.ckpt")
        assert "is a checkpoint of another model, and the configuration's model is C3D" in line


@pytest.mark.parametrize("change", ["missing key", "other shape", "other argument"])
def test_weights_that_do_not_fit_are_one_sentence(capsys, tmp_path, motion_dataset, motion_checkpoint, change, config):
    content = torch.load(motion_checkpoint, weights_only=True)
    if change == "missing key":
        content["state_dict"].pop("stages.fc7.0.weight")
    elif change == "other shape":
        content["state_dict"]["stages.logits.weight"] = torch.zeros(3, 128)
    else:
        content["hyper_parameters"]["width"] = 3
    torch.save(content, tmp_path / "other.ckpt")
    words = ["test", "--config", config, "--data.init_args.root", motion_dataset, "--data.init_args.num_workers", 0]
    line = told(capsys, *words, "--ckpt_path", tmp_path / "other.ckpt")
    assert "other.ckpt': its weights do not fit the configuration's model" in line
    assert ("stages.fc7" if change == "missing key" else "stages.") in line


def test_training_does_not_go_on_from_weights_alone(capsys, tmp_path, motion_checkpoint, config):
    content = torch.load(motion_checkpoint, weights_only=True)
    del content["optimizer_states"]
    torch.save(content, tmp_path / "weights.ckpt")
    line = told(capsys, "fit", "--config", config, "--ckpt_path", tmp_path / "weights.ckpt")
    assert f"start a new one from them with --model.init_args.weights {tmp_path}/weights.ckpt" in line


def test_a_run_that_is_over_says_to_train_longer(capsys, tmp_path, motion_dataset, motion_checkpoint, config):
    content = torch.load(motion_checkpoint, weights_only=True)
    content["epoch"] = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] = 3
    content["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] = 3
    torch.save(content, tmp_path / "later.ckpt")
    words = ["fit", "--config", config, "--data.init_args.root", motion_dataset, "--data.init_args.num_workers", 0]
    words += ["--trainer.default_root_dir", tmp_path / "run", "--seed_everything", 0]
    line = told(capsys, *words, "--ckpt_path", tmp_path / "later.ckpt")
    assert "set trainer.max_epochs higher" in line


def test_weights_that_are_a_file_go_by_checkpoint(capsys, motion_checkpoint, tmp_path):
    (tmp_path / "a.mp4").touch()
    line = told(capsys, "classify", tmp_path / "a.mp4", "--weights", motion_checkpoint)
    assert f"is a file, not a published name; give it as --checkpoint {motion_checkpoint}" in line


def test_a_checkpoint_made_in_python_is_tested_from_the_command_line(config, tmp_path, motion_dataset, capsys):
    """It does not say its class as LightningCLI does; ours say it themselves."""
    from pytorch_lightning import Trainer

    from datamodules.datamodule import ShardedVideoDataModule
    from lightning_modules import C3D

    model = C3D(width=2, crop_size=32, batch_norm=True, num_classes=8)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, default_root_dir=tmp_path, **quiet)
    data = ShardedVideoDataModule(str(motion_dataset), batch_size=4, crop_size=32, num_workers=0, flip_probability=0.0)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "python.ckpt")
    words = [
        "test",
        "--config",
        config,
        "--data.init_args.root",
        str(motion_dataset),
        "--data.init_args.num_workers",
        "0",
    ]
    assert main([*words, "--ckpt_path", str(Path(tmp_path / "python.ckpt"))]) == 0
    assert "test/top1" in capsys.readouterr().out


def test_a_person_can_trust_a_file(config, tmp_path, motion_dataset, motion_checkpoint):
    """With `--weights_only false`, and only then, what else is in a checkpoint is executed."""
    content = torch.load(motion_checkpoint, weights_only=True)
    torch.save({**content, "mine": Mine(tmp_path / "executed")}, tmp_path / "mine.ckpt")
    words = [
        "test",
        "--config",
        config,
        "--data.init_args.root",
        str(motion_dataset),
        "--data.init_args.num_workers",
        "0",
    ]
    words += ["--ckpt_path", str(tmp_path / "mine.ckpt")]
    assert main(words) == 2
    assert not (tmp_path / "executed").exists()
    assert main([*words, "--weights_only", "false"]) == 0
    assert (tmp_path / "executed").exists()
