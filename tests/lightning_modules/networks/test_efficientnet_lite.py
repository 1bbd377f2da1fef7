"""EfficientNet-Lite: the authors' layers, the published names, and numbers of the package's own network."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lightning_modules import CNNLSTM, FrameClassifier
from lightning_modules.networks.frame_encoders import make_encoder
from pipeline.inference.trained_checkpoint import open_checkpoint

# Parameters without the classifier of 1000 classes (4.7, 5.4, 6.1 M with it, in the authors' README), blocks, frames.
SIZES = {
    "efficientnet_lite0": (3_371_008, 16, 224),
    "efficientnet_lite1": (4_135_680, 21, 240),
    "efficientnet_lite2": (4_811_072, 21, 260),
}
PARTS = {"expand": 0, "depthwise": 1, "project": 2}


def published_state(name: str) -> dict[str, torch.Tensor]:
    """Random weights under the package's names, with a classifier."""
    state = {"_fc.weight": torch.rand(1000, 1280), "_fc.bias": torch.rand(1000)}
    for key, value in make_encoder(name).state_dict().items():
        stage, *middle, kind, leaf = key.removeprefix("stages.").split(".")
        if stage in ("stem", "last"):
            theirs = {"conv": f"_conv_{'head' if stage == 'last' else stage}", "bn": f"_bn{int(stage == 'last')}"}[kind]
        else:
            part = middle[-1]
            theirs = f"_blocks.{stage.removeprefix('block')}."
            theirs += f"_{part}_conv" if kind == "conv" else f"_bn{PARTS[part]}"
        state[f"{theirs}.{leaf}"] = torch.rand_like(value.float()).to(value.dtype)
    return state


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_authors(name):
    network = make_encoder(name).eval()
    parameters, blocks, side = SIZES[name]
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert sum(stage.startswith("block") for stage, _ in network.stages.named_children()) == blocks
    assert FrameClassifier.clip_settings_of({"encoder": name}) == {"resize": side + 32, "crop_size": side}
    assert network(torch.rand(1, 3, 65, 65)).shape == (1, 1280)
    assert make_encoder(name, grid=2).output_size == 4 * 1280


def test_padding_is_tensorflow_s():
    """One more column and row at the end: none before the frame, where its sides are even."""
    stem = make_encoder("efficientnet_lite0").eval().stages.stem
    frame = torch.rand(1, 3, 8, 8)
    expected = F.conv2d(F.pad(frame, (0, 1, 0, 1)), stem.conv.weight, stride=2)
    scale = (1 + 1e-3) ** -0.5  # of a batch norm that has seen nothing
    torch.testing.assert_close(stem(frame), (expected * scale).clamp(0, 6))


def test_statistics_move_as_in_the_authors_and_in_torch():
    """By a hundredth a step, and in MobileNetV2, which has torch's batch norms, by a tenth."""
    for name, momentum in (("efficientnet_lite0", 0.01), ("mobilenet_v2", 0.1)):
        norms = [one for one in make_encoder(name).modules() if isinstance(one, torch.nn.BatchNorm2d)]
        assert len(norms) > 40
        assert {norm.momentum for norm in norms} == {momentum}


def test_the_package_s_names_fit_key_by_key(tmp_path):
    state = published_state("efficientnet_lite1")
    torch.save(state, tmp_path / "weights.pth")
    model = CNNLSTM(num_classes=2, encoder="efficientnet_lite1", hidden_size=3)
    model.load_encoder(tmp_path / "weights.pth")
    assert model.std.tolist() == pytest.approx([128 / 255] * 3)
    ours = model.stages.frames.network.stages.state_dict()
    assert len(ours) == len(state) - 2
    for theirs, mine in (
        ("_conv_stem.weight", "stem.conv.weight"),
        ("_bn0.running_var", "stem.bn.running_var"),
        ("_bn1.bias", "last.bn.bias"),
        ("_blocks.0._bn1.weight", "block0.layers.depthwise.bn.weight"),
        ("_blocks.20._bn2.weight", "block20.layers.project.bn.weight"),
        ("_blocks.3._expand_conv.weight", "block3.layers.expand.conv.weight"),
    ):
        assert torch.equal(ours[mine], state[theirs])
    with pytest.raises(ValueError, match="the weights do not fit"):
        CNNLSTM(num_classes=2, encoder="efficientnet_lite2").load_encoder(tmp_path / "weights.pth")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_published_weights_give_the_numbers_of_the_package_s_own_network():
    """Of efficientnet-lite-pytorch 0.1.0, measured once: the norm of a frame's vector and its largest values."""
    trained = open_checkpoint(Path("efficientnet-lite0-imagenet"))
    assert trained.model.endpoints_available == ("frames", "state")
    frame = torch.linspace(-1, 1, 3 * 224 * 224).view(1, 3, 1, 224, 224)
    with torch.inference_mode():
        vector = trained.model.endpoints(frame, ["frames"])["frames"][0, 0]
    assert vector.norm().item() == pytest.approx(10.858332, rel=1e-4)
    assert vector.topk(4).indices.tolist() == [113, 897, 455, 930]
    torch.testing.assert_close(
        vector.topk(4).values, torch.tensor([4.499041, 3.661085, 3.533553, 3.472362]), rtol=1e-4, atol=0
    )
