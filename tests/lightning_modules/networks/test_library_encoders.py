"""Encoders of transformers: small random networks saved to disk, loaded by the real path, equal to the library's."""

import json
import logging
import shutil

import pytest
import torch
import transformers
from pytorch_lightning import Trainer

from lightning_modules import (
    CNNLSTM,
    FrameClassifier,
    PretrainedVideoNetwork,
    Video2Vec,
    VideoClassifier,
    VideoDescriber,
)
from lightning_modules.networks.encoder_description import describe_encoder
from lightning_modules.networks.library_networks import TransformersSource
from tests.lightning_modules.clip_batches import moving_bars
from tests.video_transformers import save_video_transformer

SIDE = 32
LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PATCHES = {**LAYERS, "image_size": SIDE, "patch_size": 8}
TOWER = {**PATCHES, "intermediate_size": 16}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
# Each with the vector of a frame that is expected of its output.
FAMILIES = {
    "resnet": (transformers.ResNetConfig(embedding_size=8, **STAGES), "pooler_output"),
    "convnext": (transformers.ConvNextConfig(num_stages=2, **STAGES), "pooler_output"),
    "vit": (transformers.ViTConfig(intermediate_size=16, **PATCHES), "pooler_output"),
    "dinov2": (transformers.Dinov2Config(**PATCHES), "pooler_output"),
    "dinov3": (transformers.DINOv3ViTConfig(intermediate_size=16, num_register_tokens=2, **PATCHES), "pooler_output"),
    "clip": (transformers.CLIPVisionConfig(**TOWER), "pooler_output"),
    "siglip": (transformers.SiglipVisionConfig(**TOWER), "pooler_output"),
    "mobilenet": (transformers.MobileNetV2Config(depth_multiplier=0.25), "pooler_output"),
}
MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.25, 0.75]
PREPROCESSING = {"size": {"shortest_edge": 40}, "crop_size": {"height": SIDE, "width": SIDE}, "do_center_crop": True}


def save_network(network, folder, **preprocessing):
    network.save_pretrained(folder)
    content = {"image_mean": MEAN, "image_std": STD} | PREPROCESSING | preprocessing
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return f"transformers:{folder}"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The library's own networks by family, and the encoders of their folders."""
    torch.manual_seed(0)
    made, folder = {}, tmp_path_factory.mktemp("networks")
    for name, (configuration, _) in FAMILIES.items():
        network = transformers.AutoModel.from_config(configuration).eval()
        made[name] = network, save_network(network, folder / name)
    return made


