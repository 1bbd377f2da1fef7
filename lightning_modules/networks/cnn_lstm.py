"""CNN+LSTM: a 2D network per frame, followed by a recurrent network; and without one, its baseline of single frames.

After LRCN: Donahue, Hendricks, Rohrbach, Venugopalan, Guadarrama, Saenko, Darrell: "Long-term Recurrent Convolutional
Networks for Visual Recognition and Description", CVPR 2015, section 4.
"""

from typing import Any

from torch import nn

from lightning_modules.layers.recurrent import Cell, Readout, Recurrence, TemporalPooling
from lightning_modules.networks.frame_sequence import FrameSequenceNetwork
from lightning_modules.tasks.classifier import VideoClassifier


class CNNLSTM(FrameSequenceNetwork, VideoClassifier):
    """A 2D network encodes every frame; a recurrent network reads the features in order.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; standardized (N, T, D), with `standardize`;
    hidden (N, T, H), the recurrent state after every frame; state (N, H), the clip's vector; logits (N, K). With
    `readout: every`, state is (N, T, H) and logits are (N, T, K): a label for each frame, of what the network has read
    until then, or if bidirectional of the whole clip. It learns from labels by time (`pack --timelines`), or gives
    every frame the label of its video, as LRCN does.

    Args:
        hidden_size: size of the recurrent state; LRCN uses 256 for RGB (section 4).
        cell: `rnn`, `lstm` or `gru`.
        num_layers: number of stacked recurrent layers.
        bidirectional: read the clip backward too.
        readout: `last` state (many-to-one); `mean` over frames (many-to-many: LRCN's average of the predictions); or
            `every`, a label for each frame.
        dropout: dropout probability before the classifier; LRCN uses 0.9 after the LSTM.
        longest_dependency: initial biases of the gates for states that last up to this many frames, such as the clip's
            (see `Recurrence`); default: torch's, which forget half of a state within one or two frames.
        **kwargs: arguments of `FrameSequenceNetwork` and `VideoClassifier`.
    """

    feature_layer = "state"

    def __init__(
        self,
        hidden_size: int = 256,
        cell: Cell = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        readout: Readout = "mean",
        dropout: float = 0.5,
        longest_dependency: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        recurrence = Recurrence(
            self.frame_size, hidden_size, cell, num_layers, bidirectional, longest_dependency=longest_dependency
        )
        self.stages.add_module("hidden", recurrence)
        self.stages.add_module("state", TemporalPooling(readout, bidirectional))
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(recurrence.output_size, self.num_classes))
        self.stages.add_module("logits", head)
        if readout == "every":
            self.label_frames(is_causal=not bidirectional)


class FrameClassifier(FrameSequenceNetwork, VideoClassifier):
    """A 2D network encodes every frame; the mean of the frames' features is classified, whatever their order.

    The baseline without motion of a `CNNLSTM` with the same encoder, as the single-frame model of LRCN (Donahue et al.
    2015, section 4): a linear classifier of the mean gives the mean of the frames' logits.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; standardized (N, T, D), with `standardize`;
    state (N, D), their mean; logits (N, K).

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
