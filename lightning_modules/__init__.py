"""Networks, how they learn, and their weights. No datasets, no ray."""

from lightning_modules.fusion.two_stream import TwoStream
from lightning_modules.networks.c3d import C3D
from lightning_modules.networks.cnn_lstm import CNNLSTM, FrameClassifier
from lightning_modules.networks.inception_i3d import I3D, InceptionV1
from lightning_modules.networks.pretrained_video_network import PretrainedVideoNetwork
from lightning_modules.networks.video2vec import Video2Vec
from lightning_modules.networks.video_captioner import VideoDescriber
from lightning_modules.tasks.classifier import VideoClassifier
from lightning_modules.tasks.video_network import VideoNetwork

__all__ = [
    "C3D",
    "CNNLSTM",
    "I3D",
    "FrameClassifier",
    "InceptionV1",
    "PretrainedVideoNetwork",
    "TwoStream",
    "Video2Vec",
    "VideoClassifier",
    "VideoDescriber",
    "VideoNetwork",
]