@pytest.mark.parametrize(
    ("side", "said", "resize"), [(224, {}, 256), (224, {"crop_pct": 0.5}, 448), (384, {}, [384, 384])]
)
def test_a_convnext_crops_small_frames_and_squeezes_large_ones(side, said, resize, tmp_path):
    FAMILIES["convnext"][0].save_pretrained(tmp_path)
    content = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": side}} | said
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    found = describe_encoder(f"transformers:{tmp_path}", weights="none")
    assert found.clip_settings == {"resize": resize, "crop_size": side}


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_have_the_vectors_of_the_library(networks, family):
    network, encoder = networks[family]
    model = FrameClassifier(num_classes=2, encoder=encoder).eval()
    model.load_published_encoder()
    assert model.hparams["mean"] == pytest.approx(MEAN)
    assert model.std.tolist() == pytest.approx(STD)
    assert FrameClassifier.clip_settings_of({"encoder": encoder}) == {"resize": 40, "crop_size": SIDE}
    for side in (SIDE, 2 * SIDE):
        clips = torch.randn(2, 3, 3, side, side)
        frames = clips.transpose(1, 2).flatten(0, 1)
        resized = side != SIDE and family in ("vit", "clip", "siglip")
        with torch.no_grad():
            expected = network(pixel_values=frames, **({"interpolate_pos_encoding": True} if resized else {}))
            found = model.endpoints(clips, ["frames"])["frames"]
        expected = expected[FAMILIES[family][1]].flatten(1).view(2, 3, -1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert found.shape[2] == model.frame_size


@pytest.mark.parametrize(("family", "others"), [("resnet", 0), ("vit", 1), ("dinov3", 3), ("siglip", 0)])
def test_a_grid_pools_maps_and_patches(networks, family, others):
    network, encoder = networks[family]
    model = FrameClassifier(num_classes=2, encoder=encoder, grid=2).eval()
    model.load_published_encoder()
    frame = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        found = model.endpoints(frame[:, :, None], ["frames"])["frames"]
        hidden = network(pixel_values=frame).last_hidden_state
    cells = hidden if hidden.ndim == 4 else hidden[:, others:].transpose(1, 2).unflatten(2, (4, 4))
    side = cells.shape[2] // 2
    expected = [
        cells[0, :, :side, :side],
        cells[0, :, :side, side:],
        cells[0, :, side:, :side],
        cells[0, :, side:, side:],
    ]
    torch.testing.assert_close(
        found[0, 0].view(-1, 4), torch.stack([cell.mean((1, 2)) for cell in expected], 1), rtol=1e-5, atol=1e-5
    )


def test_a_pooler_that_the_weights_lack_is_left_out(networks, tmp_path):
    """As in published classifiers of ViT; what is random there is the pooler, and the class token is taken."""
    classifier = transformers.ViTForImageClassification(FAMILIES["vit"][0]).eval()
    encoder = save_network(classifier, tmp_path / "vit")
    model = FrameClassifier(num_classes=2, encoder=encoder).eval()
    model.load_published_encoder()
    clips = torch.randn(1, 3, 2, SIDE, SIDE)
    with torch.no_grad():
        found = model.endpoints(clips, ["frames"])["frames"][0]
        expected = classifier.vit(pixel_values=clips[0].transpose(0, 1)).last_hidden_state[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not any("pooler" in name for name in model.state_dict())


def test_the_vision_tower_of_a_network_of_images_and_texts(tmp_path):
    text = {**LAYERS, "intermediate_size": 16, "vocab_size": 30, "bos_token_id": 1, "eos_token_id": 2}
    whole = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=TOWER, projection_dim=8)
    ).eval()
    model = FrameClassifier(num_classes=2, encoder=save_network(whole, tmp_path / "clip")).eval()
    model.load_published_encoder()
    clips = torch.randn(1, 3, 2, SIDE, SIDE)
    with torch.no_grad():
        found = model.endpoints(clips, ["frames"])["frames"][0]
        expected = whole.vision_model(pixel_values=clips[0].transpose(0, 1)).pooler_output
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", [CNNLSTM, Video2Vec, VideoDescriber])
def test_a_fit_starts_from_the_weights_and_its_checkpoint_needs_no_folder(networks, tmp_path, network):
    library, encoder = networks["resnet"]
    shutil.copytree(encoder.partition(":")[2], tmp_path / "resnet")
    options = {"num_classes": 2, "encoder": f"transformers:{tmp_path / 'resnet'}", "hidden_size": 4}
    options |= {"training_captions": ["up", "down"]} if network is VideoDescriber else {}
    options |= {"predicted_frames": 1} if network is Video2Vec else {}
    batch = moving_bars(2, num_frames=3, size=SIDE)
    batch = batch._replace(captions=[["up"], ["down"]]) if network is VideoDescriber else batch
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    model = network(freeze_encoder=True, **options)
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    trainer.fit(model, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    ours = model.stages.frames.network.network.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in library.state_dict().items())
    shutil.rmtree(tmp_path / "resnet")
    loaded = network.load(tmp_path / "last.ckpt")
    x = torch.randn(1, 3, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(loaded.endpoints(x, ["state"]), model.eval().endpoints(x, ["state"]))
    assert network.clip_settings_of(loaded.hparams) == {"resize": 40, "crop_size": SIDE}
    resumed = network(freeze_encoder=True, **options, encoder_config=dict(loaded.hparams["encoder_config"]))
    resumed.resumes = True
    trainer = Trainer(max_epochs=2, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    trainer.fit(resumed, loader, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert trainer.current_epoch == 2


def test_what_cannot_be_had_is_one_sentence(networks, tmp_path, monkeypatch):
    encoder = networks["resnet"][1]
    folder = tmp_path / "broken"
    shutil.copytree(encoder.partition(":")[2], folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"encoder=transformers:.*broken: has no weights as safetensors"):
        CNNLSTM(num_classes=2, encoder=f"transformers:{folder}")
    assert CNNLSTM(num_classes=2, encoder=f"transformers:{folder}", encoder_weights="none").frame_size == 16
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"has no preprocessor_config.json; give mean and std"):
        CNNLSTM(num_classes=2, encoder=f"transformers:{folder}", encoder_weights="none")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"the folder has no config.json"):
        CNNLSTM(num_classes=2, encoder=f"transformers:{folder}")
    save_video_transformer(tmp_path / "videomae", "videomae", preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match="videomae is a network for clips, not for frames; give it to PretrainedVideo"):
        CNNLSTM(num_classes=2, encoder=f"transformers:{tmp_path / 'videomae'}")
    with pytest.raises(ValueError, match=r"a network of type 'resnet'; .*, and networks of images serve as encoder"):
        PretrainedVideoNetwork(network=encoder, num_classes=2)
    with pytest.raises(FileNotFoundError, match=r"encoder=transformers:/nowhere: no such folder"):
        CNNLSTM(num_classes=2, encoder="transformers:/nowhere")
    with pytest.raises(FileNotFoundError, match=r"encoder=transformers:a/b/nothere: no such folder$"):
        CNNLSTM(num_classes=2, encoder="transformers:a/b/nothere")
    monkeypatch.chdir(tmp_path.parent)
    encoder = f"{tmp_path.name}/nothere"
    message = f"network=transformers:{encoder}: no such folder; the hub is not asked, as '.*' is a folder here$"
    with pytest.raises(FileNotFoundError, match=message):
        PretrainedVideoNetwork(f"transformers:{encoder}", num_classes=2)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        TransformersSource("network", encoder).weights_file()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as the variable does at import
    with pytest.raises(OSError, match=r"encoder=transformers:microsoft/absent: cannot be read"):
        CNNLSTM(num_classes=2, encoder="transformers:microsoft/absent")


def test_a_folder_in_the_home_folder(networks, tmp_path, monkeypatch):
    shutil.copytree(networks["resnet"][1].partition(":")[2], tmp_path / "resnet")
    monkeypatch.setenv("HOME", str(tmp_path))
    model = CNNLSTM(num_classes=2, encoder="transformers:~/resnet")
    model.load_published_encoder()
    ours = model.stages.frames.network.network.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in networks["resnet"][0].state_dict().items())


