"""Frame classifier: a 2D network per frame, and a linear classifier of its features' mean over the frames."""

from typing import Any

from torch import nn

from lightning_modules.layers.recurrent import TemporalPooling
from lightning_modules.networks.frame_sequence import FrameSequenceNetwork
from lightning_modules.tasks.classifier import VideoClassifier


class FrameClassifier(FrameSequenceNetwork, VideoClassifier):
    """A 2D network encodes every frame; the mean of the frames' features is classified, whatever their order.

    The baseline without motion of a `CNNLSTM` with the same encoder, as the single-frame model of LRCN (Donahue et al.
    2015, section 4): a linear classifier of the mean gives the mean of the frames' logits.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; state (N, D), their mean; logits (N, K).

    Args:
        dropout: dropout probability before the classifier.
        **kwargs: arguments of `FrameSequenceNetwork` and `VideoClassifier`.
    """

    feature_layer = "state"

    def __init__(self, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stages.add_module("state", TemporalPooling("mean"))
        self.stages.add_module(
            "logits", nn.Sequential(nn.Dropout(dropout), nn.Linear(self.frame_size, self.num_classes))
        )
