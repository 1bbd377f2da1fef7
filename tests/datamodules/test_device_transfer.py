"""Batches that are moved one ahead: order, end, errors; the parts that a GPU needs are in tests/gpu."""

import pytest
import torch

from datamodules.batch import ClipBatch
from datamodules.device_transfer import DeviceTransfer, move_one_ahead
from datamodules.loading.planned_loader import PlannedLoader
from datamodules.video.decoding import DecodeError
from tests.datamodules.loading.test_planned_loader import damaged_copy, epoch, module, same

CPU = torch.device("cpu")


class NotedTransfer(DeviceTransfer):
    """Notes what began and ended, by the number that each batch has as its only pixel."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(CPU)
        self.notes = notes

    def begin(self, batch):
        self.notes.append(f"begin {batch.clips.item()}")
        return super().begin(batch)

    def end(self, moving):
        self.notes.append(f"end {moving.batch.clips.item()}")
        return super().end(moving)


def numbered(count, notes, error=None):
    """Batches 0 to `count` - 1, then perhaps an error."""
    for number in range(count):
        notes.append(f"read {number}")
        yield ClipBatch.from_clips(torch.full((1, 1, 1, 1, 1), number, dtype=torch.uint8))
    if error is not None:
        raise error


def test_the_next_batch_begins_to_move_before_one_is_handed_out():
    notes: list[str] = []
    batches = move_one_ahead(numbered(3, notes), NotedTransfer(notes))
    assert notes == []  # Lightning makes the iterator before it sets the epoch
    for number in range(3):
        notes.append(f"train {next(batches).clips.item()}")
        assert notes[-1] == f"train {number}"
    assert next(batches, None) is None
    expected = ["read 0", "begin 0", "read 1", "begin 1", "end 0", "train 0", "read 2", "begin 2", "end 1", "train 1"]
    assert notes == [*expected, "end 2", "train 2"]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_all_batches_come_in_order_and_then_the_error(count):
    assert [batch.clips.item() for batch in move_one_ahead(numbered(count, []), DeviceTransfer(CPU))] == [*range(count)]
    failing = move_one_ahead(numbered(count, [], DecodeError("the next one")), DeviceTransfer(CPU))
    assert [next(failing).clips.item() for _ in range(count)] == [*range(count)]
    with pytest.raises(DecodeError, match="the next one"):
        next(failing)
    assert next(failing, None) is None


def test_an_interrupt_comes_at_once():
    batches = move_one_ahead(numbered(1, [], KeyboardInterrupt()), DeviceTransfer(CPU))
    with pytest.raises(KeyboardInterrupt):
        next(batches)


def moved_ahead(loader: PlannedLoader) -> PlannedLoader:
    loader._device = CPU
    return loader


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_what_it_gives_without(motion_dataset, workers):
    expected = module(motion_dataset).train_dataloader()
    loader = moved_ahead(module(motion_dataset, num_workers=workers).train_dataloader())
    assert len(loader) == len(expected)
    for number in (0, 1):
        assert same(epoch(loader, number), epoch(expected, number))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_too_many_ends_the_epoch_at_its_own_batch(motion_dataset, tmp_path, workers):
    whole = epoch(module(motion_dataset).train_dataloader())
    copy = damaged_copy(motion_dataset, tmp_path, {whole[2].keys[1]})
    batches = iter(moved_ahead(module(copy, num_workers=workers).train_dataloader()))
    assert same([next(batches), next(batches)], whole[:2])
    with pytest.raises(DecodeError, match="1 videos of this epoch could not be decoded"):
        next(batches)
