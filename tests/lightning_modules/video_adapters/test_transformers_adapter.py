"""What configurations of transformers say of their networks, and position embeddings for other clips."""

import pytest
import torch

from lightning_modules.video_adapters.network_description import NetworkDescription
from lightning_modules.video_adapters.token_pooling import ClipShape, FirstToken, MeanPooling, TokenSequence
from lightning_modules.video_adapters.transformers_adapter import FAMILIES, describe, resize_positions

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def described(kind, preprocessing=None, **more) -> NetworkDescription:
    frames, size = FAMILIES[kind].frames, FAMILIES[kind].size
    configuration = {"model_type": kind, frames: 16, size: 224} | more
    return describe(configuration, preprocessing or {}, True, "network")


@pytest.mark.parametrize(
    ("kind", "interval", "resize", "mean", "std"),
    [
        ("videomae", 4, 224, *IMAGENET),
        ("timesformer", 32, 224, [0.45] * 3, [0.225] * 3),
        ("vivit", 2, 256, [0.5] * 3, [0.5] * 3),
        ("vjepa2", 4, 256, *IMAGENET),
    ],
)
def test_without_a_preprocessor_a_network_has_its_papers_clips(kind, interval, resize, mean, std):
    found = described(kind)
    assert found.clip_settings == {"num_frames": 16, "crop_size": 224, "resize": resize, "frame_interval": interval}
    assert [list(found.mean), list(found.std)] == [mean, std]


def test_low_rank_updates_are_of_queries_and_values():
    """Section 4.2 of LoRA's paper; TimeSformer has one layer for queries, keys and values."""
    pairs = {"videomae": ("query", "value"), "vivit": ("q_proj", "v_proj"), "vjepa2": ("query", "value")}
    assert {kind: family.lora_targets for kind, family in FAMILIES.items()} == pairs | {"timesformer": ("qkv",)}


def test_classes_are_in_the_order_of_their_numbers():
    names = {str(number): f"class {number}" for number in (10, 2, 0, 11, 1, 3, 4, 5, 6, 7, 8, 9)}
    assert described("videomae", id2label=names).class_names == [f"class {number}" for number in range(12)]


def test_a_preprocessor_that_samples_frames_has_a_rate():
    assert described("vjepa2", {"do_sample_frames": True, "fps": 4}).clip_settings["fps"] == 4
    assert "fps" not in described("vjepa2", {"do_sample_frames": False, "fps": 4}).clip_settings


@pytest.mark.parametrize(
    ("kind", "given", "mean", "std"),
    [
        ("videomae", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 1.0]}, [0.1, 0.2, 0.3], [0.5, 0.25, 1.0]),
        ("videomae", {"do_normalize": False}, [0.0] * 3, [1.0] * 3),
        ("videomae", {"do_rescale": False, "do_normalize": False}, [0.0] * 3, [1 / 255] * 3),
        ("videomae", {"rescale_factor": 1 / 127.5, "do_normalize": False}, [0.0] * 3, [0.5] * 3),
        ("vivit", {"do_normalize": False}, [0.5] * 3, [0.5] * 3),  # pixels to [-1, 1]
        ("vivit", {"do_normalize": False, "offset": False}, [0.0] * 3, [0.5] * 3),
    ],
)
def test_normalization_is_that_of_the_preprocessor(kind, given, mean, std):
    found = described(kind, given)
    assert (list(found.mean), list(found.std)) == (pytest.approx(mean), pytest.approx(std))


@pytest.mark.parametrize(
    ("kind", "given", "resize"),
    [
        ("videomae", {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, 256),
        ("videomae", {"size": 128, "crop_size": 112}, 256),  # as much larger than the crop of 224
        ("videomae", {"size": 128, "crop_size": {"height": 112, "width": 112}}, 256),
        ("videomae", {"size": {"shortest_edge": 256}, "do_center_crop": False}, 256),
        ("videomae", {"size": {"height": 240, "width": 320}, "crop_size": 224}, [240, 320]),
        ("vjepa2", {"size": {"shortest_edge": 300}}, 256),
    ],
)
def test_frames_are_resized_as_by_the_preprocessor(kind, given, resize):
    assert described(kind, given).clip_settings["resize"] == resize


def test_other_clips_are_resized_in_proportion():
    found = described("vivit").with_clips(32, 112)
    assert (found.num_frames, found.crop_size, found.resize) == (32, 112, 128)
    found = described("videomae", {"size": {"height": 240, "width": 320}, "crop_size": 224}).with_clips(None, 448)
    assert (found.num_frames, found.resize) == (16, [480, 640])


def test_position_embeddings_for_more_patches_are_the_nearest_ones():
    """Two times two places to four times four, and three moments to six; the class token's stays."""
    places = torch.tensor([9.0, 1, 2, 3, 4]).view(1, 5, 1)
    moments = torch.tensor([1.0, 2, 3]).view(1, 3, 1)
    state = {"a.position_embeddings": places, "a.time_embeddings": moments, "a.other": torch.ones(2)}
    own = {"a.position_embeddings": torch.zeros(1, 17, 1), "a.time_embeddings": torch.zeros(1, 6, 1)}
    found = resize_positions(state, own)
    upper, lower = [1, 1, 2, 2], [3, 3, 4, 4]
    assert found["a.position_embeddings"].flatten().tolist() == [9, *upper, *upper, *lower, *lower]
    assert found["a.time_embeddings"].flatten().tolist() == [1, 1, 2, 2, 3, 3]
    assert torch.equal(found["a.other"], state["a.other"])


def test_poolings_by_hand():
    places = torch.arange(8.0).view(1, 2, 1, 2, 2)  # two features of four places
    assert TokenSequence()(places).tolist() == [[[0, 4], [1, 5], [2, 6], [3, 7]]]
    assert MeanPooling()(places).tolist() == [[1.5, 5.5]]
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 9.0]]])
    assert FirstToken()(tokens).tolist() == [[1, 2]]
    assert MeanPooling(torch.nn.Hardtanh(0, 4))(tokens).tolist() == [[2, 4]]  # of the mean, not of the tokens


@pytest.mark.parametrize(
    ("shape", "fits"), [((4, 8, 8), True), ((2, 8, 8), False), ((4, 8, 9), False), ((4, 9, 8), False)]
)
def test_clips_of_another_shape_are_refused(shape, fits):
    clips = torch.zeros(1, 3, *shape)
    if fits:
        assert ClipShape(4, 8)(clips) is clips
    else:
        with pytest.raises(ValueError, match="this network takes num_frames=4, crop_size=8"):
            ClipShape(4, 8)(clips)
    assert ClipShape(None, None, 2)(torch.zeros(1, 3, 6, 5, 7)).shape[2] == 6
    with pytest.raises(ValueError, match="takes num_frames a multiple of 2; set"):
        ClipShape(None, None, 2)(torch.zeros(1, 3, 5, 5, 7))
