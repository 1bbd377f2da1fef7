"""Options of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.inference.inference_options import InferenceOptions, SplitFileOptions
from pipeline.inference.protocols import ProtocolName
from pipeline.localization.timeline_options import TimelineOptions

Average = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class EvaluateOptions(InferenceOptions, SplitFileOptions, TimelineOptions):
    """Options of `evaluate`.

    Attributes:
        checkpoint: files that `fit` wrote, folders that `publish` wrote or hf://ORG/NAME[@REVISION], or names of
            `python -m pipeline weights list`. With `--fold all`: one per fold, or one path with {fold} in it.
        data: folder of the packed dataset, required; its classes must be the checkpoint's.
        split: videos to score.
        model: instead of checkpoints: folders that `export` wrote, whose programs compute in the place of networks.
        fold: fold of datasets with folds; default: the fold the checkpoint was trained in; all: every fold.
        protocol: use the views of a paper: lrcn, c3d, i3d or 10x3; options given explicitly take precedence.
        average: what is averaged over a video's views: probabilities (the default) or logits.
        views_at_once: views in one forward pass, which bounds memory; default: as many as fit in 32 MB of float clips
            on a CPU, in 256 MB on a GPU. Whole videos are processed one by one.
        out: folder for the results; default: {checkpoint's name}-{split}, beside the checkpoint.
        allow_overlap: score the split even if the checkpoint was trained on videos or groups in it.
        allow_missing: continue if a video cannot be decoded: it is listed and counts as wrong.
        seed: seed of the bootstrap samples of the confidence intervals.
    """

    checkpoint: Path | list[Path] | None = None
    data: Path | None = None
    split: str = "test"
    model: Path | list[Path] | None = None
    fold: str | None = None
    protocol: ProtocolName | None = None
    average: Average | None = None
    views_at_once: int | None = None
    out: Path | None = None
    allow_overlap: bool = False
    allow_missing: bool = False
    seed: int = 0

    def check(self) -> None:
        """Raises ValueError if views_at_once is less than 1, data is missing, or not one of checkpoint and model."""
        self.require_at_least(1, "views_at_once")
        if self.data is None and not self.timeline:
            raise ValueError("data: give the folder of a packed dataset, --data FOLDER")
        if self.timeline:
            self._refuse_options_of_clips()
        if (self.checkpoint is None) == (self.model is None):
            raise ValueError("give either --checkpoint, a file, or --model, a folder that `export` wrote")

    def _refuse_options_of_clips(self) -> None:
        for name in ("data", "fold", "protocol", "num_clips", "clip_step", "whole", "average", "split_file"):
            if getattr(self, name) not in (None, False):
                raise ValueError(f"{name}={getattr(self, name)}: with --timeline a clip is taken around each second")
        if self.devices != 1 or self.precision != "32-true":
            raise ValueError("devices, precision: --timeline runs in one process in float32; leave them out")

    @property
    def networks(self) -> list[Path]:
        """The checkpoints or models."""
        given = self.model if self.checkpoint is None else self.checkpoint
        assert given is not None
        return [given] if isinstance(given, Path) else list(given)

    @property
    def dataset(self) -> Path:
        """The folder of the packed dataset."""
        assert self.data is not None
        return self.data
