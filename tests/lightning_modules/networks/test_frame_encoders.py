"""2D networks a frame: chunks, freezing, and an Inception that comes out of an I3D."""

import pytest
import torch
import torch.nn.functional as F
import yaml
from pytorch_lightning import Trainer

from lightning_modules import CNNLSTM, I3D, FrameClassifier, InceptionV1, Video2Vec, VideoClassifier, VideoDescriber
from lightning_modules.layers.inception_layers import Convolution, MaxPooling
from lightning_modules.networks.frame_encoders import ENCODER_WEIGHTS, PerFrame, SmallCNN, make_encoder
from lightning_modules.weights.published_checkpoints import PUBLISHED
from pipeline.training.lightning_cli import build
from tests.lightning_modules.clip_batches import moving_bars


def save(model, path):
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path


def test_chunks_change_nothing():
    network = SmallCNN((4, 8)).eval()
    clips = torch.randn(2, 3, 5, 16, 16)
    whole = PerFrame(network)(clips)
    assert whole.shape == (2, 5, 128)
    torch.testing.assert_close(PerFrame(network, frames_at_once=3)(clips), whole)
    for clip, frame in ((0, 3), (1, 0), (1, 4)):
        torch.testing.assert_close(whole[clip, frame], network(clips[clip, :, frame][None])[0])


def test_a_small_network_is_its_blocks_written_out():
    """Convolutions of 3 x 3 that halve the sides, batch norm, rectifier; the mean of each cell, channel by channel."""
    torch.manual_seed(0)
    network = SmallCNN((4, 5), grid=2).double().eval()
    frames = x = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    for convolution, norm in (network.blocks[:2], network.blocks[3:5]):
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            torch.nn.init.uniform_(values, 0.5, 2)
        x = F.conv2d(x, convolution.weight, stride=2, padding=1)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5).relu()
    assert x.min() == 0
    cells = x.unflatten(2, (2, 2)).unflatten(4, (2, 3)).mean((3, 5)).flatten(1)
    assert cells.shape == (2, network.output_size)
    torch.testing.assert_close(network(frames), cells, rtol=0, atol=1e-12)


def test_a_patch_of_pixels_is_the_frame_made_small():
    network = make_encoder("pixels:2")
    frame = torch.arange(3 * 4 * 4.0).view(1, 3, 4, 4)
    cells = [frame[0, :, y : y + 2, x : x + 2].mean() for y in (0, 2) for x in (0, 2)]
    assert network.output_size == 4
    torch.testing.assert_close(network(frame)[0], torch.stack(cells))
    for name in ("pixels", "pixels:0", "pixels:-4"):
        with pytest.raises(ValueError, match=f"encoder='{name}': must be"):
            make_encoder(name)


def test_a_frozen_encoder_stays_as_it_is():
    model = CNNLSTM(num_classes=2, channels=(4,), hidden_size=3, freeze_encoder=True, dropout=0.0)
    encoder = model.stages.frames
    assert not encoder.network.training, "Lightning's fit keeps the modes that it finds"
    model.train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.clip_logits(torch.randn(2, 3, 4, 16, 16)).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert model.stages.hidden.cells.weight_ih_l0.grad is not None
    assert not encoder.network.training


@pytest.mark.parametrize("network", [CNNLSTM, FrameClassifier])
def test_standardized_features_are_what_the_later_stages_read(network):
    torch.manual_seed(0)
    model = network(num_classes=2, encoder="pixels:2", standardize=True, dropout=0.0)
    clips = torch.randn(5, 3, 4, 2, 2)
    torch.testing.assert_close(model.clip_logits(100 * clips), model.clip_logits(clips), rtol=0, atol=1e-2)
    features = model.endpoints(clips, ["frames", "standardized"])
    torch.testing.assert_close(features["standardized"], model.stages.standardized(features["frames"]))
    assert network(num_classes=2, encoder="pixels:2").endpoints_available[:2] != model.endpoints_available[:2]


@pytest.mark.parametrize("network", [Video2Vec, VideoDescriber])
def test_decoders_read_standardized_features(network):
    for standardize in (False, True):
        model = network(encoder="pixels:2", hidden_size=3, standardize=standardize)
        clips = torch.randn(5, 3, 4, 2, 2)
        frames = model.stages.frames(clips)
        expected = model.stages.standardized(frames) if standardize else frames
        torch.testing.assert_close(model.frame_features(clips), expected)