def test_the_libraries_tell_no_retries(monkeypatch):
    """And as much as before afterwards."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub.utils._http", "transformers.modeling_utils")]
    before = [logger.isEnabledFor(logging.WARNING) for logger in loggers]

    def ask(*arguments, **options):
        found.append([logger.isEnabledFor(logging.WARNING) for logger in loggers])
        raise OSError("We couldn't connect.\nCheck your connection.")

    found = []
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", ask)
    with pytest.raises(
        OSError, match=r"transformers:some/network: cannot be read \(We couldn't connect\); give a name"
    ):
        CNNLSTM(num_classes=2, encoder="transformers:some/network")
    assert found == [[False, False]]
    assert before == [logger.isEnabledFor(logging.WARNING) for logger in loggers] == [True, True]


def test_a_checkpoint_of_another_class_opens_without_the_library_s_hub(networks, tmp_path):
    model = CNNLSTM(num_classes=2, encoder=networks["dinov2"][1], encoder_weights="none", hidden_size=3).eval()
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "own.ckpt")
    other = VideoClassifier.load(tmp_path / "own.ckpt")
    batch = moving_bars(2, num_frames=2, size=SIDE)
    torch.testing.assert_close(other.video_scores(batch), model.video_scores(batch))


def without_weights(folder, copy):
    """A copy of a network's folder that has its configurations alone."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    return f"transformers:{copy}"


def write_weights(network, path, prefix=""):
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if prefix else state, path)


