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
from datamodules.transforms.rand_augment import RandAugment, Step


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
        for place, clip, seed in zip(clips, batch.clips, batch.seeds, strict=True):
            place.copy_(self._augmented(clip, seed))
        return batch._replace(clips=clips)

    def _augmented(self, clip: Tensor, seed: int) -> Tensor:
        for transform, steps in self._drawn(seed):
            clip = transform.apply(clip, steps)
        return clip

    def describe(self, seed: int) -> list[str]:
        """Describes the augmentation of the clip with this seed in words, in order."""
        return [words for transform, steps in self._drawn(seed) for words in transform.describe(steps)]

    def _drawn(self, seed: int) -> list[tuple[RandAugment | ColorJitter, list[Step]]]:
        streams = enumerate((self.rand_augment, self.color_jitter))
        return [(one, one.draw(np.random.default_rng([seed, number]))) for number, one in streams if one is not None]
