"""Class-balanced epochs: how often an epoch draws the videos of each class, and which of them, as arithmetic.

The videos of a split are divided into strata: those of a class, or, where a video has several classes, those whose
rarest class it is. A stratum has a share of the epoch's N draws, a fractional number; the rounded numbers of an epoch
add up to N. Within a stratum, videos are drawn in passes, each in the order of another keyed permutation, and a pass
that an epoch leaves off is continued by the next one. All of it follows from (strata, seed, epoch), so that any
position of any epoch is looked up without what came before it, in time and memory of the requested positions and the
number of strata.

Example, checked by hand: 8 videos, 6 of class 0 and 2 of class 1, `balanced`: an epoch draws 4 of each, so class 0 is
passed through in 1 1/2 epochs, and class 1 twice in each.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.sampling.keyed_permutation import Integers, KeyedPermutation, permute_each

ClassBalance = Literal["none", "sqrt", "balanced"]

_PERIOD = 256  # epochs after which a stratum has been drawn exactly as often as its share says; a power of two
_STRIDE = 159  # odd, near _PERIOD times the golden ratio: the fractions that are rounded up spread over the epochs


class Draws(NamedTuple):
    """Draws of an epoch: sample numbers, int64 (B,), and the pass of each over its stratum in this epoch, int64 (B,).

    The passes of an epoch are counted from 0. A video comes at most once in a pass, and a pass of its own makes the
    augmentation of a video that comes again another one.
    """

    samples: Integers
    passes: Integers


@dataclass(frozen=True, eq=False)
class Strata:
    """The videos of a split by stratum, and the share of each stratum in an epoch.

    Attributes:
        classes: int64 (G,), the class of each stratum, ascending; -1 for videos without a class.
        sizes: int64 (G,), number of videos of each stratum, at least 1.
        shares: float64 (G,), draws of each stratum in an epoch, on average; they add up to the number of videos, N.
        samples: int64 (N,), the sample numbers, stratum after stratum.
    """

    classes: Integers
    sizes: Integers
    shares: NDArray[np.float64]
    samples: Integers

    def draws_per_video(self) -> NDArray[np.float64]:
        """How often an epoch draws each video on average: float64 (N,), by sample number."""
        draws = np.empty(len(self.samples))
        draws[self.samples] = np.repeat(self.shares / self.sizes, self.sizes)
        return draws


def make_strata(class_balance: ClassBalance, labels: Integers, counts: Integers, num_classes: int) -> Strata:
    """Divides the videos of a split into strata, for videos with any number of classes.

    A class c of n_c videos has the repeat factor n / n_c with `balanced`, and its square root with `sqrt`, where n is
    the number of videos of the most frequent class. A video is drawn in proportion to the factor of its rarest class,
    or 1 without a class: the repeat factor sampling of Gupta et al. 2019 ("LVIS", appendix B.2), which has the square
    root, with its threshold at the frequency of the most frequent class. Where all videos have one class, `balanced`
    gives all classes equal shares, and `sqrt` shares in proportion to the square root of n_c.

    Args:
        class_balance: `balanced` or `sqrt`.
        labels: int64 (L,), the class indices of all videos, one after another, in [0, num_classes).
        counts: int64 (N,), number of classes of each video; they add up to L.
        num_classes: K.
    """
    class_sizes = np.bincount(labels, minlength=num_classes)
    factors = class_sizes.max(initial=1) / np.maximum(class_sizes, 1)
    if class_balance == "sqrt":
        factors = np.sqrt(factors)
    rarest = _rarest_class(labels, counts, class_sizes)
    classes, sizes = np.unique(rarest, return_counts=True)
    weights = sizes * np.where(classes >= 0, factors[classes], 1.0)
    shares = weights * (len(counts) / weights.sum())
    return Strata(classes, sizes, shares, np.argsort(rarest, kind="stable"))


def _rarest_class(labels: Integers, counts: Integers, class_sizes: Integers) -> Integers:
    """The class of each video that has the fewest videos, the first of several; -1 without a class: int64 (N,)."""
    rank = np.argsort(np.argsort(class_sizes, kind="stable"))  # 0 for the rarest class
    by_rank = np.argsort(rank)
    rarest = np.full(len(counts), -1, dtype=np.int64)
    labelled = np.flatnonzero(counts)
    if len(labelled):
        starts = (np.cumsum(counts) - counts)[labelled]
        rarest[labelled] = by_rank[np.minimum.reduceat(rank[labels], starts)]
    return rarest


class BalancedEpoch:
    """The order of a class-balanced epoch of N draws, computed for any position.

    The bounds of the strata, sums of shares, are rounded up or down together: an epoch draws a stratum as often as its
    share rounded up or down, and 256 epochs exactly as often as 256 shares (to 1/256 of a video an epoch). How often a
    stratum was drawn before an epoch is thereby known without the epochs before it.

    Args:
        strata: the videos by stratum.
        seed: key of the order.
        epoch: number of the epoch, from 0.
    """

    def __init__(self, strata: Strata, seed: int, epoch: int) -> None:
        self._strata = strata
        self._seed = seed
        self._first = np.cumsum(strata.sizes) - strata.sizes  # place of each stratum's first video in strata.samples
        size = len(strata.samples)
        self._slots = KeyedPermutation(size, seed, epoch)
        bounds = np.round(np.concatenate([[0.0], np.cumsum(strata.shares)]) * _PERIOD).astype(np.int64)
        bounds[-1] = size * _PERIOD
        # The floors of (x + p) / P over p = 0 .. P - 1 add up to x (Hermite's identity).
        drawn = epoch // _PERIOD * np.diff(bounds)
        for earlier in range(epoch - epoch % _PERIOD, epoch):
            drawn = drawn + np.diff(_rounded(bounds, earlier))
        self._drawn = drawn  # draws of each stratum in the epochs before
        self._starts = _rounded(bounds, epoch)  # slot at which each stratum starts, and N
        self.draws_per_stratum = np.diff(self._starts)

    def __call__(self, positions: Integers) -> Draws:
        """The draws at the given positions of the epoch, int64 (B,) in [0, N)."""
        slots, sizes = self._slots(positions), self._strata.sizes
        stratum = np.searchsorted(self._starts, slots, side="right") - 1
        number = self._drawn[stratum] + slots - self._starts[stratum]
        passes, place = np.divmod(number, sizes[stratum])
        member = permute_each(place, sizes[stratum], self._seed, self._strata.classes[stratum], passes)
        samples = self._strata.samples[self._first[stratum] + member]
        return Draws(samples.astype(np.int64), passes - self._drawn[stratum] // sizes[stratum])


def _rounded(bounds: Integers, epoch: int) -> Integers:
    return (bounds + epoch * _STRIDE % _PERIOD) // _PERIOD
