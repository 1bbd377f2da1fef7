"""RandAugment and color jitter on batches: keyed, alike for all frames, independent of who read what."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.sampling.batch_sampler import ResumePoint
from datamodules.transforms.batched_steps import AugmentationStep
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.device_augmentation import Augmentation
from datamodules.transforms.rand_augment import OPERATIONS, RandAugment
from tests.lightning_modules.clip_batches import moving_bars

BOTH = Augmentation(RandAugment(2, 7.0), ColorJitter())


def colored(frames: int = 2) -> torch.Tensor:
    one = np.random.default_rng(0).integers(0, 256, (1, 12, 14, 3), dtype=np.uint8)
    return torch.from_numpy(one).repeat(frames, 1, 1, 1)


def batch_of(seeds):
    clips = colored().repeat(len(seeds), 1, 1, 1, 1)
    return moving_bars(len(seeds))._replace(clips=clips, seeds=list(seeds))


def apply(clip, step):
    return RandAugment.apply(clip[None], [[step]])[0]


class CountCalls(TorchDispatchMode):
    """Counts the operators that run."""

    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_clips_of_a_batch_become_what_they_become_alone_in_fewer_calls():
    clips = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 2, 12, 14, 3), dtype=np.uint8))
    steps = [BOTH._draw_steps(seed) for seed in range(64)]
    before = clips.clone()
    with CountCalls() as alone:
        expected = torch.cat([BOTH._augment(clips[[number]], [own]) for number, own in enumerate(steps)])
    with CountCalls() as together:
        assert torch.equal(BOTH._augment(clips, steps), expected)
    assert torch.equal(clips, before)
    assert together.calls < alone.calls / 8


def test_an_augmentation_follows_from_the_seed_alone():
    whole = BOTH(batch_of(range(20))).clips
    assert torch.equal(BOTH(batch_of([13])).clips[0], whole[13])
    assert torch.equal(BOTH(batch_of(range(19, -1, -1))).clips.flip(0), whole)
    assert len({clip.numpy().tobytes() for clip in whole}) > 15


def test_all_frames_of_a_clip_are_treated_alike():
    clips = BOTH(batch_of(range(40))).clips
    assert torch.equal(clips[:, 0], clips[:, 1])


def test_the_batch_is_not_changed_in_place():
    batch = batch_of(range(5))
    before = batch.clips.clone()
    assert not torch.equal(BOTH(batch).clips, before)
    assert torch.equal(batch.clips, before)


def test_evaluation_and_no_augmentation_leave_the_batch_alone():
    batch = batch_of([1])
    assert Augmentation()(batch) is batch
    assert BOTH(batch._replace(seeds=None)).clips is batch.clips


def test_one_augmentation_does_not_move_the_other():
    alone = Augmentation(None, ColorJitter()).describe(5)
    assert Augmentation(RandAugment(3, 4.0), ColorJitter()).describe(5)[3:] == alone


def test_rand_augment_draws_every_operation_equally():
    generator = np.random.default_rng(0)
    counts = Counter(step.operation for _ in range(1400) for step in RandAugment(2, 5.0).draw(generator))
    assert set(counts) == set(OPERATIONS)
    assert len(OPERATIONS) == 14
    assert min(counts.values()) > 150  # 200 expected, standard deviation 14


def test_magnitudes_are_those_of_the_table():
    def values(magnitude):
        generator = np.random.default_rng(0)
        found = {}
        for _ in range(500):
            for name, value in RandAugment(1, magnitude).draw(generator):
                found.setdefault(name, set()).add(round(value, 4))
        return {name: sorted(seen) for name, seen in found.items()}

    strong, half, none = values(10), values(5), values(0)
    assert all(strong.pop(name) == [0.1, 1.9] for name in ("color", "contrast", "brightness", "sharpness"))
    assert all(strong.pop(f"shear {axis}") == [-0.3, 0.3] for axis in "xy")
    assert all(strong.pop(f"translate {axis}") == [-0.4532, 0.4532] for axis in "xy")
    assert strong.pop("rotate") == [-30, 30]
    assert (strong["posterize"], half["posterize"], none["posterize"]) == ([4], [6], [8])
    assert (strong["solarize"], half["solarize"], none["solarize"]) == ([0], [128], [256])
    assert half["brightness"] == [0.55, 1.45]
    assert none["rotate"] == [0]


def test_magnitude_zero_changes_nothing():
    clip = colored()
    generator = np.random.default_rng(0)
    for _ in range(100):
        [step] = RandAugment(1, 0).draw(generator)
        if step.operation not in ("autocontrast", "equalize"):
            assert torch.equal(apply(clip, step), clip), step


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_and_type(name):
    result = apply(colored(), AugmentationStep(name, OPERATIONS[name].max_value))
    assert (result.shape, result.dtype) == (colored().shape, torch.uint8)


def test_words():
    steps = [
        AugmentationStep("rotate", -27.0),
        AugmentationStep("identity", 0.0),
        AugmentationStep("posterize", 4.0),
        AugmentationStep("translate x", 0.25),
    ]
    words = ["rotate by -27.0 degrees", "identity", "posterize to 4 bits", "translate x by 25%"]
    assert RandAugment.describe(steps) == words
    assert ColorJitter.describe([AugmentationStep("hue", -0.05), AugmentationStep("contrast", 1.2)]) == [
        "hue -0.050 turns",
        "contrast x 1.20",
    ]


def test_a_shift_moves_the_picture_and_not_the_window():
    clip = torch.arange(10, dtype=torch.uint8).reshape(1, 1, 10, 1).repeat(1, 2, 1, 3)
    moved = apply(clip, AugmentationStep("translate x", 0.3))
    assert moved[0, 0, :, 0].tolist() == [128, 128, 128, 0, 1, 2, 3, 4, 5, 6]
    down = apply(clip.transpose(1, 2), AugmentationStep("translate y", 0.3))
    assert torch.equal(down, moved.transpose(1, 2))


def test_a_shear_moves_rows_along_x_and_columns_along_y():
    picture = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 3, 3, 1).repeat(1, 1, 1, 3)
    across, down = (apply(picture, AugmentationStep(f"shear {axis}", 1.0))[0, ..., 0] for axis in "xy")
    assert across.tolist() == [[128, 1, 2], [4, 5, 6], [8, 9, 128]]
    assert down.tolist() == [[128, 2, 6], [1, 5, 9], [4, 8, 128]]


def test_color_jitter_draws_within_its_ranges():
    generator = np.random.default_rng(0)
    jitter = ColorJitter(brightness=0.4, contrast=2.0, saturation=0.0, hue=0.1, probability=0.5)
    drawn = [jitter.draw(generator) for _ in range(400)]
    assert 160 < sum(not steps for steps in drawn) < 240
    found = {name: [v for steps in drawn for n, v in steps if n == name] for name in ("brightness", "contrast", "hue")}
    assert {name for steps in drawn for name, _ in steps} == set(found)
    for name, (low, high) in {"brightness": (0.6, 1.4), "contrast": (0.0, 3.0), "hue": (-0.1, 0.1)}.items():
        assert low <= min(found[name]) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(found[name]) <= high
    assert {steps[0].operation for steps in drawn if steps} == set(found)  # in random order


def test_rand_augment_comes_first_and_each_has_a_stream_of_its_own():
    seeds = range(6)
    for seed, found in zip(seeds, BOTH(batch_of(seeds)).clips, strict=True):
        clips = colored()[None]
        for number, transform in enumerate((BOTH.rand_augment, BOTH.color_jitter)):
            clips = transform.apply(clips, [transform.draw(np.random.default_rng([seed, number]))])
        assert torch.equal(found, clips[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(0, 5), "rand_augment.num_ops=0: must be at least 1"),
        (lambda: RandAugment(2, 30), "rand_augment.magnitude=30: must be from 0 to 10"),
        (lambda: ColorJitter(brightness=-1), "color_jitter.brightness=-1"),
        (lambda: ColorJitter(hue=0.6), "color_jitter.hue=0.6"),
        (lambda: ColorJitter(probability=1.5), "color_jitter.probability=1.5"),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_view_of_every_epoch_has_a_seed_of_its_own(motion_dataset):
    settings = {"num_frames": 1, "crop_size": 8, "clips_per_video": 3, "flip_probability": 0.0, "num_workers": 0}
    data = ShardedVideoDataModule(str(motion_dataset), **settings)
    loader = data.train_dataloader()
    seeds = set()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        seeds.update(seed for batch in loader for seed in batch.seeds)
    assert len(seeds) == 2 * 40 * 3
    assert next(iter(data.val_dataloader())).seeds is None


def training(root, resume=None, rank=0, world_size=1, **more):
    """Every augmented training clip of epoch 1, by key and view, of a rank."""
    settings = {"batch_size": 3, "num_frames": 4, "crop_size": 24, "clips_per_video": 2, "sided_classes": "keep"}
    settings |= {"num_workers": 0, "rand_augment": RandAugment(2, 9.0), "color_jitter": ColorJitter()}
    data = ShardedVideoDataModule(str(root), **(settings | more))
    data._progress.resume = resume or ResumePoint()
    loaders = replace(data._loaders, rank=rank, world_size=world_size)
    loader = loaders.training(data._progress.begin(loaders, trainer=None))
    loader.sampler.set_epoch(1)
    found = {}
    for loaded in loader:
        batch = data.on_after_batch_transfer(loaded, 0)
        assert not torch.equal(batch.clips, loaded.clips)
        for number, video in enumerate(batch.video_index.tolist()):
            found[batch.keys[video], number % 2] = (
                batch.clips[number],
                data.augmentation.describe(batch.seeds[number]),
            )
    return found


def same(first, second):
    return all(torch.equal(first[key][0], second[key][0]) and first[key][1] == second[key][1] for key in second)


@pytest.fixture(scope="module")
def alone(motion_dataset):
    return training(motion_dataset)


def test_augmented_clips_do_not_depend_on_workers_or_batches(motion_dataset, alone):
    assert len(alone) == 80
    assert len({clip.numpy().tobytes() for clip, _ in alone.values()}) == 80
    for more in ({"num_workers": 3, "worker_start": "fork"}, {"batch_size": 8, "num_workers": 1}):
        other = training(motion_dataset, **more)
        assert other.keys() == alone.keys()
        assert same(alone, other)
    assert not same(alone, training(motion_dataset, seed=1))


def test_augmented_clips_do_not_depend_on_ranks(motion_dataset, alone):
    together = {}
    for rank in range(3):
        part = training(motion_dataset, rank=rank, world_size=3)
        assert not part.keys() & together.keys()
        together |= part
    assert len(together) == 78  # 13 videos a rank
    assert same(alone, together)


def test_augmented_clips_do_not_depend_on_resumption(motion_dataset, alone):
    rest = training(motion_dataset, resume=ResumePoint(epoch=1, consumed=30, steps=10))
    assert len(rest) == 20
    assert same(alone, rest)
