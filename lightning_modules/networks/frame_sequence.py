"""`FrameSequenceNetwork`: base class of networks that process a video as a sequence of frame features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from lightning_modules.layers.inception_layers import Padding
from lightning_modules.layers.input_channels import channel_normalization
from lightning_modules.networks.efficientnet_lite import SCALINGS
from lightning_modules.networks.encoder_description import LIBRARIES, EncoderDescription, describe_encoder
from lightning_modules.networks.frame_encoder import CENTERED
from lightning_modules.networks.frame_encoders import ENCODER_WEIGHTS, PerFrame, Standardize, make_encoder
from lightning_modules.networks.library_encoders import LibraryEncoder, TransformersEncoder
from lightning_modules.networks.library_networks import PRETRAINED, RANDOM
from lightning_modules.networks.mobilenet_v2 import MobileNetV2
from lightning_modules.tasks.video_network import VideoNetwork
from lightning_modules.weights.checkpoint_file import is_own_checkpoint
from lightning_modules.weights.pretrained import load_encoder, read_weights
from lightning_modules.weights.weight_files import read_content, without_wrappers

LIBRARY_ENCODER_PREFIXES = tuple(f"{library}:" for library in LIBRARIES)


class FrameSequenceNetwork(VideoNetwork):
    """Base class: a 2D network encodes every frame; the stages that the subclass adds read the features in order.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; standardized (N, T, D), with `standardize`.

    Args:
        encoder: the 2D network: `small`, trained from scratch (D is its last channels times grid^2); `pixels:SIDE`,
            no network but the frame in gray, downsampled (D is SIDE^2); `inception_v1` (D is 1024 grid^2);
            `mobilenet_v2` or `efficientnet_lite0` to 2 (D is 1280 grid^2); `transformers:NAME_OR_FOLDER`, a network for
            images (ResNet, ConvNeXt, ViT, DINOv2 and 3, the vision towers of CLIP and SigLIP) by its name on the hub or
            a folder; `timm:NAME` or `torchvision:NAME`, where those import.
        encoder_weights: initial weights of the 2D network: `pretrained`, those that it was published with, which is
            the default for transformers, timm and torchvision; a name listed by `python -m pipeline weights list`; or
            the path of a checkpoint with the same 2D network, or for one of transformers, timm or torchvision of a
            state dict in its library's names (safetensors, or a file of torch that holds tensors alone); an
            `inception_v1` takes an I3D too, whose filters are summed over time; `none`: random weights, the default
            for the others; ignored when a run resumes.
        encoder_revision: branch, tag or commit of `transformers:NAME` on the hub.
        encoder_config: description of a 2D network of transformers, timm or torchvision as plain data; checkpoints hold
            it, and need neither hub nor folder. Leave it out in a new run.
        freeze_encoder: freeze the 2D network, including its batch norm statistics.
        channels: filters of the blocks of `small`, each of which halves height and width.
        padding: padding of `inception_v1`: `symmetric` for torchvision's weights, `same` for all others.
        bn_scale: whether the batch norms of `inception_v1` have a scale: true for torchvision's weights.
        grid: cells in height and in width to which the output of `small` (default: 4), `inception_v1`, `mobilenet_v2`
            or `efficientnet_lite0` to 2 (default: 1) or transformers (default: the network's own pooling) is average
            pooled. More cells keep where in the frame something is, as CaffeNet's fc6 does in LRCN; classes that differ
            by direction alone need them.
        frames_at_once: maximum number of frames in one pass of the 2D network, which bounds memory; default: all.
        in_channels: 3 for RGB, 2 for optical flow, for encoders of ours.
        standardize: scale every feature to mean 0 and standard deviation 1: by the batch's statistics in training, by
            their running averages afterwards. It helps what reads a frozen 2D network (docs/results.md).
        **kwargs: arguments of `VideoNetwork`.

    Attributes:
        frame_size: D, size of the frame features.
    """

    def __init__(
        self,
        encoder: str = "small",
        encoder_weights: str | None = None,
        encoder_revision: str | None = None,
        encoder_config: dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        channels: Sequence[int] = (32, 64, 128, 256),
        padding: Padding = "same",
        bn_scale: bool = False,
        grid: int | None = None,
        frames_at_once: int | None = None,
        in_channels: int = 3,
        standardize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._encoder, self._encoder_revision = encoder, encoder_revision
        self._encoder_weights = _initial_weights(encoder, encoder_weights)
        self._description = _description_of(self.hparams)
        network = make_encoder(encoder, channels, padding, bn_scale, grid, self._description, in_channels)
        if self._description is not None:
            self.hparams["encoder_config"] = self._description.plain
            if not network.mean and None in (kwargs.get("mean"), kwargs.get("std")):
                raise ValueError(
                    f"encoder={encoder!r}: has no preprocessor_config.json; give mean and std of the pixels in [0, 1]"
                )
        normalization = channel_normalization(in_channels, network.mean or CENTERED, network.std or CENTERED)
        self.adopt_normalization(*normalization)
        self.frame_size = network.output_size
        self.stages = nn.Sequential()
        self.stages.add_module("frames", PerFrame(network, frames_at_once, freeze_encoder))
        self._standardizes = standardize
        if standardize:
            self.stages.add_module("standardized", Standardize(self.frame_size))

    @property
    def compiled_part(self) -> nn.Module:
        """The 2D network; LSTMs have their own kernels, and would break the graph."""
        return cast(PerFrame, self.stages.frames)

    def frame_features(self, x: Tensor) -> Tensor:
        """Features of every frame, standardized with `standardize`: normalized float (N, C, T, H, W) to (N, T, D)."""
        features: Tensor = cast(PerFrame, self.stages.frames)(x)
        if self._standardizes:
            features = cast(Standardize, self.stages.standardized)(features)
        return features

    def setup(self, stage: str) -> None:
        """Loads the initial weights of the 2D network, unless the run resumes."""
        super().setup(stage)
        if stage != TrainerFn.FITTING or self.resumes:
            return
        frames = cast(PerFrame, self.stages.frames)
        if self._encoder_weights == PRETRAINED:
            self.load_published_encoder()
        elif self._encoder_weights is not None:
            self.load_encoder(self._encoder_weights)
        elif self.initial_weights is None and any(True for _ in frames.parameters()):
            self._tell_random_encoder(frames.frozen)

    def _tell_random_encoder(self, is_frozen: bool) -> None:
        if is_frozen:
            rank_zero_warn("freeze_encoder=true without weights: the 2D network stays as random as it is now")
        elif self._encoder in ENCODER_WEIGHTS and self.hparams.get("encoder_weights") is None:
            name, source = ENCODER_WEIGHTS[self._encoder]
            rank_zero_info(
                f"encoder {self._encoder} begins with random weights; those of {source}: encoder_weights: {name}"
            )

    @classmethod
    def clip_settings_of(cls, init_args: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the data module for the frames that the 2D network of these arguments was made for."""
        description = _description_of(init_args)
        if description is not None:
            return dict(description.clip_settings)
        encoder = init_args.get("encoder")
        if encoder in SCALINGS:
            return SCALINGS[encoder].clip_settings
        return dict(MobileNetV2.clip_settings) if encoder == "mobilenet_v2" else {}

    def load_published_encoder(self) -> None:
        """Loads the weights that a 2D network of transformers, timm or torchvision was published with.

        Raises:
            OSError: they cannot be read.
            ValueError: there are none that can be read safely, or they lack parts of the network.
        """
        encoder = cast(TransformersEncoder | LibraryEncoder, cast(PerFrame, self.stages.frames).network)
        assert self._description is not None
        encoder.load_published(self._encoder, self._encoder_revision, self._description)

    def load_encoder(self, name_or_path: str | Path) -> None:
        """Loads weights into the 2D network: those of the same one, or for an Inception-v1 of an I3D summed over time.

        A network of transformers, timm or torchvision also takes a file with a state dict in its library's names.

        Raises:
            FileNotFoundError: no such file.
            OSError: the download of a published file failed.
            ValueError: weights of another network, or for other arguments; keys that do not match.
        """
        network = cast(PerFrame, self.stages.frames).network
        if isinstance(network, (TransformersEncoder, LibraryEncoder)):
            content = read_content(Path(name_or_path))
            if not is_own_checkpoint(content):
                network.load_state(without_wrappers(content), f"encoder_weights {str(name_or_path)!r}")
                return
        load_encoder(network, read_weights(name_or_path), self)


def _initial_weights(encoder: str, encoder_weights: str | None) -> str | None:
    """The initial weights of an encoder: None for random ones."""
    if encoder_weights is None and encoder.startswith(LIBRARY_ENCODER_PREFIXES):
        return PRETRAINED
    if encoder_weights == PRETRAINED and not encoder.startswith(LIBRARY_ENCODER_PREFIXES):
        raise ValueError(f"encoder={encoder!r}, encoder_weights='pretrained': give a name of `weights list` or a file")
    if encoder_weights not in (None, RANDOM) and encoder.startswith("pixels:"):
        raise ValueError(f"encoder_weights={encoder_weights!r}: {encoder!r} has no weights; leave them out")
    return None if encoder_weights == RANDOM else encoder_weights


def _description_of(init_args: Mapping[str, Any]) -> EncoderDescription | None:
    """The description of a 2D network of another library, from the arguments of a network; None for our own."""
    encoder = init_args.get("encoder") or ""
    if not encoder.startswith(LIBRARY_ENCODER_PREFIXES) or encoder.endswith(":"):
        return None
    if init_args.get("encoder_config"):
        return EncoderDescription.from_plain(init_args["encoder_config"])
    weights = init_args.get("encoder_weights") or PRETRAINED
    if weights not in (PRETRAINED, RANDOM) and not Path(weights).is_file():
        raise FileNotFoundError(
            f"encoder_weights={weights!r}: no such file; encoder={encoder!r} takes pretrained, none or a file; names "
            "of `weights list` are for encoders of ours"
        )
    return describe_encoder(encoder, init_args.get("encoder_revision"), weights)
