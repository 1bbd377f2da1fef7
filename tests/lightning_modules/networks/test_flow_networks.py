"""Networks of optical flow: normalization, RGB weights averaged over the channels, and the published flow I3D."""

import pytest
import torch

from datamodules.batch import ClipBatch
from lightning_modules import C3D, CNNLSTM, I3D, FrameClassifier, InceptionV1
from lightning_modules.layers.input_channels import average_input_filters
from lightning_modules.weights.pretrained import load_encoder, read_weights

FLOW = {
    "C3D": lambda **kwargs: C3D(width=4, crop_size=32, **kwargs),
    "CNNLSTM": lambda **kwargs: CNNLSTM(channels=(8, 16), hidden_size=12, **kwargs),
    "FrameClassifier": lambda **kwargs: FrameClassifier(encoder="mobilenet_v2", **kwargs),
    "FrameClassifier of EfficientNet": lambda **kwargs: FrameClassifier(encoder="efficientnet_lite0", **kwargs),
    "I3D": lambda **kwargs: I3D(**kwargs),
    "InceptionV1": lambda **kwargs: InceptionV1(**kwargs),
}


def flow_clips(*, num_frames: int = 16, channels: int = 2) -> ClipBatch:
    clips = torch.randint(1, 256, (2, num_frames, 32, 32, channels), generator=torch.Generator().manual_seed(0))
    return ClipBatch.from_clips_of_videos([clips.to(torch.uint8)])


@pytest.mark.parametrize("name", FLOW)
def test_twenty_pixels_are_one(name):
    model = FLOW[name](num_classes=3, in_channels=2).eval()
    assert model(flow_clips()).shape == (2, 3)
    levels = torch.tensor([1, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1).expand(1, 3, 32, 32, 2)
    scaled = model.normalize(ClipBatch.from_clips(levels))
    torch.testing.assert_close(scaled[0, :, :, 0, 0], torch.tensor([[-1.0, 0.0, 1.0]] * 2))
    assert type(model).stream_of({"in_channels": 2}) == "flow"
    assert type(model).stream_of({}) == "rgb"


@pytest.mark.parametrize("name", ["C3D", "CNNLSTM", "I3D", "InceptionV1"])
def test_pixels_of_rgb_are_scaled_to_one(name):
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1).expand(1, 3, 32, 32, 3)
    scaled = FLOW[name](num_classes=3).normalize(ClipBatch.from_clips(levels))
    torch.testing.assert_close(scaled[0, :, :, 0, 0], torch.tensor([[-1.0, -0.6, 1.0]] * 3))


def test_the_mean_displacement_of_each_frame_is_subtracted():
    """A camera that moves by another displacement in each frame changes nothing; the clips stay as they were."""
    model = C3D(width=4, crop_size=32, num_classes=2, in_channels=2, subtract_mean_flow=True).eval()
    still = 100 + flow_clips().clips % 50
    camera = torch.randint(-20, 20, (2, 16, 1, 1, 2), generator=torch.Generator().manual_seed(1))
    batches = [ClipBatch.from_clips_of_videos([clips.to(torch.uint8)]) for clips in (still, still + camera)]
    before = batches[0].clips.clone()
    x, moved = (model.normalize(batch) for batch in batches)
    torch.testing.assert_close(x, moved)
    torch.testing.assert_close(x.mean((3, 4)), torch.zeros(2, 2, 16))
    assert x.std() > 0.1
    torch.testing.assert_close(batches[0].clips, before)


def test_clips_of_another_stream_are_one_sentence():
    model = C3D(width=4, crop_size=32, num_classes=2)
    with pytest.raises(ValueError, match=r"have 2 channels \(stream flow\), and the network takes 3 \(stream rgb\)"):
        model(flow_clips())
    with pytest.raises(ValueError, match=r"have 3 channels \(stream rgb\), and the network takes 2 \(stream flow\)"):
        C3D(width=4, crop_size=32, num_classes=2, in_channels=2)(flow_clips(channels=3))
    with pytest.raises(ValueError, match="in_channels=4: must be 3, for RGB, or 2, for optical flow"):
        C3D(num_classes=2, in_channels=4)
    with pytest.raises(ValueError, match=r"encoder='timm:resnet18', in_channels=2: takes RGB"):
        CNNLSTM(encoder="timm:resnet18", encoder_config={"library": "timm"} | DESCRIPTION, num_classes=2, in_channels=2)


