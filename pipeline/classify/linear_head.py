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
from pipeline.classify.video_input import Preprocessing
from pipeline.features.layer_features import FeatureExport
from pipeline.inference.trained_checkpoint import TrainedCheckpoint
from pipeline.linear.classifiers import LinearClassifier
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.feature_normalization import FeatureNormalization


class LinearHead(nn.Module):
    """Linear classifier of layers' features, averaged over views and normalized, used like a `VideoClassifier`.

    Args:
        network: the network that computes the features.
        classifier: the linear classifier, fitted to features of layers of `network`.
        metadata: metadata of the classifier's file: layers with their shapes, pool, normalize, classes.

    Attributes:
        class_names: the class names of the classifier.
        task: whether a video has one class or several labels.
        sha256: SHA-256 of the classifier's file, hexadecimal; "" if it is in no file.
        views_at_once: ignored; present because `classify` sets it. Views always go through the network in pieces.
    """

    def __init__(self, network: VideoNetwork, classifier: LinearClassifier, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.class_names: list[str] = metadata["classes"]
        self.sha256 = ""
        self.views_at_once: int | None = None
        self.task = classifier.task
        self._classifier = classifier
        self._normalization = FeatureNormalization.of_features(metadata, metadata["normalize"])
        self._export = FeatureExport(network, list(metadata["layers"]), "video", 1, metadata["pool"]).eval()

    def video_scores(self, batch: ClipBatch) -> Tensor:
        """Scores of B videos: float32 (B, K): probabilities, or the softmax of an SVM's margins, in rows that sum to 1.

        With several labels a video, sigmoids in place of the softmax. Both keep the order of the classes by margin, and
        are no calibrated probabilities.
        """
        return self.scores_of(self.view_means(batch))

    def view_means(self, batch: ClipBatch) -> Tensor:
        """The layers' features of B videos, side by side, averaged over views: float32 (B, D), on the CPU."""
        return torch.cat(list(self._export.predict_step(batch, 0).features.values()), dim=1)

    def scores_of(self, means: Tensor) -> Tensor:
        """Scores, float32 (B, K), of videos whose `view_means` are `means`, float32 (B, D)."""
        features = self._normalization.apply(means.cpu().numpy())
        scores = torch.from_numpy(self._classifier.scores(FeatureRows.from_array(features)))
        return self._classifier.probabilities(scores) if self._classifier.kind == "svm" else scores


def attach_head(weights: Path, trained: TrainedCheckpoint, decoder: str) -> tuple[LinearHead, Preprocessing]:
    """Loads a classifier that `linear` wrote, puts it on its network, and restores the preprocessing of the export.

    The preprocessing takes only the center crop of a clip.

    Args:
        weights: the path of the classifier's file.
        trained: the checkpoint whose features the classifier was fitted to.
        decoder: auto, pyav, decord or torchcodec.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no weights that `linear` wrote, or they were fitted to features of another checkpoint.
    """
    classifier, metadata = LinearClassifier.load(weights)
    if metadata["checkpoint_sha256"] != trained.sha256:
        raise ValueError(
            f"linear={str(weights)!r}: was fitted on features of {metadata['checkpoint']} "
            f"({metadata['checkpoint_sha256'][:12]}), not of {trained.path} ({trained.sha256[:12]}); give that "
            "checkpoint"
        )
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
    preprocessing = Preprocessing(
        sampler, EvalTransform(sampling["crop_size"], resize), resolve_decoder(decoder), shape
    )
    head = LinearHead(trained.model, classifier, metadata)
    head.sha256 = file_sha256(weights)
    return head, preprocessing
