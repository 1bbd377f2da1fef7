"""Crops that are cut on the device, against those that would have been cut in the worker."""

import shutil

import numpy as np
import pytest
import torch

from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.encoding.transcoding import encode_frames
from datamodules.loading.shared_memory import BatchBuffer
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.transforms.resize_and_crop import resize as stretch
from datamodules.transforms.resize_and_crop import resize_short_side, spatial_crops
from datamodules.transforms.three_crops import cut_crops, pad_and_stack
from datamodules.video.decoding import decode_frames
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions

SIZES = [(48, 64), (64, 48), (40, 40), (36, 90), (30, 24), (50, 33)]  # (height, width)


def noise(number: int, frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def batch_of(clips, transform):
    views = [transform(clip) for clip in clips]
    count = len(clips)
    return ClipBatch(
        clips=pad_and_stack([clip for clip, _ in views], BatchBuffer(None)),
        video_index=torch.arange(count),
        labels=torch.zeros(count, dtype=torch.int64),
        keys=[str(number) for number in range(count)],
        rows=torch.arange(count),
        clip_times=torch.arange(2 * count, dtype=torch.float64).reshape(count, 2),
        frame_numbers=torch.arange(2 * count).reshape(count, 2),
        windows=[window for _, window in views],
        crops_to_cut=transform.num_crops,
    )


@pytest.mark.parametrize("resize", [None, 32, (34, 57)])
def test_crops_of_clips_of_unlike_sizes_are_bit_for_bit_spatial_crops(resize):
    clips = [torch.from_numpy(noise(number, 2, *size)) for number, size in enumerate(SIZES)]
    transform = EvalTransform(32, resize, num_crops=3)
    batch = cut_crops(batch_of(clips, transform))
    if isinstance(resize, int):
        clips = [resize_short_side(clip, resize) for clip in clips]
    elif resize is not None:
        clips = [stretch(clip, resize) for clip in clips]
    expected = torch.stack([crop for clip in clips for crop in spatial_crops(clip, 32, 3)])
    assert torch.equal(batch.clips, expected)
    assert batch.clips.is_contiguous()
    assert batch.crops_to_cut == 1
    assert batch.video_index.tolist() == [number for number in range(len(SIZES)) for _ in range(3)]
    assert batch.clip_times[3:6].tolist() == [[2.0, 3.0]] * 3
    assert batch.frame_numbers[3:6].tolist() == [[2, 3]] * 3
    assert cut_crops(batch) is batch


def test_the_windows_of_the_crops_say_where_they_were_cut():
    clips = [torch.from_numpy(noise(number, 1, *size)) for number, size in enumerate(SIZES[:2])]
    batch = cut_crops(batch_of(clips, EvalTransform(32, None, num_crops=3)))
    places = [(window.top, window.left, window.height, window.width) for window in batch.windows]
    assert places == [
        (8, 0, 32, 32),
        (8, 16, 32, 32),
        (8, 32, 32, 32),
        (0, 8, 32, 32),
        (16, 8, 32, 32),
        (32, 8, 32, 32),
    ]
    for view, window in enumerate(batch.windows):
        part = clips[view // 3][:, window.top : window.top + 32, window.left : window.left + 32]
        assert torch.equal(batch.clips[view], part)


def test_no_more_is_sent_than_three_crops():
    for sizes in (SIZES[:4], SIZES[:1], SIZES[2:3]):
        clips = [torch.from_numpy(noise(number, 2, *size)) for number, size in enumerate(sizes)]
        loaded = batch_of(clips, EvalTransform(32, 32, num_crops=3))
        assert loaded.clips.nbytes <= cut_crops(loaded).clips.nbytes
        assert loaded.clips.shape[2] == 32


@pytest.fixture(scope="module")
def unlike_sizes(tmp_path_factory):
    """A packed test split of videos of unlike sizes, copied as they are."""
    folder = tmp_path_factory.mktemp("sizes")
    lines = ["path,label,split"]
    for number, (height, width) in enumerate(SIZES[:4]):
        frames = noise(number, 8, height // 8, width // 8).repeat(8, axis=1).repeat(8, axis=2)
        frames = frames[:, : height // 2 * 2, : width // 2 * 2]
        (folder / f"{number}.mp4").write_bytes(encode_frames(list(frames), fps=10.0))
        lines.append(f"{number}.mp4,{'ab'[number % 2]},test")
    (folder / "list.csv").write_text("\n".join(lines))
    pack(PackOptions(folder / "shards", [folder / "list.csv"], folder, copy=True, processes=1))
    yield folder / "shards"
    shutil.rmtree(folder)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", ["test", "predict"])
def test_views_of_the_data_module_are_those_of_the_videos(unlike_sizes, method, workers):
    settings = {"num_frames": 4, "crop_size": 28, "resize": 30, "num_clips": 2, "num_crops": 3, "batch_size": 4}
    data = ShardedVideoDataModule(str(unlike_sizes), num_workers=workers, val_split=None, **settings)
    loader = data.test_dataloader() if method == "test" else data.predict_dataloader()
    [loaded] = loader
    batch = data.on_after_batch_transfer(loaded, 0)
    assert loaded.clips.nbytes < batch.clips.nbytes
    expected = []
    for row in batch.rows.tolist():
        for starts in ((0, 1, 2, 3), (4, 5, 6, 7)):
            frames = torch.from_numpy(decode_frames(data.index.read_video(row), starts, data.decoder))
            expected += spatial_crops(resize_short_side(frames, 30), 28, 3)
    assert torch.equal(batch.clips, torch.stack(expected))
    assert batch.video_index.tolist() == [video for video in range(4) for _ in range(6)]


def test_whole_videos_come_one_by_one_with_all_their_frames(motion_dataset):
    settings = {"num_frames": 4, "crop_size": 32, "num_workers": 0, "test_sampling": "whole", "batch_size": 4}
    data = ShardedVideoDataModule(str(motion_dataset), num_crops=3, **settings)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert len(batches) == 16
    assert {tuple(batch.clips.shape) for batch in batches} == {(3, 24, 32, 32, 3)}
    assert batches[0].frame_numbers[0].tolist() == list(range(24))
    halves = ShardedVideoDataModule(str(motion_dataset), max_frames=12, **settings)
    [batch, *_] = halves.predict_dataloader()
    assert batch.frame_numbers.tolist() == [list(range(12)), list(range(12, 24))]


def test_a_batch_without_videos_stays_empty(motion_dataset):
    data = ShardedVideoDataModule(str(motion_dataset), num_crops=3, num_frames=8, crop_size=32, num_workers=0)
    loader = data.test_dataloader()
    loader.sampler._batches = [np.arange(0)]
    [loaded] = loader
    batch = data.on_after_batch_transfer(loaded, 0)
    assert batch.clips.shape == (0, 8, 32, 32, 3)
    assert (batch.num_videos, len(batch.video_index), batch.crops_to_cut) == (0, 0, 1)
