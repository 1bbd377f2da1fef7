"""Batches that are copied on a stream of their own: the same bytes, no wait, and no memory that is reused too early."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from benchmarks.gpu_checks.host_waits import HostWaits
from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.device_transfer import DeviceTransfer
from tests.datamodules.loading.test_planned_loader import same
from tests.gpu.devices import DEVICES

BUSY = 2_000_000_000  # cycles of a GPU, a second or so


def random_batch(seed: int) -> ClipBatch:
    """Page-locked, 19 MB, as a batch of C3D."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(0, 256, (32, 16, 112, 112, 3), dtype=torch.uint8, generator=generator)
    return pin_memory(ClipBatch.from_clips_of_videos(list(clips.split(1))))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_loader_are_those_of_the_host(device, workers, motion_dataset):
    options = {"batch_size": 4, "num_frames": 8, "crop_size": 32, "sided_classes": "mirror"}
    data = ShardedVideoDataModule(str(motion_dataset), num_workers=workers, **options)
    expected = list(ShardedVideoDataModule(str(motion_dataset), num_workers=0, **options).val_dataloader())
    found = list(replace(data._loaders, device=torch.device(device)).validation())
    assert {batch.clips.device.type for batch in found} == {device}
    assert same([batch.to(torch.device("cpu")) for batch in found], expected)


@pytest.mark.gpu
def test_a_copy_goes_on_while_the_device_computes_and_the_host_waits_for_neither():
    transfer, batch = DeviceTransfer(torch.device("cuda")), random_batch(0)
    transfer.end(transfer.begin(batch))  # memory is there
    torch.cuda.synchronize()
    with HostWaits() as waits:
        torch.cuda._sleep(BUSY)
        computed = torch.cuda.current_stream().record_event()
        moving = transfer.begin(batch)
        moved = transfer.end(moving)
    assert waits.places == {}
    moving.arrival.synchronize()
    assert not computed.query()
    assert torch.equal(moved.clips.cpu(), batch.clips)


@pytest.mark.gpu
def test_memory_is_not_written_again_before_the_computation_with_it():
    transfer, batches = DeviceTransfer(torch.device("cuda")), [random_batch(seed) for seed in range(4)]
    totals = []
    for batch in batches:
        moved = transfer.end(transfer.begin(batch))
        torch.cuda._sleep(BUSY // 10)
        totals.append(moved.clips.sum())
        del moved
    assert [int(total) for total in totals] == [int(batch.clips.sum()) for batch in batches]
