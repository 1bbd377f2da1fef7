"""`FrameSequenceNetwork`: networks that see a video as a sequence of frame features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from lightning_modules.layers.inception_layers import Padding
from lightning_modules.networks.frame_encoders import InceptionEncoder, PerFrame, make_encoder
from lightning_modules.tasks.video_network import VideoNetwork

RANDOM_WEIGHTS = "none"  # what `encoder_weights` says of them
FOREIGN_ENCODERS = ("timm:", "torchvision:")


class FrameSequenceNetwork(VideoNetwork):
    """A 2D network reads every frame; what the subclass adds to `self.stages` reads its features in order.

    Endpoint: frames (N, T, D), the 2D network's features of every frame.

    Args:
        encoder: the 2D network: `small`, trained from scratch (D is 16 times its last channels); `pixels:SIDE`, no
            network but the frame, gray and small (D is SIDE^2); `inception_v1` (D is 1024); `timm:NAME` or
            `torchvision:NAME` where those are installed, with random weights alone, so only with
            `encoder_weights: none`.
        encoder_weights: what an `inception_v1` starts from: a name that `python -m pipeline weights list` prints, or a
            checkpoint, of Inception-v1 or of I3D, whose filters are summed over time. Not looked at when a run resumes.
            `none`: the encoder starts from random weights; so it does where nothing is said, but for networks of timm
            and torchvision, where it has to be said.
        freeze_encoder: leave the 2D network as it is, also its batch norms' statistics.
        channels: filters of the blocks of `small`, each of half the height and width of the one before.
        padding: of `inception_v1`, as its weights want: torchvision's want `symmetric`, all others `same`.
        bn_scale: of `inception_v1`: torchvision's weights want true.
        frames_at_once: frames that the 2D network takes in one pass, which bounds memory; default: all.
        **kwargs: of `VideoNetwork`.

    Attributes:
        frame_size: D.
    """

    def __init__(
        self,
        encoder: str = "small",
        encoder_weights: str | None = None,
        freeze_encoder: bool = False,
        channels: Sequence[int] = (32, 64, 128, 256),
        padding: Padding = "same",
        bn_scale: bool = False,
        frames_at_once: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if encoder_weights == RANDOM_WEIGHTS:
            encoder_weights = None
        elif encoder.startswith(FOREIGN_ENCODERS):
            raise ValueError(
                f"encoder={encoder!r}, encoder_weights={encoder_weights!r}: weights of timm and torchvision cannot be "
                f"had here yet; say encoder_weights: {RANDOM_WEIGHTS} to start from random ones, or take "
                "encoder: inception_v1"
            )
        if encoder_weights is not None and encoder != "inception_v1":
            raise ValueError(f"encoder_weights={encoder_weights!r}: only inception_v1 takes them, not {encoder!r}")
        network = make_encoder(encoder, channels, padding, bn_scale)
        self.frame_size = network.output_size
        self.stages = nn.Sequential()
        self.stages.add_module("frames", PerFrame(network, frames_at_once, freeze_encoder))

    def setup(self, stage: str) -> None:
        """Takes the weights that the 2D network is to start from; a run that resumes has its own."""
        super().setup(stage)
        if stage != TrainerFn.FITTING or self.resumes:
            return
        wanted, frames = self.hparams["encoder_weights"], cast(PerFrame, self.stages.frames)
        if wanted not in (None, RANDOM_WEIGHTS):
            self.load_encoder(wanted)
        elif frames.frozen and self.hparams["weights"] is None and any(True for _ in frames.parameters()):
            rank_zero_warn("freeze_encoder=true without weights: the 2D network stays as random as it is now")

    def load_encoder(self, name_or_path: str | Path) -> None:
        """Gives the 2D network the weights of an Inception-v1, or of an I3D summed over time; its classifier is left.

        Raises:
            FileNotFoundError: no such file.
            OSError: a published file cannot be got.
            ValueError: weights of another network, or for another padding or batch norm; keys that do not match.
        """
        from lightning_modules.weights.pretrained import encoder_state, read_weights  # they know the networks

        encoder = cast(InceptionEncoder, cast(PerFrame, self.stages.frames).network)
        encoder.stages.load_state_dict(encoder_state(read_weights(name_or_path), self), strict=True)
