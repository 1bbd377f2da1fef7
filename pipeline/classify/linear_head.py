"""`LinearHead`: a linear classifier on the network whose features it was fitted to, for `classify --linear`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.batch import ClipBatch
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.storage.local_files import file_sha256
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import resolve_decoder
from lightning_modules import VideoNetwork
from pipeline.classify.video_input import Preprocessing, with_stream
from pipeline.features.layer_features import FeatureExport, Pooling
from pipeline.inference.trained_checkpoint import TrainedCheckpoint
from pipeline.linear.classifiers import LinearClassifier
from pipeline.linear.feature_classifier import FeatureClassifier


class LinearHead(nn.Module):
    """Linear classifier of layers' features, averaged over views and normalized, used like a `VideoClassifier`.

    Args:
        network: the network that computes the features.
        classifier: the linear classifier, fitted to features of layers of `network`.
        metadata: metadata of the classifier's file: layers with their shapes, pool, normalize, classes.

    Attributes:
        classifier: the linear classifier with the normalization of its features.
        layers: names of the layers whose features it takes.
        pooling: pooling of the layers over time and space.
        class_names: the class names of the classifier.
        task: whether a video has one class or several labels.
        sha256: SHA-256 of the classifier's file, hexadecimal; "" if it is in no file.
        views_at_once: ignored; present because `classify` sets it. Views always go through the network in pieces.
    """

    def __init__(self, network: VideoNetwork, classifier: LinearClassifier, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.classifier = FeatureClassifier.from_metadata(classifier, metadata)
        self.layers: list[str] = list(metadata["layers"])
        self.pooling: Pooling = metadata["pool"]
        self.class_names = self.classifier.class_names
        self.sha256 = ""
        self.views_at_once: int | None = None
        self.task = classifier.task
        self._export = FeatureExport(network, self.layers, "video", 1, self.pooling).eval()

    def video_scores(self, batch: ClipBatch) -> Tensor:
        """Scores of B videos, float32 (B, K), as of `FeatureClassifier.scores_of`."""
        return self.scores_of(self.view_means(batch))

    def view_means(self, batch: ClipBatch) -> Tensor:
        """The layers' features of B videos, side by side, averaged over views: float32 (B, D), on the CPU."""
        return torch.cat(list(self._export.predict_step(batch, 0).features.values()), dim=1)

    def scores_of(self, means: Tensor) -> Tensor:
        """Scores, float32 (B, K), of videos whose `view_means` are `means`, float32 (B, D)."""
        return self.classifier.scores_of(means)


def attach_head(weights: Path, trained: TrainedCheckpoint, decoder: str) -> tuple[LinearHead, Preprocessing]:
    """Loads a classifier that `linear` wrote, puts it on its network, and restores the preprocessing of the export.

    The preprocessing takes only the center crop of a clip.

    Args:
        weights: the path of the classifier's file.
        trained: the checkpoint whose features the classifier was fitted to.
        decoder: auto, pyav, decord or torchcodec.

    Raises:
        FileNotFoundError: there is no such file.
        FlowUnavailableError: the network takes optical flow, and its library does not import, or lacks the method.
        ValueError: the file has no weights that `linear` wrote, or they were fitted to features of another checkpoint.
    """
    classifier, metadata = LinearClassifier.load(weights)
    if metadata["checkpoint_sha256"] != trained.sha256:
        raise ValueError(
            f"linear={str(weights)!r}: was fitted on features of {metadata['checkpoint']} "
            f"({metadata['checkpoint_sha256'][:12]}), not of {trained.path} ({trained.sha256[:12]}); give that "
            "checkpoint"
        )
    head = LinearHead(trained.model, classifier, metadata)
    head.sha256 = file_sha256(weights)
    return head, with_stream(preprocessing_of_features(metadata, decoder), trained)


def preprocessing_of_features(metadata: dict[str, Any], decoder: str) -> Preprocessing:
    """The preprocessing of the export of features, but for its crops: the center crop of each clip.

    Args:
        metadata: metadata of the file of a classifier that `linear` wrote.
        decoder: auto, pyav, decord or torchcodec.
    """
    sampling = metadata["train"]["sampling"]
    shape = ClipShape(*(sampling[name] for name in ("num_frames", "frame_interval", "fps", "short_videos", "segments")))
    whole_video = sampling["num_clips"] is None and sampling["clip_step"] is None
    sampler = ClipSampler(
        shape,
        "whole" if whole_video else "uniform" if sampling["clip_step"] is None else "dense",
        sampling["num_clips"] or 1,
        sampling["clip_step"] or 1,
        sampling["still"],
        sampling.get("max_frames", 512),
    )
    resize = tuple(sampling["resize"]) if isinstance(sampling["resize"], list) else sampling["resize"]
    return Preprocessing(sampler, EvalTransform(sampling["crop_size"], resize), resolve_decoder(decoder), shape)
