"""`FeatureNormalization`: scaling of the features of videos before a linear classifier, in blocks."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.linear.classifiers import normalize_l2

Normalization = Literal["l2", "signed_sqrt"]


class FeatureNormalization(NamedTuple):
    """L2 normalization of each block of features, so that layers of different scale count alike.

    A block is a layer, or one of its two poolings after `--pool mean_max`. The blocks are divided by the square root of
    their number too, so the whole row has length 1.

    Attributes:
        block_sizes: sizes of the blocks; their sum is D.
        kind: `l2`, or `signed_sqrt`: sign(x) sqrt(|x|) before it, which evens out features of a few high values
            (power normalization with an exponent of 0.5; Perronnin, Sanchez, Mensink, ECCV 2010, section 3.2).
    """

    block_sizes: tuple[int, ...]
    kind: Normalization = "l2"

    @classmethod
    def of_features(cls, provenance: Mapping[str, Any], kind: Normalization = "l2") -> Self:
        """The normalization of features of the layers in `provenance`, by name with their shapes, pooled as it says."""
        blocks_per_layer = 2 if provenance.get("pool") == "mean_max" else 1
        sizes = [int(np.prod(shape)) // blocks_per_layer for shape in provenance["layers"].values()]
        return cls(tuple(size for size in sizes for _ in range(blocks_per_layer)), kind)

    def apply(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Normalizes rows (M, D): float32 (M, D); blocks of zeros stay zero."""
        if self.kind == "signed_sqrt":
            features = np.sign(features) * np.sqrt(np.abs(features))
        if len(self.block_sizes) == 1:
            return normalize_l2(features)
        blocks = np.split(features, np.cumsum(self.block_sizes)[:-1], axis=1)
        normalized: NDArray[np.float32] = np.concatenate([normalize_l2(block) for block in blocks], axis=1)
        normalized /= np.float32(len(blocks) ** 0.5)
        return normalized
