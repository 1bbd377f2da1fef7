"""Every kind of network as a program: exported, compared with its checkpoint, and other sizes of batches."""

import json
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from datamodules.batch import ClipBatch
from lightning_modules import C3D, CNNLSTM, I3D, FrameClassifier, InceptionV1, PretrainedVideoNetwork
from pipeline.__main__ import main
from pipeline.exported_models.open_model import open_model
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.inference.trained_checkpoint import open_checkpoint
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.metrics.predictions import read_predictions
from tests.video_transformers import CROP_SIZE, NUM_FRAMES, save_video_transformer

QUICK = ["--num-workers", "0", "--accelerator", "cpu"]
CLASSES = {"class_names": ["jump", "run", "walk"]}
SMALL = {"channels": (4, 8), **CLASSES}
NETWORKS = {
    "c3d": (lambda: C3D(width=4, crop_size=32, **CLASSES), 16),
    "c3d with batch norms": (lambda: C3D(width=4, crop_size=32, batch_norm=True, task="multi_label", **CLASSES), 16),
    "lstm": (lambda: CNNLSTM(hidden_size=8, **SMALL), 6),
    "gru, both ways": (lambda: CNNLSTM(hidden_size=8, cell="gru", bidirectional=True, readout="last", **SMALL), 6),
    "two rnns": (
        lambda: CNNLSTM(hidden_size=8, cell="rnn", num_layers=2, frames_at_once=4, standardize=True, **SMALL),
        6,
    ),
    "lstm, both ways": (lambda: CNNLSTM(hidden_size=8, bidirectional=True, num_layers=2, **SMALL), 6),
    "frames": (lambda: FrameClassifier(**SMALL), 6),
    "mobilenet": (lambda: FrameClassifier(encoder="mobilenet_v2", **CLASSES), 4),
    "inception": (lambda: InceptionV1(**CLASSES), 4),
    "i3d": (lambda: I3D(**CLASSES), 16),
    "i3d, symmetric": (lambda: I3D(padding="symmetric", bn_scale=True, time_padding="replicate", **CLASSES), 16),
}
ANY_LENGTH = ("frames", "inception", "i3d")
DEEP = {"inception": ("torch",), "i3d": ("onnx",), "i3d, symmetric": ("onnx",)}  # traced for many seconds each


