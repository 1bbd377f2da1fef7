"""MixUp and CutMix: training on pairs of clips that are blended or patched together, with the labels of both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.tasks.label_task import one_hot


class MixUpCutMix(NamedTuple):
    """The mixing of the clips of one batch.

    Attributes:
        partners: int64 (N,), a permutation: clip n is mixed with clip `partners[n]`.
        share: weight of clip n in the mixed clip, in [0, 1]; its partner has the rest.
        box: (top, bottom, left, right) of the partner's patch for CutMix; None blends the whole picture (MixUp).
    """

    partners: Tensor
    share: float
    box: tuple[int, int, int, int] | None = None

    def clips(self, x: Tensor) -> Tensor:
        """The mixed clips, all frames mixed equally: float (N, C, T, H, W) to the same."""
        others = x[self.partners]
        if self.box is None:
            return x.mul(self.share).add_(others, alpha=1 - self.share)
        top, bottom, left, right = self.box
        patched = x.clone()
        patched[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return patched

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """The target weight of each class for each mixed clip: int64 (N,), or 0 and 1 (N, K), to float32 (N, K)."""
        own = one_hot(labels, num_classes) if labels.ndim == 1 else labels.float()
        return self.share * own + (1 - self.share) * own[self.partners]

    def dominant(self, labels: Tensor) -> Tensor:
        """The labels with the larger share in each mixed clip: (N,) to (N,), or (N, K) to (N, K)."""
        return labels if self.share >= 0.5 else labels[self.partners]


def draw_mix(
    key: Sequence[int],
    num_clips: int,
    size: tuple[int, int],
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: float,
) -> MixUpCutMix | None:
    """Draws the mixing of a batch; None leaves the batch unmixed.

    MixUp (Zhang et al. 2018, section 2): the share is drawn from Beta(alpha, alpha), once per batch. CutMix (Yun et
    al. 2019, section 3.1): a box with sides sqrt(1 - share) times the picture's, centered at a random place and clipped
    to the picture; the share is then recomputed from the clipped area. With both, each batch takes one of them with
    probability 1/2.

    Args:
        key: integers that seed the draw.
        num_clips: N; batches of fewer than 2 clips are not mixed.
        size: height and width of the clips.
        mixup_alpha: alpha of MixUp; 0 disables it.
        cutmix_alpha: alpha of CutMix; 0 disables it.
        probability: fraction of the batches that are mixed.
    """
    if num_clips < 2 or mixup_alpha == cutmix_alpha == 0:
        return None
    generator = np.random.default_rng([number % 2**63 for number in key])
    is_mixed, uses_cutmix = generator.random() < probability, generator.random() < 0.5
    if not is_mixed:
        return None
    partners = torch.from_numpy(generator.permutation(num_clips))
    if cutmix_alpha == 0 or (mixup_alpha > 0 and not uses_cutmix):
        return MixUpCutMix(partners, float(generator.beta(mixup_alpha, mixup_alpha)))
    share = float(generator.beta(cutmix_alpha, cutmix_alpha))
    top, bottom = _clipped_side(size[0], share, generator)
    left, right = _clipped_side(size[1], share, generator)
    return MixUpCutMix(partners, 1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))


def _clipped_side(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    side = int(length * np.sqrt(1 - share))
    begin = int(generator.integers(length)) - side // 2
    return max(0, begin), min(length, begin + side)
