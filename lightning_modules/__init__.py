"""Networks and how they learn."""

from lightning_modules.c3d import C3D
from lightning_modules.classifier import VideoClassifier
from lightning_modules.cnn_lstm import CNNLSTM
from lightning_modules.inception import I3D, InceptionV1

__all__ = ["C3D", "CNNLSTM", "I3D", "InceptionV1", "VideoClassifier"]