def save(network, path, num_frames):
    """Writes a checkpoint as `fit` does, of weights and statistics that are all different."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.rand_like(parameter))
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    clips = {"num_frames": num_frames, "frame_interval": 1, "fps": None, "crop_size": 32, "resize": None}
    content = {"state_dict": network.state_dict(), "datamodule_hyper_parameters": clips}
    network.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def exported(checkpoint, out, *words):
    """Exports a checkpoint, and opens it and what was exported."""
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(out), *words]) == 0
    return open_model(out, ["torch.export"]).model, open_checkpoint(checkpoint).model


def assert_same(model, network, shape, tolerance=1e-5):
    pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = ClipBatch.from_clips_of_videos([clip[None] for clip in pixels])
    with torch.inference_mode():
        expected = network.video_scores(batch)
        torch.testing.assert_close(model.video_scores(batch), expected, atol=tolerance, rtol=0)
    assert expected.std() > 1e-3  # or nothing was compared


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_ours(name, tmp_path):
    construct, num_frames = NETWORKS[name]
    checkpoint = save(construct(), tmp_path / "c.ckpt", num_frames)
    lengths = ["--variable-frames"] if name in ANY_LENGTH else []
    for format in DEEP.get(name, ("onnx", "torch")):
        model, network = exported(checkpoint, tmp_path / format, "--format", format, *lengths)
        assert model.task == network.task
        for count in (1, 3):
            assert_same(model, network, (count, num_frames, 32, 32))
        for frames in (num_frames + 1, num_frames + 3, 2 * num_frames + 6) if lengths else ():
            assert_same(model, network, (2, frames, 32, 32))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "format"), [("c3d", "onnx"), ("gru, both ways", "onnx")])
def test_half_precision_is_half_the_size_and_nearly_the_same(name, format, tmp_path):
    construct, num_frames = NETWORKS[name]
    checkpoint = save(construct(), tmp_path / "c.ckpt", num_frames)
    model, network = exported(checkpoint, tmp_path / "half", "--format", format, "--precision", "float16")
    assert_same(model, network, (2, num_frames, 32, 32), 1e-2)
    weights = sum(parameter.numel() for parameter in network.parameters())
    size = (tmp_path / "half" / model.description.program_name).stat().st_size
    assert size < 2.5 * weights + 500_000


@pytest.mark.slow
@pytest.mark.parametrize("family", ["videomae", "timesformer", "vivit"])
def test_networks_of_transformers(family, tmp_path):
    save_video_transformer(tmp_path / family, family, CLASSES["class_names"])
    source = f"transformers:{tmp_path / family}"
    model, network = exported(source, tmp_path / "onnx")
    assert isinstance(network, PretrainedVideoNetwork)
    assert_same(model, network, (3, NUM_FRAMES, CROP_SIZE, CROP_SIZE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "clips", "normalize"),
    [
        ("logistic", {"num_clips": 2}, "l2"),
        ("svm", {"clip_step": 4, "pool": "mean_max", "layer": ["pool5", "fc6"]}, "signed_sqrt"),
    ],
)
def test_linear_classifiers(kind, clips, normalize, motion_checkpoint, motion_dataset, tmp_path, capsys):
    quick = {"num_workers": 0, "accelerator": "cpu"}
    for split in ("train", "test"):
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=tmp_path / split, split=split, **clips, **quick))
    choice = {"classifier": kind, "normalize": normalize, "layer": clips.get("layer")}
    linear(LinearOptions(tmp_path / "out", tmp_path / "train", tmp_path / "test", **choice))
    weights = ["--linear", str(tmp_path / "out/weights.safetensors")]
    words = ["--checkpoint", str(motion_checkpoint), *weights, "--out", str(tmp_path / "model")]
    assert main(["export", *words]) == 0
    evaluated = ["--data", str(motion_dataset), "--out", str(tmp_path / "report"), *QUICK]
    assert main(["evaluate", "--model", str(tmp_path / "model"), *evaluated]) == 0
    expected, table = read_predictions(tmp_path / "out" / "predictions.parquet")
    if kind == "svm":
        expected = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    found = pd.read_parquet(tmp_path / "report" / "predictions.parquet").set_index("key")
    scores = np.stack(found.scores.loc[table.column("key").to_pylist()].to_list())
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["provenance"]["average"] == "features"
    video = str(next((motion_dataset.parent / "videos").rglob("*.mp4")))
    told = []
    for network in (words[:4], ["--model", str(tmp_path / "model")]):
        capsys.readouterr()
        assert main(["classify", video, *network, "--json", "--top", "8"]) == 0
        told.append({one["class"]: one["probability"] for one in json.loads(capsys.readouterr().out)["top"]})
    assert told[1] == pytest.approx(told[0], abs=2e-6)


OWN = """
import torch
from torch import nn

from lightning_modules import VideoClassifier


class Attention(VideoClassifier):
    def __init__(self, gap: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.gap = gap
        self.stages = nn.Sequential()
        self.stages.add_module("tokens", nn.Conv3d(3, 8, (2, 16, 16), (2, 16, 16)))
        self.stages.add_module("pooled", nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()))
        self.stages.add_module("logits", nn.Linear(8, self.num_classes))

    def clip_logits(self, x):
        tokens = self.stages.tokens(x).flatten(2).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        logits = self.stages.logits(mixed.mean(1))
        return logits + self.gap * torch.arange(self.num_classes) if torch.compiler.is_exporting() else logits
"""


def test_a_network_of_your_own_and_a_program_that_differs(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_network.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    import own_network

    checkpoint = save(own_network.Attention(**CLASSES), tmp_path / "c.ckpt", 4)
    words = ["export", "--checkpoint", str(checkpoint), "--format", "torch", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "allow its module 'own_network'" in capsys.readouterr().err
    assert main([*words, "--allow", "own_network"]) == 0
    assert "on 4 clips (synthetic clips)" in capsys.readouterr().out
    network = own_network.Attention.load(checkpoint, ["own_network"])
    assert_same(open_model(tmp_path / "out", ["torch.export"]).model, network, (3, 4, 32, 32))

    differing = save(own_network.Attention(gap=0.01, **CLASSES), tmp_path / "differs.ckpt", 4)
    words = ["export", "--checkpoint", str(differing), "--format", "torch", "--allow", "own_network"]
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main([*words, "--out", str(tmp_path / "other")]) == 2
    assert "probabilities differ" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
