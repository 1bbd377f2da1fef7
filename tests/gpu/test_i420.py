"""Planes become the same bytes on a GPU as on the CPU."""

import platform

import pytest
import torch
from lightning_fabric.utilities import move_data_to_device

from datamodules.batch import ClipBatch, Window
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.transforms.yuv420 import color_factors, num_enclosing_pairs, to_rgb
from tests.gpu.devices import DEVICES

MATRICES, RANGES = (1, 2, 4, 5, 6, 7), (1, 2)  # of H.273: those that are known; limited and full


def random_planes(frames: int, size: int) -> ClipBatch:
    """A clip of random bytes for every matrix and range, with windows at odd and even places, mirrored or not."""
    pairs, generator = num_enclosing_pairs(size), torch.Generator().manual_seed(0)
    colors = [color_factors(matrix, of) for matrix in MATRICES for of in RANGES]
    shape = (len(colors), frames, 3 * pairs, 2 * pairs)
    windows = [
        Window(256, 340, number % 2, number // 2 % 2, size, size, number // 4 % 2 == 1) for number in range(len(colors))
    ]
    batch = ClipBatch.from_clips(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
    return batch._replace(pixel_format="i420", colors=torch.tensor(colors, dtype=torch.int32), windows=windows)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("frames", "size"), [(3, 33), (2, 32), (16, 112)])
def test_all_matrices_ranges_and_places_give_the_bytes_of_the_cpu(device, frames, size):
    batch = random_planes(frames, size)
    expected = to_rgb(batch).clips
    assert expected.shape == (12, frames, size, size, 3)
    assert expected.float().std() > 50
    found = to_rgb(move_data_to_device(batch, torch.device(device))).clips
    assert found.device.type == device
    assert torch.equal(found.cpu(), expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere FFmpeg rounds by another level")
@pytest.mark.parametrize("device", DEVICES)
def test_videos_sent_as_planes_are_those_decoded_to_rgb(device, motion_dataset):
    options = {"batch_size": 8, "num_frames": 8, "crop_size": 32, "num_workers": 0, "sided_classes": "mirror"}
    rgb, planar = (ShardedVideoDataModule(str(motion_dataset), pixels=one, **options) for one in ("rgb", "i420"))
    for expected, sent in zip(rgb.train_dataloader(), planar.train_dataloader(), strict=True):
        assert sent.pixel_format == "i420"
        found = planar.on_after_batch_transfer(move_data_to_device(sent, torch.device(device)), 0)
        assert torch.equal(found.clips.cpu(), expected.clips)
