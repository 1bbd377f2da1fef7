"""`NetworkOptions`: the network that classifies videos: a checkpoint, published weights or an exported model."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from lightning_modules import VideoClassifier, VideoNetwork
from lightning_modules.weights.download import find_published
from pipeline.classify.linear_head import LinearHead, attach_head, preprocessing_of_features
from pipeline.classify.video_input import Preprocessing, preprocessing_of
from pipeline.exported_models.exported_classifier import ExportedClassifier
from pipeline.exported_models.open_model import open_model
from pipeline.inference.inference_options import CheckpointOptions
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, open_checkpoint


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(CheckpointOptions):
    """Network.

    Attributes:
        checkpoint: file that `fit` wrote, folder that `publish` wrote, or hf://ORG/NAME[@REVISION].
        weights: instead of a checkpoint: a name of `python -m pipeline weights list`.
        model: instead of a checkpoint: folder that `export` wrote, whose program computes in the place of the network.
        linear: weights.safetensors of `linear`, fitted on features of this checkpoint, to use instead of the
            network's own classifier: clips are those of the export, regardless of `num_clips`; the probabilities of an
            SVM are the softmax of its margins, or with several labels a video their sigmoids.
    """

    checkpoint: Path | None = None
    weights: str | None = None
    model: Path | None = None
    linear: Path | None = None


class OpenedNetwork(NamedTuple):
    """What was opened, its network or the linear classifier on it, and the preprocessing of videos for it."""

    trained: TrainedCheckpoint
    model: VideoClassifier | LinearHead
    preprocessing: Preprocessing


def open_network(options: NetworkOptions, num_clips: int, decoder: str) -> OpenedNetwork:
    """Opens what classifies videos.

    Args:
        options: the choice.
        num_clips: clips a video, for networks that take clips of one length.
        decoder: auto, pyav, decord or torchcodec.

    Raises:
        FileNotFoundError: it does not exist.
        ImportError: a model in ONNX, and onnxruntime is not installed.
        ValueError: not just one of a checkpoint, weights and a model, or it cannot be opened; or a linear classifier of
            another network.
    """
    _refuse_several(options)
    if options.model is not None:
        trained = open_model(options.model, options.allow)
        exported = cast(ExportedClassifier, trained.model)
        if exported.head is not None:
            return OpenedNetwork(trained, exported, preprocessing_of_features(exported.head.metadata, decoder))
        return OpenedNetwork(trained, exported, preprocessing_of(trained, num_clips, decoder))
    kind = VideoClassifier if options.linear is None else VideoNetwork
    path = options.checkpoint or Path(find_published(str(options.weights)).name)
    trained = open_checkpoint(path, options.allow, kind)
    if options.linear is not None:
        return OpenedNetwork(trained, *attach_head(options.linear, trained, decoder))
    whole_video = options.weights is not None and trained.clips.get("fps") is not None
    preprocessing = preprocessing_of(trained, num_clips, decoder, whole_video)
    return OpenedNetwork(trained, cast(VideoClassifier, trained.model), preprocessing)


def _refuse_several(options: NetworkOptions) -> None:
    if [options.checkpoint, options.weights, options.model].count(None) != 2:
        raise ValueError(
            "give either --checkpoint, a file, or --weights, a name of `python -m pipeline weights list`, or --model, "
            "a folder that `python -m pipeline export` wrote"
        )
    if options.weights is not None and Path(options.weights).exists():
        raise ValueError(
            f"weights={options.weights}: is a file, not a published name; give it as --checkpoint {options.weights}"
        )
    if options.model is not None and options.linear is not None:
        raise ValueError(f"linear={options.linear}: a model has its classifier; give --linear to `export` instead")
