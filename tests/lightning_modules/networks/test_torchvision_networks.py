"""Networks of torchvision and timm, where torchvision imports; PyPI has no wheel of it for torch of CPUs."""

import pytest
import torch

from lightning_modules import CNNLSTM, PretrainedVideoNetwork
from lightning_modules.networks.frame_encoders import make_encoder
from lightning_modules.video_adapters import torchvision_adapter
from tests.lightning_modules.networks.test_frame_encoders import save

# Clips that are quick; those of mvit_v2_s are the only ones that it takes.
CLIPS = {
    "r3d_18": (8, 64),
    "mc3_18": (8, 64),
    "r2plus1d_18": (8, 64),
    "s3d": (14, 224),
    "mvit_v2_s": (16, 224),
    "swin3d_t": (4, 64),
}


@pytest.fixture(scope="module")
def library():
    try:
        import torchvision.models as library
    except Exception as error:  # one built for another torch raises RuntimeError
        pytest.skip(f"torchvision does not import beside torch {torch.__version__}: {error}")
    return library


@pytest.fixture
def published(library, tmp_path, monkeypatch):
    """A function that puts random weights of a network where torch's hub keeps downloads, and gives the network."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def publish(name):
        torch.manual_seed(0)
        network = library.get_model(name, weights=None).eval()
        url = library.get_model_weights(name).DEFAULT.url
        torch.save(network.state_dict(), tmp_path / "checkpoints" / url.rpartition("/")[2])
        return network

    return publish


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "mvit_v2_s" else name for name in CLIPS]
)
def test_a_video_network_has_the_numbers_of_the_library(published, name):
    theirs = published(name)
    ours = PretrainedVideoNetwork.open_pretrained(f"torchvision:{name}")
    frames, side = CLIPS[name]
    x = torch.randn(1, 3, frames, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(ours.clip_logits(x), theirs(x), atol=1e-5, rtol=0)
    assert len(ours.class_names) == 400
    settings = PretrainedVideoNetwork.clip_settings_of(ours.hparams)
    assert (settings["num_frames"], settings["fps"]) == torchvision_adapter._CLIPS[name]


@pytest.mark.parametrize("name", ["mc3_18", "swin3d_t"])
def test_a_video_network_of_other_classes_is_whole_in_its_checkpoint(published, tmp_path, name):
    published(name)
    model = PretrainedVideoNetwork(f"torchvision:{name}", num_classes=3, head="attentive", probe_depth=1)
    model.load_initial_weights("pretrained")
    for file in (tmp_path / "checkpoints").iterdir():
        file.unlink()
    loaded = PretrainedVideoNetwork.load(save(model.eval(), tmp_path / "own.ckpt"))
    x = torch.randn(1, 3, *CLIPS[name], CLIPS[name][1])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.clip_logits(x), model.clip_logits(x))
    with pytest.raises(ValueError, match="video networks of torchvision are r3d_18, mc3_18"):
        PretrainedVideoNetwork("torchvision:resnet18", num_classes=3)


def test_stochastic_depth_and_low_rank_updates(library):
    assert PretrainedVideoNetwork("torchvision:swin3d_t", weights="none", num_classes=2, lora_rank=2, drop_path=0.2)
    with pytest.raises(ValueError, match=r"drop_path=0\.2: r3d_18 has no stochastic depth"):
        PretrainedVideoNetwork("torchvision:r3d_18", weights="none", num_classes=2, drop_path=0.2)
    with pytest.raises(ValueError, match="lora_rank=2: r3d_18 has no attention"):
        PretrainedVideoNetwork("torchvision:r3d_18", weights="none", num_classes=2, lora_rank=2)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", pytest.param("vit_b_16", marks=pytest.mark.slow)])
def test_a_frame_encoder_has_the_vectors_before_the_classifier(published, tmp_path, name):
    theirs = published(name)
    model = CNNLSTM(num_classes=2, encoder=f"torchvision:{name}", hidden_size=3).eval()
    model.load_published_encoder()
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    filed = CNNLSTM(num_classes=2, encoder=f"torchvision:{name}", encoder_weights=str(tmp_path / "file.pth")).eval()
    filed.load_encoder(tmp_path / "file.pth")
    x = torch.randn(1, 3, 2, 224, 224)
    with torch.inference_mode():
        vectors = model.endpoints(x, ["frames"])["frames"][0]
        last = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)][-1]
        torch.testing.assert_close(last(vectors), theirs(x[0].transpose(0, 1)), atol=1e-5, rtol=0)
        torch.testing.assert_close(filed.endpoints(x, ["frames"])["frames"][0], vectors)
    assert model.hparams["std"] == pytest.approx([0.229, 0.224, 0.225])


def test_a_network_of_timm(library, tmp_path):
    timm = pytest.importorskip("timm", reason="timm is no dependency; it needs torchvision")
    theirs = timm.create_model("resnet18", pretrained=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    encoder = make_encoder("timm:resnet18").eval()
    encoder.load_state(theirs.state_dict(), "file.pth")
    frames = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(theirs.fc(encoder(frames)), theirs(frames), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="timm has no such network"):
        make_encoder("timm:nothing_like_it")
