"""`FrameSequenceNetwork`: base class of networks that process a video as a sequence of frame features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from torch import nn

from lightning_modules.layers.inception_layers import Padding
from lightning_modules.networks.frame_encoders import PerFrame, make_encoder
from lightning_modules.tasks.video_network import VideoNetwork

RANDOM_WEIGHTS = "none"  # the value of `encoder_weights` for random weights
LIBRARY_ENCODER_PREFIXES = ("timm:", "torchvision:")


class FrameSequenceNetwork(VideoNetwork):
    """Base class: a 2D network encodes every frame; the stages that the subclass adds read the features in order.

    Endpoint: frames (N, T, D), the 2D network's features of every frame.

    Args:
        encoder: the 2D network: `small`, trained from scratch (D is its last channels times grid^2); `pixels:SIDE`,
            no network but the frame in gray, downsampled (D is SIDE^2); `inception_v1` (D is 1024 grid^2);
            `mobilenet_v2` (D is 1280 grid^2); `timm:NAME` or `torchvision:NAME` if those are installed, only with
            `encoder_weights: none`.
        encoder_weights: initial weights of the 2D network: a name listed by `python -m pipeline weights list`, or the
            path of a checkpoint of the same 2D network; an `inception_v1` takes an I3D too, whose filters are summed
            over time; `none` or omitted: random weights (timm and torchvision require `none`); ignored when a run
            resumes.
        freeze_encoder: freeze the 2D network, including its batch norm statistics.
        channels: filters of the blocks of `small`, each of which halves height and width.
        padding: padding of `inception_v1`: `symmetric` for torchvision's weights, `same` for all others.
        bn_scale: whether the batch norms of `inception_v1` have a scale: true for torchvision's weights.
        grid: cells in height and in width to which the output of `small` (default: 4), `inception_v1` or `mobilenet_v2`
            (default: 1) is average pooled. More cells keep where in the frame something is, as CaffeNet's fc6 does in
            LRCN; classes that differ by direction alone need them.
        frames_at_once: maximum number of frames in one pass of the 2D network, which bounds memory; default: all.
        **kwargs: arguments of `VideoNetwork`.

    Attributes:
        frame_size: D, size of the frame features.
    """

    def __init__(
        self,
        encoder: str = "small",
        encoder_weights: str | None = None,
        freeze_encoder: bool = False,
        channels: Sequence[int] = (32, 64, 128, 256),
        padding: Padding = "same",
        bn_scale: bool = False,
        grid: int | None = None,
        frames_at_once: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if encoder_weights == RANDOM_WEIGHTS:
            encoder_weights = None
        elif encoder.startswith(LIBRARY_ENCODER_PREFIXES):
            raise ValueError(
                f"encoder={encoder!r}, encoder_weights={encoder_weights!r}: weights of timm and torchvision are "
                f"not supported; set encoder_weights: {RANDOM_WEIGHTS} to start from random ones, or take "
                "encoder: inception_v1"
            )
        if encoder_weights is not None and encoder.startswith("pixels:"):
            raise ValueError(f"encoder_weights={encoder_weights!r}: {encoder!r} has no weights; leave them out")
        self._encoder_weights = encoder_weights
        network = make_encoder(encoder, channels, padding, bn_scale, grid)
        self.adopt_normalization(network.mean, network.std)
        self.frame_size = network.output_size
        self.stages = nn.Sequential()
        self.stages.add_module("frames", PerFrame(network, frames_at_once, freeze_encoder))

    def setup(self, stage: str) -> None:
        """Loads the initial weights of the 2D network, unless the run resumes."""
        super().setup(stage)
        if stage != TrainerFn.FITTING or self.resumes:
            return
        frames = cast(PerFrame, self.stages.frames)
        if self._encoder_weights is not None:
            self.load_encoder(self._encoder_weights)
        elif frames.frozen and self.initial_weights is None and any(True for _ in frames.parameters()):
            rank_zero_warn("freeze_encoder=true without weights: the 2D network stays as random as it is now")

    def load_encoder(self, name_or_path: str | Path) -> None:
        """Loads weights into the 2D network: those of the same one, or for an Inception-v1 of an I3D summed over time.

        Raises:
            FileNotFoundError: no such file.
            OSError: the download of a published file failed.
            ValueError: weights of another network, or for other arguments; keys that do not match.
        """
        from lightning_modules.weights.pretrained import load_encoder, read_weights  # imports the networks

        load_encoder(cast(PerFrame, self.stages.frames).network, read_weights(name_or_path), self)
