"""Color jitter on clips: brightness, contrast, saturation and hue with a given probability, in random order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datamodules.transforms import pixel_operations as pixels
from datamodules.transforms.batched_steps import AugmentationStep, Change, LevelTable, PixelOperation, apply_steps

_OPERATIONS: dict[str, PixelOperation] = {
    "brightness": LevelTable(pixels.brightness_table),
    "contrast": LevelTable(pixels.contrast_table),
    "saturation": Change(pixels.color),
    "hue": Change(pixels.hue),
}


@dataclass(frozen=True)
class ColorJitter:
    """Randomly changes the colors of a clip, all frames by the same amount.

    Attributes:
        brightness: b; the factor is drawn from [max(0, 1 - b), 1 + b].
        contrast: c; the factor is drawn from [max(0, 1 - c), 1 + c].
        saturation: s; the factor is drawn from [max(0, 1 - s), 1 + s].
        hue: h, at most 0.5; the shift is drawn from [-h, h], in turns of the color circle.
        probability: probability that a clip is changed at all.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 0.8

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"color_jitter.{name}={getattr(self, name)}: must be at least 0")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"color_jitter.hue={self.hue}: must be from 0 to 0.5")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"color_jitter.probability={self.probability}: must be from 0 to 1")

    def draw(self, generator: np.random.Generator) -> list[AugmentationStep]:
        """Draws the steps for one clip; an empty list leaves it unchanged."""
        is_applied = generator.random() < self.probability
        steps = []
        for name in generator.permutation(list(_OPERATIONS)).tolist():
            strength, neutral = getattr(self, name), 0.0 if name == "hue" else 1.0
            min_value = -strength if name == "hue" else max(0.0, 1 - strength)
            value = generator.uniform(min_value, neutral + strength)
            if strength > 0:
                steps.append(AugmentationStep(name, value))
        return steps if is_applied else []

    @staticmethod
    def apply(clips: Tensor, steps: Sequence[Sequence[AugmentationStep]]) -> Tensor:
        """Applies each clip's steps: uint8 (N, T, H, W, C) to the same shape, all frames equally."""
        return apply_steps(clips, steps, _OPERATIONS)

    @staticmethod
    def describe(steps: list[AugmentationStep]) -> list[str]:
        """Describes the steps in words, such as `saturation x 1.21`."""
        return [f"hue {value:+.3f} turns" if name == "hue" else f"{name} x {value:.2f}" for name, value in steps]
