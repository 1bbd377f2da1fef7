"""The feed with real shards, real DataLoader workers and real decoding."""

import numpy as np
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.sampling.batch_sampler import ResumePoint, TrainRequests
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.video.decoding import DecodeError


def module(root, **kwargs):
    settings = {"batch_size": 3, "num_frames": 8, "crop_size": 32, "flip_probability": 0.0, "num_workers": 0}
    return ShardedVideoDataModule(str(root), **(settings | kwargs))


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return list(loader)


def same(first, second):
    return len(first) == len(second) and all(
        a.keys == b.keys and torch.equal(a.clips, b.clips) and torch.equal(a.labels, b.labels)
        for a, b in zip(first, second, strict=True)
    )


def test_a_training_batch(motion_dataset):
    data = module(motion_dataset, clips_per_video=2)
    [batch, *_] = epoch(data.train_dataloader())
    assert batch.clips.shape == (6, 8, 32, 32, 3)
    assert batch.clips.dtype == torch.uint8
    assert batch.video_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.num_videos == 3
    entry = data.index.entry(int(batch.rows[0]))
    assert (entry.key, entry.label) == (batch.keys[0], int(batch.labels[0]))
    seconds = (batch.clip_times[:, 1] - batch.clip_times[:, 0]).tolist()
    assert seconds == pytest.approx([8 / 25] * 6)


def test_an_epoch_has_every_video_once_and_the_next_another_order(motion_dataset):
    loader = module(motion_dataset).train_dataloader()
    first, second = ([key for batch in epoch(loader, number) for key in batch.keys] for number in (0, 1))
    assert len(set(first)) == len(first) == 40
    assert set(first) == set(second)
    assert first != second


@pytest.mark.parametrize(("workers", "start"), [(1, "fork"), (3, "fork"), (2, "forkserver"), (2, "spawn")])
def test_batches_do_not_depend_on_the_workers(motion_dataset, workers, start):
    alone = epoch(module(motion_dataset).train_dataloader(), 1)
    loader = module(motion_dataset, num_workers=workers, worker_start=start).train_dataloader()
    epoch(loader, 0)  # persistent workers must take the next epoch's order
    assert same(epoch(loader, 1), alone)


def test_augmentation_differs_between_epochs_and_seeds(motion_dataset):
    loader = module(motion_dataset, shuffle="none").train_dataloader()
    other_seed = module(motion_dataset, shuffle="none", seed=1).train_dataloader()
    [first, *_], [second, *_], [third, *_] = epoch(loader, 0), epoch(loader, 1), epoch(other_seed, 0)
    assert first.keys == second.keys == third.keys
    assert not torch.equal(first.clips, second.clips)
    assert not torch.equal(first.clips, third.clips)


def test_test_batches_bring_all_views_of_every_video_once(motion_dataset):
    data = module(motion_dataset, num_clips=3, num_crops=3)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    keys = [key for batch in batches for key in batch.keys]
    assert len(set(keys)) == len(keys) == 16
    for batch in batches:
        assert torch.bincount(batch.video_index).tolist() == [9] * batch.num_videos


def test_evaluation_batches_are_bounded_by_bytes(motion_dataset):
    views = 5 * 8 * 32 * 32 * 3
    data = module(motion_dataset, num_clips=5, batch_size=8, eval_batch_bytes=2 * views)
    assert {batch.num_videos for batch in data.test_dataloader()} == {2}


def test_still_clips_repeat_one_frame(motion_dataset):
    [batch, *_] = module(motion_dataset, still=True).test_dataloader()
    assert torch.equal(batch.clips, batch.clips[:, :1].expand_as(batch.clips))
    [moving, *_] = module(motion_dataset).test_dataloader()
    assert not torch.equal(moving.clips, batch.clips)


def test_dense_clips_for_export(motion_dataset):
    [batch, *_] = module(motion_dataset, clip_step=4).predict_dataloader()
    starts = batch.clip_times[batch.video_index == 0, 0] * 25
    assert starts.tolist() == pytest.approx([0, 4, 8, 12, 16])  # 24 frames, clips of 8


def test_fewer_videos_than_ranks_give_an_empty_batch(motion_dataset):
    data = module(motion_dataset)
    loader = data.val_dataloader()
    loader.sampler._batches = [np.arange(0)]
    [batch] = loader
    assert batch.num_videos == 0
    assert batch.clips.shape == (0, 8, 32, 32, 3)


def damaged_copy(root, tmp_path, keys):
    """The dataset with the given videos' bytes overwritten in the shard."""
    import shutil

    copy = tmp_path / "damaged"
    shutil.copytree(root, copy)
    index = module(copy).index
    for row in index.rows("train"):
        entry = index.entry(int(row))
        if entry.key in keys:
            with (copy / entry.shard).open("r+b") as shard:
                shard.seek(entry.video_offset)
                shard.write(b"\xff" * entry.video_size)
    return copy


@pytest.mark.parametrize(("workers", "pixels"), [(0, "i420"), (2, "rgb")])
def test_a_damaged_video_is_left_out_of_training_and_counted(motion_dataset, tmp_path, workers, pixels):
    key = epoch(module(motion_dataset).train_dataloader())[2].keys[1]
    copy = damaged_copy(motion_dataset, tmp_path, {key})
    settings = {"num_workers": workers, "max_skipped_fraction": 0.05, "pixels": pixels}
    batches = epoch(module(copy, **settings).train_dataloader())
    assert [batch.num_skipped for batch in batches] == [0, 0, 1, *[0] * (len(batches) - 3)]
    assert [batch.pixel_format for batch in batches] == [pixels, pixels, "rgb", *[pixels] * (len(batches) - 3)]
    assert batches[2].num_videos == 2
    assert key not in batches[2].keys


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_damaged_videos_end_the_epoch(motion_dataset, tmp_path, workers):
    key = epoch(module(motion_dataset).train_dataloader())[2].keys[1]
    loader = module(damaged_copy(motion_dataset, tmp_path, {key}), num_workers=workers).train_dataloader()
    with pytest.raises(DecodeError, match="1 videos of this epoch could not be decoded, more than the 0 that"):
        epoch(loader)


def test_a_damaged_video_is_an_error_in_evaluation(motion_dataset, tmp_path):
    key = epoch(module(motion_dataset).train_dataloader())[2].keys[1]
    data = module(damaged_copy(motion_dataset, tmp_path, {key}), test_split="train", num_workers=1)
    with pytest.raises(DecodeError, match=f"^video {key} in .*tar cannot be decoded by"):
        list(data.test_dataloader())


def test_length_is_steps_done_plus_steps_left():
    requests = TrainRequests(TrainPlan(20, 2, 2), rank=0, resume=ResumePoint(epoch=1, consumed=12, steps=3))
    assert requests.epoch == 1
    assert len(requests) == 3 + 2
    assert len(list(requests)) == 2
    assert requests.point_after(steps=4) == ResumePoint(epoch=1, consumed=16, steps=4)
    requests.set_epoch(2)
    assert len(requests) == len(list(requests)) == 5
    assert requests.point_after(steps=4) == ResumePoint(epoch=2, consumed=16, steps=4)
