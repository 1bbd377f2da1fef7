"""A linear classifier on top of the network whose features it was fitted on: what `classify --linear` scores with."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.batch import ClipBatch
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import resolve_decoder
from lightning_modules import VideoNetwork
from pipeline.classify.video_input import Preprocessing
from pipeline.features.layer_features import FeatureExport
from pipeline.inference.trained_checkpoint import TrainedCheckpoint
from pipeline.linear.classifiers import LinearClassifier, normalize_l2
from pipeline.linear.feature_blocks import FeatureRows


class LinearHead(nn.Module):
    """Scores videos as a `VideoClassifier` does: by a layer's features, averaged over views and L2-normalized.

    Args:
        network: the network.
        classifier: fitted on features of its layer.
        about: what the file of its weights says: layer, pool, classes.

    Attributes:
        class_names: those of the classifier.
        views_at_once: taken, for the sake of `classify`; views go through the network in pieces anyhow.
    """

    def __init__(self, network: VideoNetwork, classifier: LinearClassifier, about: dict[str, Any]) -> None:
        super().__init__()
        self.class_names: list[str] = about["classes"]
        self.views_at_once: int | None = None
        self._classifier = classifier
        self._layer = about["layer"]
        self._export = FeatureExport(network, [self._layer], "video", 1, about["pool"]).eval()

    def video_scores(self, batch: ClipBatch) -> Tensor:
        """Of B videos, float32 (B, K), rows sum to 1: probabilities; of an SVM its margins after a softmax.

        The softmax leaves the order of the classes as the margins have it; it is no calibrated probability.
        """
        return self.scores_of(self.view_means(batch))

    def view_means(self, batch: ClipBatch) -> Tensor:
        """The layer's features of B videos, averaged over their views: float32 (B, D), on the CPU."""
        return self._export.predict_step(batch, 0).features[self._layer]

    def scores_of(self, means: Tensor) -> Tensor:
        """Probabilities, float32 (B, K), of videos with such `view_means`."""
        features = normalize_l2(means.cpu().numpy())
        scores = torch.from_numpy(self._classifier.scores(FeatureRows.of(features)))
        return scores.softmax(1) if self._classifier.kind == "svm" else scores


def attach_head(weights: Path, trained: TrainedCheckpoint, decoder: str) -> tuple[LinearHead, Preprocessing]:
    """The classifier of a file that `linear` wrote, on its network, and how it is to see videos: as they were exported.

    Of the crops of a clip, it sees the center one.

    Args:
        weights: the file.
        trained: the checkpoint that the features came from.
        decoder: auto, pyav, decord or torchcodec.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not weights that `linear` wrote, or fitted on features of another checkpoint.
    """
    classifier, about = LinearClassifier.load(weights)
    if about["checkpoint_sha256"] != trained.sha256:
        raise ValueError(
            f"linear={str(weights)!r}: was fitted on features of {about['checkpoint']} "
            f"({about['checkpoint_sha256'][:12]}), not of {trained.path} ({trained.sha256[:12]}); give that checkpoint"
        )
    taken = about["train"]["sampling"]
    shape = ClipShape(*(taken[name] for name in ("num_frames", "frame_interval", "fps", "short_videos", "segments")))
    whole = taken["num_clips"] is None and taken["clip_step"] is None
    sampler = ClipSampler(
        shape,
        "whole" if whole else "uniform" if taken["clip_step"] is None else "dense",
        taken["num_clips"] or 1,
        taken["clip_step"] or 1,
        taken["still"],
        taken.get("max_frames", 512),
    )
    resize = tuple(taken["resize"]) if isinstance(taken["resize"], list) else taken["resize"]
    looking = Preprocessing(sampler, EvalTransform(taken["crop_size"], resize), resolve_decoder(decoder), shape)
    return LinearHead(trained.model, classifier, about), looking
