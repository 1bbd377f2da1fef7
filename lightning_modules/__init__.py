"""Networks and how they learn."""

from lightning_modules.c3d import C3D
from lightning_modules.classifier import VideoClassifier
from lightning_modules.cnn_lstm import CNNLSTM

__all__ = ["C3D", "CNNLSTM", "VideoClassifier"]
