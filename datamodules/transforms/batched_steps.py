"""Augmentation steps of whole batches: each clip has its own operations and values, and all take a few kernels.

Clips that take a table of levels at the same turn are looked up together, whichever their operations are; clips that
are moved are sampled together; other operations have the clips of that operation together. What a clip becomes does
not depend on the others.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.device_transfer import move_to_device
from datamodules.transforms import pixel_operations as pixels


class AugmentationStep(NamedTuple):
    """One operation and its value, in the operation's own unit; 0 if it has no parameter."""

    operation: str
    value: float


class LevelTable(NamedTuple):
    """Operation that maps each level to another one.

    Attributes:
        tables: function of clips and values to tables, uint8 (N, C, 256).
    """

    tables: Callable[[Tensor, Tensor], Tensor]


class Motion(NamedTuple):
    """Operation that moves pixels.

    Attributes:
        placement: function of the value, height and width to (a, b, c, d, x, y): matrix and shift of `pixels.affine`.
    """

    placement: Callable[[float, int, int], tuple[float, ...]]


class Change(NamedTuple):
    """Any other operation.

    Attributes:
        function: function of clips and values to clips.
    """

    function: Callable[[Tensor, Tensor], Tensor]


PixelOperation = LevelTable | Motion | Change
Members = list[tuple[int, AugmentationStep]]  # numbers of clips, and the step of each


def apply_steps(
    clips: Tensor, steps: Sequence[Sequence[AugmentationStep]], operations: Mapping[str, PixelOperation | None]
) -> Tensor:
    """Applies to each clip its steps in turn.

    Args:
        clips: uint8 (N, T, H, W, C); not changed.
        steps: the steps of each of the N clips, which may be of different numbers.
        operations: what the operations of the steps do, by name; None does nothing.
    """
    result = clips
    for turn in range(max(map(len, steps), default=0)):
        by_operation: dict[str, Members] = defaultdict(list)
        for number, own in enumerate(steps):
            if turn < len(own) and operations[own[turn].operation] is not None:
                by_operation[own[turn].operation].append((number, own[turn]))
        result = _take_turn(result, by_operation, operations)
    return result


def _take_turn(
    clips: Tensor, by_operation: Mapping[str, Members], operations: Mapping[str, PixelOperation | None]
) -> Tensor:
    """Applies one step to each of the clips that have one."""
    tables: list[Tensor] = []
    looked_up: Members = []
    moved: list[tuple[int, tuple[float, ...]]] = []
    changed: list[tuple[Sequence[tuple[int, object]], Tensor]] = []
    for name, members in by_operation.items():
        match operations[name]:
            case LevelTable(make):
                tables.append(make(_take(clips, members), _values(members, clips)))
                looked_up += members
            case Motion(placement):
                moved += [(number, placement(step.value, *clips.shape[2:4])) for number, step in members]
            case Change(function):
                changed.append((members, function(_take(clips, members), _values(members, clips))))
    if looked_up:
        changed.append((looked_up, pixels.look_up(_take(clips, looked_up), _join(tables, clips.shape[-1]))))
    if moved:
        placements = move_to_device(
            torch.tensor([placement for _, placement in moved], dtype=torch.float64), clips.device
        )
        changed.append((moved, pixels.affine(_take(clips, moved), placements[:, :4], placements[:, 4:])))
    if len(changed) == 1 and len(changed[0][0]) == len(clips) == 1:
        return changed[0][1]
    result = clips.clone() if changed else clips
    for numbered, new in changed:
        result[_places(numbered, clips)] = new
    return result


def _take(clips: Tensor, members: Sequence[tuple[int, object]]) -> Tensor:
    """The clips of the members, in their order."""
    return clips if len(clips) == 1 else clips[_places(members, clips)]


def _join(tables: Sequence[Tensor], num_channels: int) -> Tensor:
    """Tables of clips along one axis; those that are alike for all channels may have one in their place."""
    if len(tables) == 1:
        return tables[0]
    return torch.cat([table.expand(-1, num_channels, -1) for table in tables])


def _places(members: Sequence[tuple[int, object]], clips: Tensor) -> Tensor:
    return move_to_device(torch.tensor([number for number, _ in members]), clips.device)


def _values(members: Members, clips: Tensor) -> Tensor:
    return move_to_device(torch.tensor([step.value for _, step in members], dtype=torch.float64), clips.device)
