"""`export`: the program of a checkpoint gives the checkpoint's numbers, also through `classify` and `evaluate`."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch

from pipeline.__main__ import main
from pipeline.exported_models.model_folder import METADATA_KEY, ModelDescription
from pipeline.inference.trained_checkpoint import open_checkpoint

QUICK = ["--num-workers", "0", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def model(motion_checkpoint, tmp_path_factory):
    """The checkpoint in ONNX. Read-only."""
    folder = tmp_path_factory.mktemp("models") / "onnx"
    assert main(["export", "--checkpoint", str(motion_checkpoint), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def torch_model(motion_checkpoint, tmp_path_factory):
    """The checkpoint as a program of torch.export. Read-only."""
    folder = tmp_path_factory.mktemp("models") / "torch"
    assert main(["export", "--checkpoint", str(motion_checkpoint), "--out", str(folder), "--format", "torch"]) == 0
    return folder


def test_a_program_says_what_it_takes_and_where_it_comes_from(model, motion_checkpoint):
    description = ModelDescription.read(model)
    trained = open_checkpoint(motion_checkpoint)
    assert description.classes == trained.model.class_names
    assert {name: description.clips[name] for name in trained.clips} == trained.clips
    assert description.checkpoint["sha256"] == trained.sha256
    assert description.checkpoint["network"] == "lightning_modules.C3D"
    assert description.verification["num_clips"] == 8
    assert description.verification["largest_difference"] < 1e-5
    assert description.verification["source"] == "4 of the videos in shards"  # of the training, as it is still there
    assert str(motion_checkpoint.parent) not in (model / "model.json").read_text()
    program = onnx.load(model / "model.onnx")
    onnx.checker.check_model(program)
    [entry] = [one.value for one in program.metadata_props if one.key == METADATA_KEY]
    assert json.loads(entry)["classes"] == description.classes


def test_onnxruntime_alone_takes_any_number_of_clips(model, motion_checkpoint):
    session = onnxruntime.InferenceSession(model / "model.onnx")
    [clips] = session.get_inputs()
    assert (clips.name, clips.type, clips.shape) == ("clips", "tensor(uint8)", ["N", 16, 32, 32, 3])
    assert [(one.name, one.shape) for one in session.get_outputs()] == [
        ("probabilities", ["N", 8]),
        ("logits", ["N", 8]),
    ]
    network = open_checkpoint(motion_checkpoint).model
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 32, 32, 3), dtype=np.uint8)
    normalized = (torch.from_numpy(pixels).permute(0, 4, 1, 2, 3) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = network.stages(normalized).softmax(1).numpy()
    for count in (1, 5):
        found = session.run(["probabilities"], {"clips": pixels[:count]})[0]
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)


def test_classify_and_evaluate_give_the_numbers_of_the_checkpoint(
    model, motion_checkpoint, motion_dataset, tmp_path, capsys
):
    assert_same_numbers([str(model)], motion_checkpoint, motion_dataset, tmp_path, capsys)


@pytest.mark.slow
def test_a_program_of_torch_does_where_it_is_trusted(torch_model, motion_checkpoint, motion_dataset, tmp_path, capsys):
    extra = {"model.json": ""}
    torch.export.load(torch_model / "model.pt2", extra_files=extra)
    assert json.loads(extra["model.json"])["checkpoint"] == ModelDescription.read(torch_model).checkpoint
    assert main(["classify", str(motion_dataset), "--model", str(torch_model)]) == 2
    assert "give --allow torch.export" in capsys.readouterr().err
    words = [str(torch_model), "--allow", "torch.export"]
    assert_same_numbers(words, motion_checkpoint, motion_dataset, tmp_path, capsys)


def assert_same_numbers(model, motion_checkpoint, motion_dataset, tmp_path, capsys):
    networks = {"checkpoint": [str(motion_checkpoint)], "model": model}
    told, scored = {}, {}
    videos = str(next((motion_dataset.parent / "videos").rglob("*.mp4")).parent)
    for option, words in networks.items():
        network = [f"--{option}", *words]
        capsys.readouterr()
        assert main(["classify", videos, *network, "--num-clips", "2", "--json", "--top", "8"]) == 0
        told[option] = [json.loads(line)["top"] for line in capsys.readouterr().out.splitlines()]
        out = ["--out", str(tmp_path / option), "--num-clips", "2", "--num-crops", "3", "--average", "logits", *QUICK]
        assert main(["evaluate", *network, "--data", str(motion_dataset), *out]) == 0
        scored[option] = pd.read_parquet(tmp_path / option / "predictions.parquet")
    for expected, found in zip(told["checkpoint"], told["model"], strict=True):
        assert {one["class"]: one["probability"] for one in found} == pytest.approx(
            {one["class"]: one["probability"] for one in expected}, abs=2e-6
        )
    expected, found = (np.stack(scored[option].scores.to_list()) for option in networks)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (scored["model"].key == scored["checkpoint"].key).all()
    report = json.loads((tmp_path / "model" / "report.json").read_text())
    assert report["provenance"]["program"]["format"] in ("onnx", "torch")
    assert report["provenance"]["training_videos_known"] is True


def test_a_model_remembers_what_it_was_trained_on(model, motion_dataset, tmp_path, capsys):
    words = ["--model", str(model), "--data", str(motion_dataset), "--split", "train", *QUICK]
    assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 2
    assert "was trained on 40 of its 40 videos" in capsys.readouterr().err


def test_what_cannot_be_done_is_one_sentence(model, motion_checkpoint, motion_dataset, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "changed")
    with (tmp_path / "changed" / "model.onnx").open("ab") as file:
        file.write(b"more")
    data = ["--data", str(motion_dataset), "--out", str(tmp_path / "out"), *QUICK]
    onnx_model = str(model)
    cases = [
        (["classify", str(motion_dataset), "--model", str(tmp_path)], "has no model.json; give the folder"),
        (["evaluate", "--model", str(tmp_path), *data], "and no model.json (of `export`)"),
        (
            ["evaluate", "--model", str(tmp_path / "changed"), *data],
            "model.onnx is missing or is not what `exp",
        ),
        (["evaluate", "--model", onnx_model, "--num-frames", "8", *data], "exported for clips of 16 frames of 32 x 32"),
        (["evaluate", "--model", onnx_model, "--precision", "bf16-mixed", *data], "computes in float32"),
        (["evaluate", "--model", onnx_model, "--checkpoint", "c.ckpt", *data], "give either --checkpoint"),
        (["export", "--checkpoint", str(motion_checkpoint), "--out", onnx_model], "give --overwrite to replace it"),
        (["export", "--checkpoint", str(motion_checkpoint), "--out", str(model.parent.parent)], "is not empty"),
    ]
    for words, message in cases:
        assert main(words) == 2, words
        assert message in capsys.readouterr().err, words
