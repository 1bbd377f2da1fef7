"""Metrics of generated captions: cross entropy per word, BLEU-4, exact match."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.text import BLEUScore

from lightning_modules.captions.vocabulary import Units, normalize_caption


class CaptionMetrics(nn.ModuleDict):
    """The metrics of one split: `loss`, `bleu4`, `exact_match`."""

    def __init__(self) -> None:
        super().__init__({"loss": MeanMetric(), "bleu4": BLEUScore(n_gram=4), "exact_match": MeanMetric()})

    def update_captions(
        self, captions: Sequence[str], references: Sequence[Sequence[str]], units: Units, losses: Tensor
    ) -> None:
        """Adds videos.

        Args:
            captions: the generated caption of each video.
            references: the captions that each video has.
            units: the units of the vocabulary, in which captions are compared.
            losses: cross entropy of every word of the references, float (words,).
        """
        metrics: Any = self
        plain = [[normalize_caption(caption, units) for caption in of_video] for of_video in references]
        metrics["loss"].update(losses)
        metrics["bleu4"].update(captions, plain)
        is_exact = [float(caption in of_video) for caption, of_video in zip(captions, plain, strict=True)]
        metrics["exact_match"].update(torch.tensor(is_exact))
