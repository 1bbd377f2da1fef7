"""`publish`: a folder of safetensors that opens as the checkpoint does, and a card that says what is known."""

import json
import shutil

import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from lightning_modules import C3D, VideoClassifier
from lightning_modules.weights.model_repository import ModelConfig
from pipeline.__main__ import main
from pipeline.inference.trained_checkpoint import open_checkpoint

QUICK = ["--num-clips", "2", "--num-workers", "0", "--accelerator", "cpu"]
SAID = ["--license", "apache-2.0", "--data-license", "CC0-1.0", "--intended-use", "To be tested.", "--limits", "Tests."]


@pytest.fixture(scope="module")
def report(motion_checkpoint, motion_dataset, tmp_path_factory):
    """An evaluation of the checkpoint. Read-only."""
    folder = tmp_path_factory.mktemp("reports") / "test"
    words = ["--checkpoint", str(motion_checkpoint), "--data", str(motion_dataset), "--out", str(folder), *QUICK]
    assert main(["evaluate", *words]) == 0
    return folder


@pytest.fixture(scope="module")
def config(motion_dataset, tmp_path_factory):
    """A configuration with a path of this machine and a secret."""
    path = tmp_path_factory.mktemp("run") / "config.yaml"
    data = {"class_path": "ShardedVideoDataModule", "init_args": {"root": str(motion_dataset)}}
    path.write_text(yaml.safe_dump({"seed_everything": 3, "data": data, "wandb_api_key": 40 * "a"}))
    return path


@pytest.fixture(scope="module")
def published(motion_checkpoint, report, config, tmp_path_factory):
    """The checkpoint as a folder of safetensors, with that evaluation in its card. Read-only."""
    folder = tmp_path_factory.mktemp("published") / "motion"
    words = ["--checkpoint", str(motion_checkpoint), "--report", str(report), "--out", str(folder), *SAID]
    words += ["--training-config", str(config)]
    assert main(["publish", *words]) == 0
    return folder


def test_the_folder_opens_as_the_checkpoint_bit_for_bit(published, motion_checkpoint):
    expected, found = open_checkpoint(motion_checkpoint), open_checkpoint(published)
    assert found.clips == expected.clips
    assert {**found.dataset, "root": expected.dataset["root"]} == expected.dataset
    [[before], [after]] = expected.fingerprints, found.fingerprints
    assert all((first == second).all() for first, second in zip(before, after, strict=True))
    networks = [VideoClassifier.load(motion_checkpoint), C3D.load(published), C3D.from_pretrained(published)]
    states = [network.state_dict() for network in networks]
    for name, value in states[0].items():
        assert all(state[name].equal(value) for state in states), name
    clips = torch.randn(2, 3, 16, 32, 32)
    with torch.inference_mode():
        outputs = [network.clip_logits(clips) for network in (expected.model, found.model)]
    assert outputs[0].equal(outputs[1])


def test_the_verbs_take_the_folder_with_the_same_numbers(
    published, motion_checkpoint, motion_dataset, tmp_path, capsys
):
    videos = str(next((motion_dataset.parent / "videos").rglob("*.mp4")))
    told, scores, features = [], [], []
    for number, name in enumerate([str(motion_checkpoint), str(published)]):
        capsys.readouterr()
        assert main(["classify", videos, "--checkpoint", name, "--num-clips", "2", "--json", "--top", "8"]) == 0
        told.append(json.loads(capsys.readouterr().out))
        data = ["--checkpoint", name, "--data", str(motion_dataset), *QUICK]
        assert main(["evaluate", *data, "--out", str(tmp_path / f"{number}")]) == 0
        scores.append(pd.read_parquet(tmp_path / f"{number}" / "predictions.parquet").scores.map(list).to_list())
        assert main(["features", *data, "--layer", "fc6", "--out", str(tmp_path / f"{number}.parquet")]) == 0
        features.append(pd.read_parquet(tmp_path / f"{number}.parquet").feature.map(list).to_list())
    assert told[0] == told[1]
    assert scores[0] == scores[1]
    assert features[0] == features[1]
    trained_on = ["evaluate", "--checkpoint", str(published), "--data", str(motion_dataset), "--split", "train", *QUICK]
    assert main([*trained_on, "--out", str(tmp_path / "train")]) == 2
    assert "was trained on 40 of its 40 videos" in capsys.readouterr().err


