"""Clips of optical flow: the motion of their videos, cut and mirrored as RGB is, however they are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.annotations.records import ALL_VIDEOS
from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.optical_flow.flow_levels import flow_displacements
from datamodules.video.decoding import decode_frames
from pipeline.inference.video_file_index import open_video_files
from tests.moving_textures import MOTIONS

OPTIONS: dict[str, Any] = {
    "num_frames": 4,
    "crop_size": 32,
    "batch_size": 16,
    "num_workers": 0,
    "sided_classes": "mirror",
}
TOLERANCE = 0.4  # pixels, of the mean of a crop, which the border may be part of


def data_module(root: Path, **options: Any) -> ShardedVideoDataModule:
    data = ShardedVideoDataModule(str(root), **OPTIONS | options)
    data.setup("fit")
    return data


def train_batch(root: Path, **options: Any) -> ClipBatch:
    batch = next(iter(data_module(root, **options).train_dataloader()))
    assert isinstance(batch, ClipBatch)
    return batch


def mean_motion(clips: torch.Tensor) -> np.ndarray:
    """Mean displacement of each clip, (N, 2), of levels (N, T, H, W, 2)."""
    return flow_displacements(clips.numpy()).mean((1, 2, 3))


def expected_motion(data: ShardedVideoDataModule, batch: ClipBatch) -> np.ndarray:
    return np.float32([MOTIONS[data.class_names[label]] for label in batch.labels[batch.video_index].tolist()])


@pytest.mark.parametrize("extra", [{}, {"resize": 48}, {"random_resized_crop": True}])
def test_mirroring_turns_the_sign_of_x(flow_dataset: Path, extra: dict[str, Any]) -> None:
    data = data_module(flow_dataset, stream="flow", **extra)
    batch = train_batch(flow_dataset, stream="flow", **extra)
    assert (batch.clips.dtype, tuple(batch.clips.shape)) == (torch.uint8, (16, 4, 32, 32, 2))
    assert batch.windows is not None
    mirrored = np.array([window.mirrored for window in batch.windows])
    assert 0 < mirrored.sum() < 16
    expected = expected_motion(data, batch)
    expected[mirrored, 0] *= -1
    assert np.abs(mean_motion(batch.clips) - expected).max() < TOLERANCE


def test_both_are_rgb_and_flow_of_one_window(flow_dataset: Path) -> None:
    data = data_module(flow_dataset, stream="both")
    both, flow = (train_batch(flow_dataset, stream=stream) for stream in ("both", "flow"))
    assert both.clips.shape[-1] == 5
    assert torch.equal(both.clips[..., 3:], flow.clips)
    assert both.windows is not None
    assert both.frame_numbers is not None
    for view, window in enumerate(both.windows):
        numbers = both.frame_numbers[view].tolist()
        frames = decode_frames(data.index.read_video(int(both.rows[view])), numbers, "pyav")
        part = frames[:, window.top : window.top + 32, window.left : window.left + 32]
        assert np.array_equal(both.clips[view, ..., :3].numpy(), part[:, :, ::-1] if window.mirrored else part)
        assert numbers[-1] <= 7  # nine frames have eight pairs


def test_workers_and_three_crops_change_nothing(flow_dataset: Path) -> None:
    assert torch.equal(
        train_batch(flow_dataset, stream="both").clips, train_batch(flow_dataset, stream="both", num_workers=1).clips
    )
    data = data_module(flow_dataset, stream="flow", num_crops=3, num_clips=2)
    for loaded in data.test_dataloader():
        batch = data.on_after_batch_transfer(loaded, 0)
        assert tuple(batch.clips.shape[1:]) == (4, 32, 32, 2)
        assert np.abs(mean_motion(batch.clips) - expected_motion(data, batch)).max() < TOLERANCE


def test_flow_of_plain_files_is_computed(flow_dataset: Path, tmp_path: Path) -> None:
    files = open_video_files([str(flow_dataset.parent / "videos")], tmp_path / "out.parquet").index
    whole = {"test_split": ALL_VIDEOS, "num_clips": 1, "stream": "both"}
    computed = ShardedVideoDataModule.from_index(files, **OPTIONS | whole)
    packed = data_module(flow_dataset, **whole)
    clips = [
        {key: clip for batch in data.test_dataloader() for key, clip in zip(batch.keys, batch.clips, strict=True)}
        for data in (computed, packed)
    ]
    assert clips[0].keys() == clips[1].keys()
    assert len(clips[0]) == 28
    for key, clip in clips[0].items():
        assert np.abs(mean_motion(clip[None, ..., 3:]) - mean_motion(clips[1][key][None, ..., 3:])).max() < 0.1


def test_a_dataset_without_flow_is_one_sentence(motion_dataset: Path) -> None:
    with pytest.raises(
        ValueError, match=r"stream='flow': .* has no optical flow; pack it into another folder with --flow"
    ):
        data_module(motion_dataset, stream="flow", flip_probability=0.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pixels": "i420"}, "pixels, stream='both': is for RGB alone; leave pixels out"),
        ({"still": True}, "still=true, stream='both': a control without motion has no flow"),
    ],
)
def test_options_of_rgb_alone_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ShardedVideoDataModule("anywhere", stream="both", **options)
    with pytest.raises(ValueError, match="stream='depth': must be rgb, flow, both"):
        ShardedVideoDataModule("anywhere", stream="depth")