@pytest.mark.parametrize("kind", ["file of torch", "checkpoint of a training", "safetensors", "with a classifier"])
def test_a_file_of_weights_in_the_names_of_the_library(networks, tmp_path, kind):
    """The folder has no weights; safetensors hold the names of earlier versions of transformers."""
    network, encoder = networks["vit"]
    folder = tmp_path / "vit"
    configuration = without_weights(encoder.partition(":")[2], folder)
    file = tmp_path / ("weights.safetensors" if kind in ("safetensors", "with a classifier") else "weights.pth")
    if kind == "safetensors":
        shutil.copy(f"{encoder.partition(':')[2]}/model.safetensors", file)
    elif kind == "with a classifier":
        network = transformers.ViTForImageClassification(FAMILIES["vit"][0]).eval()
        network.save_pretrained(tmp_path / "classifier")
        (tmp_path / "classifier" / "model.safetensors").rename(file)
    else:
        write_weights(network, file, "module." if kind == "checkpoint of a training" else "")
    with pytest.raises(ValueError, match="has no weights as safetensors"):
        FrameClassifier(num_classes=2, encoder=configuration)
    model = FrameClassifier(num_classes=2, encoder=configuration, encoder_weights=str(file)).eval()
    model.load_encoder(file)
    clips = torch.randn(1, 3, 2, SIDE, SIDE)
    with torch.no_grad():
        found = model.endpoints(clips, ["frames"])["frames"][0]
        output = getattr(network, "vit", network)(pixel_values=clips[0].transpose(0, 1))
    expected = output.last_hidden_state[:, 0] if kind == "with a classifier" else output.pooler_output
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_file_of_other_weights_is_refused(networks, tmp_path):
    model = FrameClassifier(num_classes=2, encoder=networks["vit"][1])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    deeper = transformers.ViTConfig(**{**PATCHES, "num_hidden_layers": 2}, intermediate_size=16)
    wider = transformers.ViTConfig(**{**PATCHES, "hidden_size": 32}, intermediate_size=16)
    for network, message in (
        (networks["resnet"][0], r"encoder_weights '.*': the weights lack embeddings\.cls_token, .* 24 of 24 tensors"),
        (transformers.ViTModel(deeper), r"weights of another network: 16 tensors .* layers\.1\.attention\.k_proj"),
        (transformers.ViTForImageClassification(deeper), r"weights of another network: 16 tensors .* vit\.layers\.1"),
        (transformers.ViTModel(wider), r"weights of other shapes: .*\[1, 1, 32\] \(here \[1, 1, 16\]\)"),
    ):
        write_weights(network, tmp_path / "other.pt")
        with pytest.raises(ValueError, match=message):
            model.load_encoder(tmp_path / "other.pt")
    torch.save(transformers.ViTConfig(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds more than plain data and tensors"):
        FrameClassifier(num_classes=2, encoder=networks["vit"][1], encoder_weights=str(tmp_path / "other.pt"))
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="no safetensors, or damaged"):
        model.load_encoder(tmp_path / "cut.safetensors")
    with pytest.raises(FileNotFoundError, match=r"weights 'absent\.pt': no such file"):
        model.load_encoder("absent.pt")
    with pytest.raises(FileNotFoundError, match=r"'mobilenetv2-imagenet': no such file; encoder='transformers:.*takes"):
        FrameClassifier(num_classes=2, encoder=networks["vit"][1], encoder_weights="mobilenetv2-imagenet")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_checkpoint_s_encoder_is_taken_from_a_folder_that_was_moved(networks, tmp_path):
    encoder = networks["dinov2"][1]
    first = CNNLSTM(num_classes=2, encoder=encoder, hidden_size=3)
    checkpoint = {"state_dict": first.state_dict()}
    first.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "own.ckpt")
    moved = without_weights(encoder.partition(":")[2], tmp_path / "moved")
    second = FrameClassifier(num_classes=3, encoder=moved, encoder_weights=str(tmp_path / "own.ckpt"))
    second.load_encoder(tmp_path / "own.ckpt")
    expected = first.stages.frames.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in second.stages.frames.state_dict().items())
    other = FrameClassifier(num_classes=3, encoder=networks["vit"][1])
    with pytest.raises(ValueError, match=r"the weights want encoder='transformers:.*dinov2'"):
        other.load_encoder(tmp_path / "own.ckpt")
