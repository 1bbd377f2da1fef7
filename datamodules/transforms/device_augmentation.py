"""Augmentation of training clips on the device: RandAugment and color jitter.

Every random choice follows from the clip's seed, which is derived from (seed, epoch, sample, view): it does not depend
on workers, ranks or the batch, a resumed run repeats it, and it can be described afterwards in words.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.rand_augment import AugmentationStep, RandAugment


@dataclass(frozen=True)
class Augmentation:
    """Applies RandAugment, then color jitter, each with its own random stream; None skips one."""

    rand_augment: RandAugment | None = None
    color_jitter: ColorJitter | None = None

    def __call__(self, batch: ClipBatch) -> ClipBatch:
        """The batch with augmented clips; a batch without seeds (evaluation) is returned unchanged."""
        if not batch.seeds or (self.rand_augment is None and self.color_jitter is None):
            return batch
        clips = torch.empty_like(batch.clips)
        for output, clip, seed in zip(clips, batch.clips, batch.seeds, strict=True):
            output.copy_(self._augment(clip, seed))
        return batch._replace(clips=clips)

    def _augment(self, clip: Tensor, seed: int) -> Tensor:
        for transform, steps in self._draw_steps(seed):
            clip = transform.apply(clip, steps)
        return clip

    def describe(self, seed: int) -> list[str]:
        """Describes the augmentation of the clip with this seed in words, in order."""
        return [description for transform, steps in self._draw_steps(seed) for description in transform.describe(steps)]

    def _draw_steps(self, seed: int) -> list[tuple[RandAugment | ColorJitter, list[AugmentationStep]]]:
        streams = enumerate((self.rand_augment, self.color_jitter))
        return [
            (transform, transform.draw(np.random.default_rng([seed, number])))
            for number, transform in streams
            if transform is not None
        ]
