"""Networks and how they learn."""

from lightning_modules.c3d import C3D
from lightning_modules.classifier import VideoClassifier
from lightning_modules.cnn_lstm import CNNLSTM
from lightning_modules.description import VideoDescriber
from lightning_modules.inception import I3D, InceptionV1
from lightning_modules.network import VideoNetwork
from lightning_modules.video2vec import Video2Vec

__all__ = ["C3D", "CNNLSTM", "I3D", "InceptionV1", "Video2Vec", "VideoClassifier", "VideoDescriber", "VideoNetwork"]
