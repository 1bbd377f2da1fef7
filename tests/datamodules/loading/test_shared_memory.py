"""Memory of batches that is used again: never while something holds it, always once nothing does."""

import gc
import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.shared_memory import BatchBuffer, BlockLease, MemoryPool, return_when_collected


def loader(root, epoch=0, **options):
    settings = {"batch_size": 2, "num_frames": 8, "crop_size": 32, "clips_per_video": 2, **options}
    made = ShardedVideoDataModule(str(root), **settings).train_dataloader()
    made.sampler.set_epoch(epoch)
    return made


def file_of(batch):
    """Which file in shared memory holds the clips: its inode."""
    descriptor, _ = batch.clips.untyped_storage()._share_fd_cpu_()  # the storage's own
    return os.fstat(descriptor).st_ino


@pytest.mark.parametrize(("start", "pixels"), [("fork", "rgb"), ("fork", "i420"), ("spawn", "rgb")])
def test_batches_that_are_let_go_share_blocks_and_stay_right(motion_dataset, start, pixels):
    """20 batches, each held until the next has come, as training does."""
    right = list(loader(motion_dataset, pixels=pixels))
    data = loader(motion_dataset, pixels=pixels, num_workers=1, worker_start=start, prefetch_factor=1)
    files, held = [], None
    for number, batch in enumerate(data):
        before = right[number - 1].clips
        assert held is None or torch.equal(held.clips, before)
        assert torch.equal(batch.clips, right[number].clips)
        assert batch.lease is None
        files.append(file_of(batch))
        held = batch
    assert len(files) == len(right) == 20
    assert len(set(files)) <= 4  # one in the making, one ready, two held
    del batch, held
    gc.collect()
    assert data._memory.num_leased == 0


def test_a_process_that_reads_by_itself_writes_to_its_own_blocks_again(motion_dataset):
    right = [batch.clips.clone() for batch in loader(motion_dataset, num_workers=0)]
    data, held, places = loader(motion_dataset, num_workers=0), None, []
    for number, batch in enumerate(data):
        assert held is None or torch.equal(held.clips, right[number - 1])
        assert torch.equal(batch.clips, right[number])
        assert not batch.clips.is_shared()
        places.append(batch.clips.data_ptr())
        assert data._memory.num_leased == min(len(places), 2)
        held = batch
    assert len(places) == 20
    assert len(set(places)) == 2
    del batch, held
    gc.collect()
    assert data._memory.num_leased == 0


@pytest.mark.parametrize("workers", [{"num_workers": 2, "prefetch_factor": 1}, {"num_workers": 0}])
def test_whatever_holds_a_batch_keeps_it(motion_dataset, workers):
    """Tensors, views and arrays of them, more than there are blocks: nothing is written to them again."""
    right = [batch._replace(clips=batch.clips.clone()) for batch in loader(motion_dataset, num_workers=0)]
    held = []
    for number, batch in enumerate(loader(motion_dataset, **workers)):
        held.append([batch.clips, batch.clips[1:].permute(0, 4, 1, 2, 3), batch.clips.numpy()[:1]][number % 3])
    for number, (mine, expected) in enumerate(zip(held, right, strict=True)):
        clips = expected.clips
        assert np.array_equal(mine, [clips, clips[1:].permute(0, 4, 1, 2, 3), clips[:1]][number % 3])


class Lending(Dataset):
    """A worker that lends, and tells."""

    def __init__(self, memory):
        self.memory = memory

    def __len__(self):
        return 3

    def __getitem__(self, number):
        block, lease = self.memory.lease(100 - number)
        return torch.empty(0, dtype=torch.uint8).set_(block)[: 100 - number].fill_(number), lease


def lent(memory):
    return list(DataLoader(Lending(memory), batch_size=None, num_workers=1))


def test_where_all_are_lent_a_batch_has_memory_of_its_own():
    memory = MemoryPool(num_workers=1, blocks=2)
    loans = [lease for _, lease in lent(memory)]
    assert [lease and lease.block for lease in loans] == [0, 1, None]
    assert memory.num_leased == 2
    loans[1].pin_memory()  # torch calls it once it has copied what came
    assert memory.num_leased == 1


def test_a_block_of_a_worker_that_is_gone_cannot_free_its_successors():
    memory = MemoryPool(num_workers=1, blocks=2)
    [(old, old_lease), *_] = lent(memory)
    return_when_collected(old.untyped_storage(), old_lease)
    [(new, new_lease), *_] = lent(memory)  # another worker, whose blocks are others
    assert (new_lease.worker, new_lease.block) == (old_lease.worker, old_lease.block)
    return_when_collected(new.untyped_storage(), new_lease)
    assert memory.num_leased == 2
    del old
    gc.collect()
    assert memory.num_leased == 2
    del new
    gc.collect()
    assert memory.num_leased == 1


def test_a_loan_outlives_its_memory():
    memory = MemoryPool(num_workers=1, blocks=1)
    [(_, lease), *_] = lent(memory)
    del memory
    gc.collect()
    lease.return_block()
    BlockLease((0, 0), 0, 0, 1).return_block()  # of another process


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_batches_of_tests_are_written_where_they_are_read_and_kept_by_nobody(motion_dataset, pixels):
    options = {"batch_size": 2, "num_frames": 8, "crop_size": 32, "num_clips": 2, "num_crops": 3, "pixels": pixels}
    right = list(ShardedVideoDataModule(str(motion_dataset), **options).test_dataloader())
    options |= {"num_workers": 1, "prefetch_factor": 1}
    loader = ShardedVideoDataModule(str(motion_dataset), **options).test_dataloader()
    for batch, expected in zip(loader, right, strict=True):
        assert torch.equal(batch.clips, expected.clips)
        assert batch.clips.is_shared()
        assert loader._memory.num_leased == 0


def test_memory_for_a_batch_that_is_not_sent_is_free_again():
    memory = MemoryPool(num_workers=1, blocks=1)
    loader = DataLoader(Unsent(memory), batch_size=None, num_workers=1)
    assert list(loader) == [1, 0] * 2


class Unsent(Lending):
    """A worker that uses a room and then does not send it; the blocks lent during, and after."""

    def __len__(self):
        return 4

    def __getitem__(self, number):
        if number % 2:
            return self.memory.num_leased
        with BatchBuffer(self.memory) as buffer:
            buffer((3, 2)).fill_(1)
            return self.memory.num_leased
