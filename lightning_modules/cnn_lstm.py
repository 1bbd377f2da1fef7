"""CNN+LSTM: a 2D network a frame, then recurrence.

After LRCN: Donahue, Hendricks, Rohrbach, Venugopalan, Guadarrama, Saenko, Darrell: "Long-term Recurrent Convolutional
Networks for Visual Recognition and Description", CVPR 2015, section 4.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pytorch_lightning.trainer.states import TrainerFn
from torch import nn

from lightning_modules.classifier import VideoClassifier
from lightning_modules.frame_encoders import InceptionEncoder, PerFrame, make_encoder
from lightning_modules.inception_layers import Padding
from lightning_modules.recurrent import Cell, Readout, Recurrence


class CNNLSTM(VideoClassifier):
    """A 2D network reads every frame; a recurrent network reads its features in order.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; hidden (N, T, H), the recurrent state after
    every frame; state (N, H), the clip's vector; logits (N, K).

    Args:
        encoder: the 2D network: `small`, trained from scratch (D is 16 times its last channels); `inception_v1` (D is
            1024); `timm:NAME` or `torchvision:NAME` where those are installed.
        encoder_weights: what an `inception_v1` starts from: a name that `python -m pipeline weights list` prints, or a
            checkpoint, of Inception-v1 or of I3D, whose filters are summed over time. Not looked at when a run resumes.
        freeze_encoder: leave the 2D network as it is, also its batch norms' statistics.
        channels: filters of the blocks of `small`, each of half the height and width of the one before.
        padding: of `inception_v1`, as its weights want: torchvision's want `symmetric`, all others `same`.
        bn_scale: of `inception_v1`: torchvision's weights want true.
        hidden_size: of the recurrent layers. LRCN takes 256 for RGB (section 4).
        cell: `rnn`, `lstm` or `gru`.
        num_layers: stacked recurrent layers.
        bidirectional: also read the clip backward.
        readout: `last` state (many-to-one) or `mean` over frames (many-to-many: LRCN's average of the predictions).
        dropout: before the classifier. LRCN takes 0.9 after the LSTM.
        frames_at_once: frames that the 2D network takes in one pass, which bounds memory; default: all.
        **kwargs: of `VideoClassifier`.
    """

    feature_layer = "state"

    def __init__(
        self,
        encoder: str = "small",
        encoder_weights: str | None = None,
        freeze_encoder: bool = False,
        channels: Sequence[int] = (32, 64, 128, 256),
        padding: Padding = "same",
        bn_scale: bool = False,
        hidden_size: int = 256,
        cell: Cell = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        readout: Literal["last", "mean"] = "mean",
        dropout: float = 0.5,
        frames_at_once: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if encoder_weights is not None and encoder != "inception_v1":
            raise ValueError(f"encoder_weights={encoder_weights!r}: only inception_v1 takes them, not {encoder!r}")
        network = make_encoder(encoder, channels, padding, bn_scale)
        recurrence = Recurrence(network.output_size, hidden_size, cell, num_layers, bidirectional)
        self.stages = nn.Sequential()
        self.stages.add_module("frames", PerFrame(network, frames_at_once, freeze_encoder))
        self.stages.add_module("hidden", recurrence)
        self.stages.add_module("state", Readout(readout, bidirectional))
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(recurrence.output_size, self.num_classes))
        self.stages.add_module("logits", head)

    def setup(self, stage: str) -> None:
        """Takes the weights that the 2D network is to start from; a run that resumes has its own."""
        super().setup(stage)
        wanted = self.hparams["encoder_weights"]
        if stage == TrainerFn.FITTING and wanted is not None and self.trainer.ckpt_path is None:
            self.load_encoder(wanted)

    def load_encoder(self, name_or_path: str | Path) -> None:
        """Gives the 2D network the weights of an Inception-v1, or of an I3D summed over time; its classifier is left.

        Raises:
            FileNotFoundError: no such file.
            OSError: a published file cannot be got.
            ValueError: weights of another network, or for another padding or batch norm; keys that do not match.
        """
        from lightning_modules.pretrained import encoder_state, read_weights  # they know the networks

        encoder = cast(InceptionEncoder, cast(PerFrame, self.stages.frames).network)
        encoder.stages.load_state_dict(encoder_state(read_weights(name_or_path), self), strict=True)
