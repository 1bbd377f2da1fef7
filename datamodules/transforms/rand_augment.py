"""RandAugment on clips (Cubuk et al. 2020): a few of fourteen operations, all with the same magnitude."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from datamodules.transforms import pixel_operations as pixels
from datamodules.transforms.batched_steps import (
    AugmentationStep,
    Change,
    LevelTable,
    Motion,
    PixelOperation,
    apply_steps,
)

_MAX_MAGNITUDE = 10  # largest magnitude on the paper's scale, section 3


class Operation(NamedTuple):
    """An augmentation operation and its range of values.

    Attributes:
        pixels: what it does to clips; None for nothing.
        description: format string that describes the value.
        min_value: value at magnitude 0, which leaves the clip unchanged.
        max_value: value at magnitude 10.
        signed: whether the value's distance from `min_value` gets a random sign.
        integral: whether the value is an integer.
    """

    pixels: PixelOperation | None
    description: str
    min_value: float = 0.0
    max_value: float = 0.0
    signed: bool = False
    integral: bool = False


def _rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return cosine, -sine, sine, cosine, 0, 0  # counterclockwise


# The paper's K = 14 operations, section 3, with the ranges of AutoAugment (Cubuk et al. 2019, table 6), whose shifts
# are 150 pixels of an image of 331.
OPERATIONS = {
    "identity": Operation(None, ""),
    "autocontrast": Operation(LevelTable(pixels.autocontrast_table), ""),
    "equalize": Operation(LevelTable(pixels.equalize_table), ""),
    "rotate": Operation(Motion(_rotation), " by {:.1f} degrees", 0, 30, signed=True),
    "solarize": Operation(LevelTable(pixels.solarize_table), " from {:.0f}", 256, 0, integral=True),
    "color": Operation(Change(pixels.color), " x {:.2f}", 1, 1.9, signed=True),
    "posterize": Operation(LevelTable(pixels.posterize_table), " to {:.0f} bits", 8, 4, integral=True),
    "contrast": Operation(LevelTable(pixels.contrast_table), " x {:.2f}", 1, 1.9, signed=True),
    "brightness": Operation(LevelTable(pixels.brightness_table), " x {:.2f}", 1, 1.9, signed=True),
    "sharpness": Operation(Change(pixels.sharpness), " x {:.2f}", 1, 1.9, signed=True),
    "shear x": Operation(Motion(lambda value, *_: (1, value, 0, 1, 0, 0)), " by {:.2f}", 0, 0.3, signed=True),
    "shear y": Operation(Motion(lambda value, *_: (1, 0, value, 1, 0, 0)), " by {:.2f}", 0, 0.3, signed=True),
    "translate x": Operation(
        Motion(lambda value, height, width: (1, 0, 0, 1, -round(value * width), 0)),
        " by {:.0%}",
        0,
        150 / 331,
        signed=True,
    ),
    "translate y": Operation(
        Motion(lambda value, height, width: (1, 0, 0, 1, 0, -round(value * height))),
        " by {:.0%}",
        0,
        150 / 331,
        signed=True,
    ),
}
_PIXELS = {name: operation.pixels for name, operation in OPERATIONS.items()}


@dataclass(frozen=True)
class RandAugment:
    """Applies `num_ops` of `OPERATIONS` in turn, drawn with replacement, all equally likely.

    Differences from the paper: statistics are taken over the whole clip; rotations, shears and shifts use
    nearest-neighbor sampling and fill with gray.

    Attributes:
        num_ops: operations per clip, N in the paper.
        magnitude: magnitude of all operations, M in the paper, from 0 to 10; at 0 all but autocontrast and equalize
            leave the clip unchanged.
    """

    num_ops: int = 2
    magnitude: float = 9.0

    def __post_init__(self) -> None:
        if self.num_ops < 1:
            raise ValueError(f"rand_augment.num_ops={self.num_ops}: must be at least 1")
        if not 0 <= self.magnitude <= _MAX_MAGNITUDE:
            raise ValueError(f"rand_augment.magnitude={self.magnitude}: must be from 0 to {_MAX_MAGNITUDE}")

    def draw(self, generator: np.random.Generator) -> list[AugmentationStep]:
        """Draws the steps for one clip."""
        names = list(OPERATIONS)
        steps = []
        for _ in range(self.num_ops):
            name = names[int(generator.integers(len(names)))]
            sign = -1 if generator.random() < 0.5 else 1  # drawn for unsigned operations too: all take as many draws
            operation = OPERATIONS[name]
            distance = (operation.max_value - operation.min_value) * self.magnitude / _MAX_MAGNITUDE
            value = operation.min_value + (sign if operation.signed else 1) * distance
            steps.append(AugmentationStep(name, round(value) if operation.integral else value))
        return steps

    @staticmethod
    def apply(clips: Tensor, steps: Sequence[Sequence[AugmentationStep]]) -> Tensor:
        """Applies each clip's steps: uint8 (N, T, H, W, C) to the same shape, all frames equally."""
        return apply_steps(clips, steps, _PIXELS)

    @staticmethod
    def describe(steps: list[AugmentationStep]) -> list[str]:
        """Describes the steps in words, such as `rotate by -27.0 degrees`."""
        return [step.operation + OPERATIONS[step.operation].description.format(step.value) for step in steps]
