"""Augmentation of training clips on the device: RandAugment and color jitter.

Every random choice follows from the clip's seed, which is derived from (seed, epoch, sample, view): it does not depend
on workers, ranks or the batch, a resumed run repeats it, and it can be described afterwards in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from datamodules.transforms.batched_steps import AugmentationStep
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.rand_augment import RandAugment

_ClipSteps = list[tuple[RandAugment | ColorJitter, list[AugmentationStep]]]  # of one clip, by transform
_VALUES_AT_ONCE = 2**28  # values of clips that are augmented together on a GPU; operations take some 8 bytes a value


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
        steps = [self._draw_steps(seed) for seed in batch.seeds]
        num_clips = self._clips_at_once(clips)
        for first in range(0, len(clips), num_clips):
            place = slice(first, first + num_clips)
            clips[place] = self._augment(batch.clips[place], steps[place])
        return batch._replace(clips=clips)

    @staticmethod
    def _clips_at_once(clips: Tensor) -> int:
        """On a GPU as many as its memory takes several times over; on a CPU one, which stays in its cache."""
        return max(1, _VALUES_AT_ONCE * len(clips) // max(1, clips.numel())) if clips.is_cuda else 1

    @staticmethod
    def _augment(clips: Tensor, steps: Sequence[_ClipSteps]) -> Tensor:
        for of_transform in zip(*steps, strict=True):
            transform = of_transform[0][0]
            clips = transform.apply(clips, [own for _, own in of_transform])
        return clips

    def describe(self, seed: int) -> list[str]:
        """Describes the augmentation of the clip with this seed in words, in order."""
        return [description for transform, steps in self._draw_steps(seed) for description in transform.describe(steps)]

    def _draw_steps(self, seed: int) -> _ClipSteps:
        streams = enumerate((self.rand_augment, self.color_jitter))
        return [
            (transform, transform.draw(np.random.default_rng([seed, number])))
            for number, transform in streams
            if transform is not None
        ]