def test_an_encoder_from_a_2d_inception(tmp_path):
    flat = InceptionV1(num_classes=3).eval()
    model = CNNLSTM(num_classes=2, encoder="inception_v1", hidden_size=3).eval()
    model.load_encoder(save(flat, tmp_path / "flat.ckpt"))
    clips = torch.randn(1, 3, 2, 48, 48)
    features = model.endpoints(clips, ["frames"])["frames"]
    torch.testing.assert_close(features, flat.endpoints(clips, ["Mixed_5c"])["Mixed_5c"].mean((3, 4)).transpose(1, 2))


def test_a_grid_keeps_positions(tmp_path):
    """A grid of 2 x 2 cells has the four quarters' means in the place of their mean, with the same weights."""
    flat = InceptionV1(num_classes=3).eval()
    model = CNNLSTM(num_classes=2, encoder="inception_v1", grid=2, hidden_size=3).eval()
    model.load_encoder(save(flat, tmp_path / "flat.ckpt"))
    clips = torch.randn(1, 3, 2, 64, 64)
    features = model.endpoints(clips, ["frames"])["frames"]
    assert features.shape == (1, 2, 4 * 1024)
    maps = flat.endpoints(clips, ["Mixed_5c"])["Mixed_5c"].transpose(1, 2)  # (1, T, 1024, 2, 2)
    torch.testing.assert_close(features, maps.flatten(2))
    assert CNNLSTM(num_classes=2, channels=(4,), grid=3, hidden_size=3).frame_size == 36
    assert CNNLSTM(num_classes=2, channels=(4,), hidden_size=3).frame_size == 4 * 4**2  # where no grid is said
    for encoder, grid in (("pixels:2", 2), ("inception_v1", 0)):
        with pytest.raises(ValueError, match=f"grid={grid}, encoder='{encoder}': must be at least 1, and only"):
            make_encoder(encoder, grid=grid)


