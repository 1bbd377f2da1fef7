"""From packed flow to results: a network of flow learns directions, and every verb gives it flow."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from tests.pipeline.conftest import fit

Capture = pytest.CaptureFixture[str]
STREAM = "--data.stream=flow"
TRAINING = ("--trainer.max_epochs=12", "--model.width=4", "--model.dropout=0", "--data.batch_size=4")
RATE = ("--model.learning_rate=0.003", "--model.optimizer=adamw")


@pytest.fixture(scope="module")
def checkpoint(flow_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small C3D of flow, trained on textures that move in four directions."""
    return fit(flow_dataset, tmp_path_factory.mktemp("fit"), STREAM, *TRAINING, *RATE)


def test_the_network_follows_the_stream(checkpoint: Path) -> None:
    saved = read_checkpoint(checkpoint)
    assert saved["classifier"]["init_args"]["in_channels"] == 2
    assert saved["datamodule_hyper_parameters"]["stream"] == "flow"
    [state] = [one for one in saved.values() if isinstance(one, dict) and "dataset" in one]
    assert (state["dataset"]["stream"], state["dataset"]["flow"]) == ("flow", "dis")


def test_directions_are_learnt_and_evaluated(checkpoint: Path, flow_dataset: Path, tmp_path: Path) -> None:
    words = ["--checkpoint", str(checkpoint), "--data", str(flow_dataset), "--split", "test", "--num-clips", "1"]
    assert main(["evaluate", *words, "--out", str(tmp_path / "results")]) == 0
    assert json.loads((tmp_path / "results" / "report.json").read_text())["top1"] >= 0.625  # chance is 0.25


def test_plain_files_are_classified_by_computed_flow(checkpoint: Path, flow_dataset: Path, capsys: Capture) -> None:
    files = [str(flow_dataset.parent / "videos" / f"move_{name}5.mp4") for name in ("right", "left", "down", "up")]
    top: dict[str, list[str]] = {}
    for videos in (files, [str(flow_dataset)]):
        assert main(["classify", *videos, "--checkpoint", str(checkpoint), "--top", "1", "--json", "true"]) == 0
        for line in capsys.readouterr().out.splitlines():
            result = json.loads(line)
            top.setdefault(Path(result["video"]).stem, []).append(result["top"][0]["class"])
    answers = [names for names in top.values() if len(names) == 2]
    assert len(answers) == 4
    assert all(plain == packed for plain, packed in answers)
    assert main(["classify", files[0], "--checkpoint", str(checkpoint), "--timeline", "--json", "true"]) == 0
    assert len(json.loads(capsys.readouterr().out)["timeline"]) >= 1


def test_features_of_packed_and_plain_videos(checkpoint: Path, flow_dataset: Path, tmp_path: Path) -> None:
    common = ["--checkpoint", str(checkpoint), "--layer", "fc6", "--num-clips", "1"]
    packed, plain = tmp_path / "packed.parquet", tmp_path / "plain.parquet"
    assert main(["features", *common, "--data", str(flow_dataset), "--split", "test", "--out", str(packed)]) == 0
    videos = str(flow_dataset.parent / "videos")
    assert main(["features", *common, "--videos", videos, "--out", str(plain)]) == 0
    features = [
        {row["key"]: np.array(row["feature"]) for row in pq.read_table(path).to_pylist()} for path in (packed, plain)
    ]
    assert len(features[0]) == 8
    for key, of_packed in features[0].items():  # the same flow but for the rounding of its video
        assert np.corrcoef(of_packed.ravel(), features[1][key].ravel())[0, 1] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_program_of_flow_classifies_plain_files(
    checkpoint: Path, flow_dataset: Path, tmp_path: Path, capsys: Capture, format: str
) -> None:
    program, video = tmp_path / "program", str(flow_dataset.parent / "videos" / "move_right5.mp4")
    assert main(["export", "--checkpoint", str(checkpoint), "--format", format, "--out", str(program)]) == 0
    description = json.loads((program / "model.json").read_text())
    assert description["input"]["clips"][-1] == 2
    allow = ["--allow", "torch.export"] if format == "torch" else []
    results = []
    for network in (["--checkpoint", str(checkpoint)], ["--model", str(program), *allow]):
        capsys.readouterr()
        assert main(["classify", video, *network, "--json", "true"]) == 0
        results.append(json.loads(capsys.readouterr().out)["top"])
    assert [each["class"] for each in results[0]] == [each["class"] for each in results[1]]
    probabilities = [[each["probability"] for each in result] for result in results]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-4)


@pytest.mark.slow
def test_a_linear_classifier_of_flow_features_classifies_plain_files(
    checkpoint: Path, flow_dataset: Path, tmp_path: Path, capsys: Capture
) -> None:
    common = ["--checkpoint", str(checkpoint), "--layer", "fc6", "--num-clips", "1", "--data", str(flow_dataset)]
    for split in ("train", "test"):
        assert main(["features", *common, "--split", split, "--out", str(tmp_path / f"{split}.parquet")]) == 0
    files = ["--train", str(tmp_path / "train.parquet"), "--test", str(tmp_path / "test.parquet")]
    assert main(["linear", *files, "--out", str(tmp_path / "linear")]) == 0
    capsys.readouterr()
    head = str(next((tmp_path / "linear").rglob("weights.safetensors")))
    network = ["--checkpoint", str(checkpoint), "--linear", head, "--top", "1", "--json", "true"]
    top: dict[str, list[str]] = {}
    for videos in (flow_dataset.parent / "videos", flow_dataset):  # computed, and as packed
        assert main(["classify", str(videos), *network]) == 0
        for line in capsys.readouterr().out.splitlines():
            result = json.loads(line)
            top.setdefault(Path(result["video"]).stem, []).append(result["top"][0]["class"])
    both = [names for names in top.values() if len(names) == 2]
    assert len(both) == len(top)
    assert sum(plain == packed for plain, packed in both) >= 0.9 * len(both)


def test_show_draws_flow(flow_dataset: Path, tmp_path: Path) -> None:
    page = tmp_path / "clips.html"
    words = ["--model=C3D", "--data=ShardedVideoDataModule", f"--data.root={flow_dataset}", STREAM]
    words += ["--data.crop_size=32", "--data.num_frames=4", "--data.flip_probability=0", "--num_videos=1"]
    assert main(["show", *words, "--stage", "train", "--out", str(page)]) == 0
    assert "stream</dt><dd>flow</dd>" in page.read_text()


def test_what_does_not_go_together_is_one_sentence(
    flow_dataset: Path, checkpoint: Path, motion_dataset: Path, tmp_path: Path, capsys: Capture
) -> None:
    base = ["fit", "--model=C3D", "--data=ShardedVideoDataModule", f"--trainer.default_root_dir={tmp_path}"]
    data = f"--data.root={flow_dataset}"
    assert main([*base, data, "--data.stream=rgb", "--model.in_channels=2"]) == 2
    assert "data.init_args.stream='rgb': the network, C3D, takes 'flow'" in capsys.readouterr().err
    assert main([*base, data, "--data.stream=both"]) == 2
    assert "stream='both', model=C3D: takes one stream; choose the model TwoStream" in capsys.readouterr().err
    assert main([*base, f"--data.root={motion_dataset}", STREAM, "--data.flip_probability=0"]) == 2
    assert "has no optical flow; pack it into another folder with --flow" in capsys.readouterr().err
    assert (
        main(["evaluate", "--checkpoint", str(checkpoint), "--data", str(motion_dataset), "--out", str(tmp_path)]) == 2
    )
    assert "has no optical flow" in capsys.readouterr().err