def test_training_begins_from_the_folder(published):
    network = C3D.from_pretrained(published, num_classes=3)
    assert network.num_classes == 3
    assert network.stages.conv1a[0].weight.equal(C3D.load(published).stages.conv1a[0].weight)


def test_nothing_of_this_machine_is_in_the_folder(published, motion_checkpoint):
    for path in published.iterdir():
        assert str(motion_checkpoint.parents[2]).encode() not in path.read_bytes(), path.name
    config = ModelConfig.read(published)
    assert config.class_path == "lightning_modules.C3D"
    assert "root" not in config.dataset
    assert (published / "labels.txt").read_text().splitlines() == config.init_args["class_names"]
    assert json.loads((published / "preprocessing.json").read_text())["crop_size"] == 32
    record = yaml.safe_load((published / "training.yaml").read_text())
    assert (record["seed_everything"], record["data"]["init_args"]["root"]) == (3, "shards")
    assert record["wandb_api_key"] == "(hidden)"


def test_the_card_is_one_of_the_hub_and_says_what_the_report_says(published, report):
    card = ModelCard.load(published / "README.md")
    figures = json.loads((report / "report.json").read_text())
    assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "video-classification")
    found = {result.metric_name: result for result in card.data.eval_results}
    assert found["top-1"].metric_value == pytest.approx(figures["top1"])
    assert (found["top-1"].metric_type, found["top-1"].dataset_split) == ("accuracy", "test")
    low, high = figures["intervals"]["top1"]
    assert f"| top-1 | {100 * figures['top1']:.1f} % | {100 * low:.1f} % to {100 * high:.1f} % |" in card.text
    assert "None of these videos, nor of their groups, was found in the training." in card.text
    config = ModelConfig.read(published)
    said = [
        config.dataset["identity"],
        "CC0-1.0",
        "To be tested.",
        "- Tests.",
        "fit --config training.yaml",
        "learning_rate",
    ]
    assert [text for text in said if text not in card.text.replace("\\", "")] == []


def test_the_same_gives_the_same_bytes(published, motion_checkpoint, report, config, tmp_path):
    words = ["--training-config", str(config)]
    words += ["--checkpoint", str(motion_checkpoint), "--report", str(report), "--out", str(tmp_path / "motion"), *SAID]
    assert main(["publish", *words]) == 0
    again = ["--checkpoint", str(published), "--report", str(report), "--out", str(tmp_path / "b" / "motion"), *SAID]
    assert main(["publish", *again]) == 0
    for path in published.iterdir():
        assert (tmp_path / "motion" / path.name).read_bytes() == path.read_bytes(), path.name
        assert (tmp_path / "b" / "motion" / path.name).read_bytes() == path.read_bytes(), path.name


def test_without_reports_and_fingerprints(motion_checkpoint, tmp_path, capsys):
    shutil.copy(motion_checkpoint, tmp_path / "c.ckpt")
    folder = tmp_path / "out"
    words = ["--checkpoint", str(tmp_path / "c.ckpt"), "--out", str(folder), "--training-videos", "false"]
    assert main(["publish", *words]) == 0
    assert "not stated: --report, --license, --data-license" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "labels.txt",
        "model.safetensors",
        "preprocessing.json",
    ]
    assert open_checkpoint(folder).fingerprints == (None,)
    assert ModelCard.load(folder / "README.md").data.license is None


