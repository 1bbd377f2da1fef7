"""Options of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.inference.inference_options import InferenceOptions
from pipeline.inference.protocols import ProtocolName

Average = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class EvaluateOptions(InferenceOptions):
    """Options of `evaluate`.

    Attributes:
        checkpoint: files that `fit` wrote, or names that `python -m pipeline weights list` prints. With `--fold all`:
            one a fold, or one path with {fold} in it.
        data: folder of the packed dataset; its classes must be the checkpoint's.
        split: videos to score.
        fold: for datasets with folds; default: the fold the checkpoint was trained in; all: every one.
        protocol: take the views of a paper: lrcn, c3d, i3d or 10x3; options given beside it win.
        average: what is averaged over a video's views: probabilities (the default) or logits.
        views_at_once: views in one forward pass, which bounds memory; default: as many as fit in 32 MB of float clips
            on a processor, in 256 MB on a GPU. Whole videos go one by one.
        out: folder for the results; default: {checkpoint's name}-{split}, beside the checkpoint.
        allow_overlap: score videos that the checkpoint was trained on, or of the same groups, all the same.
        allow_missing: go on where a video cannot be decoded: it is listed and counts as wrong.
        seed: key of the samples that the confidence intervals come from.
    """

    checkpoint: Path | list[Path]
    data: Path
    split: str = "test"
    fold: str | None = None
    protocol: ProtocolName | None = None
    average: Average | None = None
    views_at_once: int | None = None
    out: Path | None = None
    allow_overlap: bool = False
    allow_missing: bool = False
    seed: int = 0

    def check(self) -> None:
        """Refuses a forward pass of nothing."""
        self.require_at_least(1, "views_at_once")