DESCRIPTION = {
    "name": "resnet18",
    "configuration": {},
    "has_pooler": True,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "clip_settings": {},
}


def test_first_filters_are_averaged_by_hand():
    rgb = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1).expand(4, 3, 2, 2)
    other = torch.ones(4, 8, 2, 2)
    state = average_input_filters({"first.weight": rgb, "first.bias": torch.ones(3), "second.weight": other}, 2)
    assert torch.equal(state["first.weight"], torch.full((4, 2, 2, 2), 3.0))
    assert torch.equal(state["second.weight"], other)
    assert state["first.bias"].shape == (3,)


@pytest.fixture
def save(tmp_path):
    def write(model):
        from tests.lightning_modules.weights.test_pretrained import save as save_state

        state = {key: value for key, value in model.stages.state_dict().items() if "num_batches" not in key}
        theirs = {
            key.replace("Logits.conv", "logits.conv3d").replace(".conv.", ".conv3d."): state[key] for key in state
        }
        return save_state(theirs, tmp_path / "weights.pt")

    return write


def test_an_i3d_of_rgb_begins_one_of_flow(save):
    rgb = I3D(num_classes=5)
    path = save(rgb)
    flow = I3D(num_classes=3, in_channels=2)
    flow.load_initial_weights(str(path))
    before, after = rgb.stages.state_dict(), flow.stages.state_dict()
    key = "Conv3d_1a_7x7.conv.weight"
    for channel in range(2):
        torch.testing.assert_close(after[key][:, channel], before[key].mean(1))
    same = [name for name in before if name != key and not name.startswith("Logits")]
    assert all(torch.equal(before[name], after[name]) for name in same)
    assert flow.mean.numel() == 2


def test_images_inflated_begin_one_of_flow():
    images = InceptionV1(num_classes=4)
    flow = I3D(num_classes=4, in_channels=2)
    from lightning_modules.weights.pretrained import Weights, load_pretrained

    weights = Weights(
        "x", "lightning_modules.InceptionV1", {"num_classes": 4}, images.stages.state_dict(), "Logits.", None
    )
    load_pretrained(flow, weights, keep_head=True)
    first = images.stages.Conv2d_1a_7x7.conv.weight.mean(1) / 7
    torch.testing.assert_close(flow.stages.Conv3d_1a_7x7.conv.weight[:, 1, 3], first)
    encoder = CNNLSTM(encoder="inception_v1", num_classes=4, in_channels=2)
    load_encoder(encoder.stages.frames.network, weights, encoder)
    adapted = encoder.stages.frames.network.stages.Conv2d_1a_7x7.conv.weight
    torch.testing.assert_close(adapted[:, 0], images.stages.Conv2d_1a_7x7.conv.weight.mean(1))


def test_the_published_flow_i3d_loads(save):
    """Names and shapes of piergiaj's flow_imagenet.pt: those of rgb_imagenet.pt with a first layer of two channels."""
    published = I3D(num_classes=400, in_channels=2)
    path = save(published)
    told = read_weights(path)
    assert (told.class_path, told.init_args["in_channels"], told.init_args["num_classes"]) == (
        "lightning_modules.I3D",
        2,
        400,
    )
    assert told.state["Conv3d_1a_7x7.conv.weight"].shape == (64, 2, 7, 7, 7)
    model = I3D.from_pretrained(path)
    assert model.mean.tolist() == pytest.approx([128 / 255] * 2)
    for key, value in published.stages.state_dict().items():
        assert torch.equal(model.stages.state_dict()[key], value), key
    with pytest.raises(ValueError, match=r"the weights want in_channels=2 \(here 3\)"):
        I3D(num_classes=400).load_initial_weights(str(path))
