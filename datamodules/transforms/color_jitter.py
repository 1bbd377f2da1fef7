"""Color jitter on clips: brightness, contrast, saturation and hue, each by chance, in random order."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datamodules.transforms import pixel_operations as pixels
from datamodules.transforms.rand_augment import Step

_OPERATIONS = {
    "brightness": pixels.brightness,
    "contrast": pixels.contrast,
    "saturation": pixels.color,
    "hue": pixels.hue,
}


@dataclass(frozen=True)
class ColorJitter:
    """Changes the colors of a clip, the same for all its frames.

    Attributes:
        brightness: the factor is drawn from 1 - this (not below 0) to 1 + this.
        contrast: likewise.
        saturation: likewise.
        hue: the shift is drawn from -this to this, in turns of the color circle; at most 0.5.
        probability: share of the clips that are changed at all.
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

    def draw(self, generator: np.random.Generator) -> list[Step]:
        """What to do to one clip; nothing for one that is left as it is."""
        chosen = generator.random() < self.probability
        steps = []
        for name in generator.permutation(list(_OPERATIONS)).tolist():
            extent, usual = getattr(self, name), 0.0 if name == "hue" else 1.0
            least = -extent if name == "hue" else max(0.0, 1 - extent)
            value = generator.uniform(least, usual + extent)
            if extent > 0:
                steps.append(Step(name, value))
        return steps if chosen else []

    @staticmethod
    def apply(clip: Tensor, steps: list[Step]) -> Tensor:
        """Does it: uint8 (T, H, W, C) to the same shape, all frames alike."""
        for step in steps:
            clip = _OPERATIONS[step.operation](clip, step.value)
        return clip

    @staticmethod
    def describe(steps: list[Step]) -> list[str]:
        """The steps in words, such as `saturation x 1.21`."""
        return [f"hue {value:+.3f} turns" if name == "hue" else f"{name} x {value:.2f}" for name, value in steps]