def test_an_encoder_from_an_i3d_sees_a_still_video_as_it_does(tmp_path):
    deep = I3D(num_classes=3, time_padding="replicate").eval()
    model = CNNLSTM(num_classes=2, encoder="inception_v1", hidden_size=3).eval()
    model.load_encoder(save(deep, tmp_path / "deep.ckpt"))
    clips = torch.randn(1, 3, 1, 48, 48).expand(-1, -1, 8, -1, -1)
    features = model.endpoints(clips, ["frames"])["frames"]
    expected = deep.endpoints(clips, ["Mixed_5c"])["Mixed_5c"].mean((2, 3, 4))
    torch.testing.assert_close(features[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_encoder_weights_for_other_arguments_are_refused(tmp_path):
    path = save(InceptionV1(num_classes=3, bn_scale=True), tmp_path / "scaled.ckpt")
    with pytest.raises(ValueError, match=r"the weights want bn_scale=True \(here False\)"):
        CNNLSTM(num_classes=2, encoder="inception_v1").load_encoder(path)
    with pytest.raises(ValueError, match="encoder_weights='x': 'pixels:2' has no weights; leave them out"):
        CNNLSTM(num_classes=2, encoder="pixels:2", encoder_weights="x")


@pytest.mark.parametrize("network", [CNNLSTM, Video2Vec, VideoDescriber])
@pytest.mark.parametrize("weights", [None, "pretrained", "none"])
def test_networks_of_others_are_not_random_without_a_word(network, weights):
    """Where their package cannot be imported, that is said; and no network of ours has published weights of its own."""
    for package in ("timm", "torchvision"):
        try:
            model = network(num_classes=2, encoder=f"{package}:resnet18", encoder_weights=weights)
        except ImportError as error:
            assert f"encoder={package}:resnet18: {package}" in str(error)  # noqa: PT017
        else:
            assert model._encoder_weights == (None if weights == "none" else "pretrained")
    if weights == "pretrained":
        with pytest.raises(
            ValueError, match="encoder='small', encoder_weights='pretrained': give a name of `weights l"
        ):
            network(num_classes=2, encoder="small", encoder_weights=weights)


def test_where_none_is_said_random_weights_are_meant(tmp_path):
    try:
        model = CNNLSTM(num_classes=2, encoder="timm:resnet18", encoder_weights="none")
    except ImportError as error:
        assert "encoder=timm:resnet18: timm cannot be imported here" in str(error)  # noqa: PT017
    else:
        assert model.frame_size == 512
    small = CNNLSTM(num_classes=2, channels=(4,), encoder_weights="none")
    loaded = VideoClassifier.load(save(small, tmp_path / "small.ckpt"))
    assert loaded.hparams["encoder_weights"] == "none"


@pytest.mark.parametrize(
    ("encoder", "options", "told"),
    [
        ("mobilenet_v2", {}, "those of ImageNet: encoder_weights: mobilenetv2-imagenet"),
        ("mobilenet_v2", {"encoder_weights": "none"}, None),
        ("mobilenet_v2", {"resumes": True}, None),
        ("mobilenet_v2", {"weights": "own.ckpt"}, None),
        ("mobilenet_v2", {"encoder_weights": "own.ckpt"}, None),
        ("small", {}, None),
    ],
)
def test_a_training_from_random_weights_of_a_known_network_says_so(tmp_path, caplog, encoder, options, told):
    options = {name: str(tmp_path / value) if value == "own.ckpt" else value for name, value in options.items()}
    resumes = options.pop("resumes", False)
    save(CNNLSTM(num_classes=2, encoder=encoder, hidden_size=3), tmp_path / "own.ckpt")
    model = CNNLSTM(num_classes=2, encoder=encoder, hidden_size=3, **options)
    model.resumes = resumes
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    loader = torch.utils.data.DataLoader([moving_bars(2, num_frames=2, size=32)], batch_size=None)
    with caplog.at_level("INFO", logger="pytorch_lightning"):
        trainer.fit(model, loader)
        trainer.test(VideoClassifier.load(save(model, tmp_path / "trained.ckpt")), loader, verbose=False)
    lines = [line for line in caplog.messages if "random weights" in line]
    assert lines == ([] if told is None else [f"encoder {encoder} begins with random weights; {told}"])


def test_a_name_of_weights_is_no_encoder():
    published = {one.name for one in PUBLISHED}
    for encoder, (weights, _) in ENCODER_WEIGHTS.items():
        assert weights in published
        message = f"encoder='{weights}': is a name of weights; give encoder: {encoder} with encoder_weights: {weights}$"
        with pytest.raises(ValueError, match=message):
            CNNLSTM(num_classes=2, encoder=weights)


@pytest.mark.parametrize("how", ["yaml", "flag"])
def test_none_is_a_word_of_the_command_line(tmp_path, how):
    """And not YAML's null."""
    init_args = {"num_classes": 2, "encoder": "inception_v1"} | ({"encoder_weights": "none"} if how == "yaml" else {})
    data = {"class_path": "pytorch_lightning.demos.boring_classes.BoringDataModule"}
    config = {"model": {"class_path": "CNNLSTM", "init_args": init_args}, "data": data}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", str(tmp_path / "c.yaml")]
    words += ["--model.init_args.encoder_weights=none"] if how == "flag" else []
    assert build(words).model.hparams["encoder_weights"] == "none"


@pytest.mark.parametrize(("padding", "bn_scale"), [("same", False), ("symmetric", True)])
def test_an_inception_is_built_as_its_weights_want_it(padding, bn_scale):
    model = CNNLSTM(num_classes=2, encoder="inception_v1", padding=padding, bn_scale=bn_scale, hidden_size=3)
    layers = [layer for layer in model.modules() if isinstance(layer, (Convolution, MaxPooling))]
    assert {layer.padding for layer in layers} == {padding}
    assert {layer.bn.weight.requires_grad for layer in layers if isinstance(layer, Convolution)} == {bn_scale}


@pytest.mark.parametrize("name", ["resnet18", "timm:", "transformers:"])
def test_unknown_encoders_say_what_there_is(name):
    with pytest.raises(
        ValueError, match=rf"encoder='{name}': must be small, .*, transformers:NAME_OR_FOLDER, timm:NAME"
    ):
        make_encoder(name)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_other_packages_networks_where_they_import(name):
    try:
        encoder = make_encoder(name)
    except ImportError as error:
        assert f"encoder={name}: {name.partition(':')[0]}" in str(error)  # noqa: PT017
        assert "cannot be imported here" in str(error)  # noqa: PT017
        assert '(docs/models.md, "Where torchvision imports")' in str(error)  # noqa: PT017
        return
    assert encoder.output_size == 512
    assert encoder(torch.randn(2, 3, 64, 64)).shape == (2, 512)
