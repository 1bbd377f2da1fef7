"""What clips go through in training and in tests: where they are cut, and what is random about it."""

import numpy as np
import pytest
import torch

from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.resize_and_crop import resize
from tests.datamodules.transforms.test_resize_and_crop import coordinates, corner


def test_train_transform_of_c3d_and_its_repeatability():
    transform = TrainTransform(crop_size=112, resize=(128, 171))
    clip = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 60, 80, 3), dtype=np.uint8))
    first, window = transform(clip, np.random.default_rng(5))
    assert window[:2] == (128, 171)
    assert window[4:6] == (112, 112)
    assert first.shape == (4, 112, 112, 3)
    assert first.dtype == torch.uint8
    assert first.is_contiguous()
    assert torch.equal(first, transform(clip, np.random.default_rng(5))[0])
    assert not torch.equal(first, transform(clip, np.random.default_rng(6))[0])


@pytest.mark.parametrize(("probability", "flipped"), [(0.0, 0), (1.0, 200)])
def test_flip_probability_of_zero_and_one(probability, flipped):
    transform = TrainTransform(crop_size=4, flip_probability=probability)
    generator = np.random.default_rng(0)
    seen = sum(transform(coordinates(1, 4, 4), generator)[0][0, 0, 0, 2].item() == 3 for _ in range(200))
    assert seen == flipped


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (1, 1), (31, 40)])
@pytest.mark.parametrize("random_resized", [False, True])
def test_a_clip_too_small_for_its_crop_is_enlarged(shape, random_resized):
    transform = TrainTransform(crop_size=32, random_resized=random_resized)
    assert transform(coordinates(2, *shape), np.random.default_rng(0))[0].shape == (2, 32, 32, 3)


def test_train_transform_flips_about_half():
    generator = np.random.default_rng(0)
    transform = TrainTransform(crop_size=4, random_resized=True, scale=(1, 1), ratio=(1, 1))
    clip = coordinates(1, 4, 4)
    assert 70 < sum(transform(clip, generator)[0][0, 0, 0, 2].item() == 3 for _ in range(200)) < 130


@pytest.mark.parametrize("random_resized", [False, True])
def test_the_window_says_where_a_training_clip_was_cut(random_resized):
    clip = coordinates(2, 20, 30)
    transform = TrainTransform(crop_size=8, random_resized=random_resized, scale=(0.3, 0.6))
    generator = np.random.default_rng(0)
    mirrored = 0
    for _ in range(20):
        cut, window = transform(clip, generator)
        part = clip[:, window.top : window.top + window.height, window.left : window.left + window.width]
        part = resize(part, (8, 8))
        assert torch.equal(cut, part.flip(2) if window.mirrored else part)
        mirrored += window.mirrored
    assert 3 < mirrored < 17


def test_a_clip_that_must_not_be_mirrored_is_otherwise_the_same():
    clip, transform = coordinates(2, 20, 30), TrainTransform(crop_size=8, flip_probability=1.0)
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    (mirrored, window), (upright, same) = transform(clip, one), transform(clip, other, mirror=False)
    assert torch.equal(mirrored.flip(2), upright)
    assert window == same._replace(mirrored=True)
    assert one.random() == other.random()


def test_eval_transform_is_fixed():
    clip, window = EvalTransform(crop_size=6, resize=6, num_crops=3)(coordinates(2, 12, 24))
    assert clip.shape == (2, 6, 12, 3)
    assert window == (6, 12, 0, 0, 6, 12, False)
    clip, window = EvalTransform(crop_size=6)(coordinates(2, 12, 24))
    assert (clip.shape, corner(clip)) == ((2, 6, 6, 3), [3, 9])
    assert window == (12, 24, 3, 9, 6, 6, False)
    clip, window = EvalTransform(crop_size=6, num_crops=3)(coordinates(2, 24, 11))
    assert (clip.shape, corner(clip)) == ((2, 24, 6, 3), [0, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainTransform(crop_size=0), "crop_size=0"),
        (lambda: TrainTransform(crop_size=8, resize=(0, 4)), r"^resize=\(0, 4\): must be at least 1 pixel"),
        (lambda: EvalTransform(crop_size=8, resize=0), "^resize=0: must be at least 1 pixel"),
        (lambda: TrainTransform(crop_size=8, flip_probability=2.0), "flip_probability=2.0"),
        (lambda: TrainTransform(crop_size=8, scale=(0.0, 1.0)), "scale="),
        (lambda: TrainTransform(crop_size=8, ratio=(2.0, 1.0)), "ratio="),
        (lambda: EvalTransform(crop_size=8, num_crops=2), "num_crops=2"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