def test_what_cannot_be_is_one_sentence_and_leaves_nothing(published, motion_checkpoint, report, tmp_path, capsys):
    other = torch.load(motion_checkpoint, weights_only=True)
    other["classifier"]["init_args"]["weights"] = "hf_" + 34 * "x"
    torch.save(other, tmp_path / "secret.ckpt")
    (tmp_path / "report.json").write_text("{}")
    checkpoint, out = ["--checkpoint", str(motion_checkpoint)], ["--out", str(tmp_path / "out")]
    cases = [
        ([*checkpoint, "--out", str(published)], "was published before; give --overwrite"),
        ([*checkpoint, "--out", str(tmp_path)], "is not empty"),
        ([*checkpoint, *out, "--report", str(tmp_path / "none")], "no report.json there"),
        ([*checkpoint, *out, "--report", str(tmp_path)], "is not a report of one network"),
        (["--checkpoint", str(tmp_path / "secret.ckpt"), *out], "must not be published"),
        (["--checkpoint", str(tmp_path / "none.ckpt"), *out], "no such file"),
    ]
    for words, message in cases:
        assert main(["publish", *words]) == 2, words
        printed = capsys.readouterr().err
        assert message in printed, printed
        assert printed.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "secret.ckpt"]


def test_a_report_of_another_checkpoint_is_refused(motion_checkpoint, report, tmp_path, capsys):
    other = torch.load(motion_checkpoint, weights_only=True)
    other["state_dict"]["stages.conv1a.0.weight"] += 1
    torch.save(other, tmp_path / "other.ckpt")
    words = ["--checkpoint", str(tmp_path / "other.ckpt"), "--report", str(report), "--out", str(tmp_path / "out")]
    assert main(["publish", *words]) == 2
    assert "is of another checkpoint" in capsys.readouterr().err


def test_a_damaged_or_foreign_folder_is_one_sentence(published, motion_dataset, tmp_path, capsys):
    def spoil(name, change):
        folder = shutil.copytree(published, tmp_path / name)
        change(folder)
        return folder

    def edit(folder, **values):
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | values))

    folders = {
        spoil("cut", lambda folder: (folder / "model.safetensors").write_bytes(b"cut")): "it is damaged or not the pub",
        spoil("lost", lambda folder: (folder / "model.safetensors").unlink()): "has no model.safetensors",
        spoil("training", lambda folder: (folder / "training.safetensors").write_bytes(b"")): "it is damaged or not",
        spoil("no_config", lambda folder: (folder / "config.json").unlink()): "its config.json cannot be read",
        spoil("text", lambda folder: (folder / "config.json").write_text("hello")): "its config.json cannot be read",
        spoil("foreign", lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}')): "transformers:",
        spoil("later", lambda folder: edit(folder, format_version=9)): "another version of this project",
        spoil("more", lambda folder: edit(folder, pickle="x")): "is not as `publish` wrote it",
        spoil("files", lambda folder: edit(folder, files={"../x": ""})): "does not say the SHA-256",
        spoil("class", lambda folder: edit(folder, class_path="os.system")): "to import it, allow its module 'os'",
        spoil("arguments", lambda folder: edit(folder, init_args={"width": 3})): "num_classes",
    }
    for folder, message in folders.items():
        assert main(["classify", str(motion_dataset), "--checkpoint", str(folder)]) == 2, folder
        printed = capsys.readouterr().err
        assert message in printed, printed
        assert "Traceback" not in printed


def test_several_labels(several_labels_checkpoint, several_labels_dataset, tmp_path):
    words = ["--data", str(several_labels_dataset), "--out", str(tmp_path / "report"), *QUICK]
    assert main(["evaluate", "--checkpoint", str(several_labels_checkpoint), *words]) == 0
    published = ["--report", str(tmp_path / "report"), "--out", str(tmp_path / "out")]
    assert main(["publish", "--checkpoint", str(several_labels_checkpoint), *published]) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert {result.metric_name for result in card.data.eval_results} == {"mAP", "top-1 hit"}
    assert open_checkpoint(tmp_path / "out").model.task == "multi_label"
