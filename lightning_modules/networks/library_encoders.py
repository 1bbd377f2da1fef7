"""Frame encoders of other libraries: transformers, timm and torchvision."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.encoder_description import LIBRARIES, EncoderDescription, encoder_source
from lightning_modules.networks.frame_encoder import FrameEncoder
from lightning_modules.networks.library_networks import import_library, silenced_transformers
from lightning_modules.video_adapters.transformers_adapter import FAMILIES

_HEADS = ("fc", "classifier", "head", "heads")  # names of the classifier in networks of timm and torchvision
_CLASSIFIERS = (*_HEADS, "aux1", "aux2", "AuxLogits", "aux_logits")
_SIDE = 224  # of the frame that sizes are found with, where the network states none


class TransformersEncoder(FrameEncoder):
    """A network of transformers for images; random until weights are loaded.

    The vector of a frame is the network's pooled output (ResNet, ConvNeXt, MobileNetV2: the mean over the map; CLIP and
    DINOv2: the class token; SigLIP: its attention pooling); without one, or where the weights lack the pooler's layers,
    the class token, or where there is none, the mean over tokens. With a grid it is the map, or the patches without
    other tokens, average pooled to grid x grid cells. Position embeddings are interpolated as the library does it.

    Args:
        description: its configuration.
        grid: number of cells in height and in width; None for the network's own pooling.

    Raises:
        ImportError: transformers is not installed.
        ValueError: a configuration that it cannot construct, or a grid of a network without a map.
    """

    def __init__(self, description: EncoderDescription, grid: int | None = None) -> None:
        super().__init__()
        self.mean, self.std, self.clip_settings = description.mean, description.std, description.clip_settings
        library = import_library("transformers", "encoder=transformers:")
        configuration = dict(description.configuration)
        kind = configuration.pop("model_type")
        if kind in FAMILIES:
            raise ValueError(
                f"encoder: {kind} is a network for clips, not for frames; give it to PretrainedVideoNetwork"
            )
        try:
            self.network = library.AutoModel.from_config(library.AutoConfig.for_model(kind, **configuration))
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"encoder: transformers cannot construct this {kind} for frames ({error})") from error
        pooler = getattr(self.network, "pooler", None)
        if not description.has_pooler and isinstance(pooler, nn.Module) and list(pooler.parameters()):
            self.network.pooler = None
        side, patch = configuration.get("image_size"), configuration.get("patch_size")
        self._side = side if isinstance(side, int) else None
        self._patch = patch if isinstance(patch, int) else None
        parameters = inspect.signature(self.network.forward).parameters
        if "pixel_values" not in parameters:
            raise ValueError(f"encoder: a {kind} is no network for frames; take one for images")
        self._interpolates = "interpolate_pos_encoding" in parameters
        self._grid = grid
        was_training = self.network.training
        with torch.no_grad():
            frame = torch.zeros(1, 3, self._side or _SIDE, self._side or _SIDE)
            self.output_size = int(self.network.eval() and self(frame).shape[1])
        self.network.train(was_training)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        is_other_size = self._side is not None and tuple(frames.shape[2:]) != (self._side, self._side)
        options = {"interpolate_pos_encoding": True} if self._interpolates and is_other_size else {}
        outputs = self.network(pixel_values=frames, **options)
        if self._grid is not None:
            cells = self._map(outputs.last_hidden_state, frames)
            return F.adaptive_avg_pool2d(cells, self._grid).flatten(1)
        pooled: Tensor | None = getattr(outputs, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        tokens: Tensor = outputs.last_hidden_state
        if tokens.ndim == 4:
            return tokens.mean((2, 3))
        has_class_token = hasattr(getattr(self.network, "embeddings", None), "cls_token")
        return tokens[:, 0] if has_class_token else tokens.mean(1)

    def _map(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """The last layer's output as a map (M, D, H', W'), without the class token and registers, which come first."""
        if hidden.ndim == 4:
            return hidden
        height, width = (side // (self._patch or side + 1) for side in frames.shape[2:])
        if self._patch is None or not 0 < height * width <= hidden.shape[1]:
            raise ValueError(f"grid={self._grid}: this network has no map of patches; leave it out")
        return hidden[:, -height * width :].transpose(1, 2).reshape(len(hidden), -1, height, width)

    def load_published(self, encoder: str, revision: str | None, description: EncoderDescription) -> None:
        """Loads the weights that the network was published with.

        Raises:
            OSError: they cannot be read.
            ValueError: no safetensors, or weights that lack parts of the network.
        """
        source = encoder_source(encoder, revision)
        network, missing = source.load("AutoModel", description.configuration)
        self._take_over(network, missing, str(source))

    def load_state(self, state: Mapping[str, Tensor], file: str) -> None:
        """Loads a state dict in the names of any version of the library, which renames them.

        Layers around the network are left out: a classifier, or the text tower of CLIP and SigLIP.

        Args:
            state: state dict of the network, or of one that it is the base or the vision tower of.
            file: its file, for errors.

        Raises:
            ValueError: weights that lack parts of the network, have more layers, or have other shapes.
        """
        kind = type(self.network)
        with silenced_transformers(file):
            network, report = kind.from_pretrained(
                None,
                config=self.network.config,
                state_dict=dict(state),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        own = {key.partition(".")[0] for key in self.network.state_dict()} | {kind.base_model_prefix}
        _refuse_unknown([key for key in report["unexpected_keys"] if key.partition(".")[0] in own], file)
        others = [f"{key} {list(theirs)} (here {list(ours)})" for key, theirs, ours in report["mismatched_keys"]]
        if others:
            raise ValueError(f"{file}: weights of other shapes: {', '.join(sorted(others)[:3])}")
        self._take_over(network, set(report["missing_keys"]), file)

    def _take_over(self, network: nn.Module, missing: Collection[str], source: str) -> None:
        """Copies the weights of a network of the library, of which some may be missing."""
        own = self.network.state_dict().keys()
        absent = sorted(own & set(missing))
        if absent:
            raise ValueError(f"{source}: the weights lack {', '.join(absent[:3])}, {len(absent)} of {len(own)} tensors")
        state = network.state_dict()
        self.network.load_state_dict({key: state[key] for key in own}, strict=True)


class LibraryEncoder(FrameEncoder):
    """A network of timm or torchvision without its classifier; random until weights are loaded.

    Args:
        description: its library and name.
    """

    def __init__(self, description: EncoderDescription) -> None:
        super().__init__()
        self.mean, self.std, self.clip_settings = description.mean, description.std, description.clip_settings
        self.network = _make_network(description, is_pretrained=False)
        with torch.no_grad():
            frame = torch.zeros(1, 3, *[description.clip_settings.get("crop_size", _SIDE)] * 2)
            self.output_size = int(self.network.eval()(frame).flatten(1).shape[1])
        self.network.train()

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        features = self.network(frames)
        return (features if isinstance(features, Tensor) else features[0]).flatten(1)

    def load_published(self, encoder: str, revision: str | None, description: EncoderDescription) -> None:
        """Loads the weights that the library publishes for the network.

        Raises:
            OSError: they cannot be downloaded.
            ValueError: the library has none.
        """
        try:
            network = _make_network(description, is_pretrained=True)
        except OSError as error:
            raise OSError(f"encoder={encoder}: its weights cannot be got ({' '.join(str(error).split())})") from error
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"encoder={encoder}: {' '.join(str(error).split())}") from error
        self.network.load_state_dict(network.state_dict(), strict=True)

    def load_state(self, state: Mapping[str, Tensor], file: str) -> None:
        """Loads a state dict in the library's names, with or without a classifier, which is left out.

        Args:
            state: state dict of the network.
            file: its file, for errors.

        Raises:
            ValueError: weights that lack parts of the network, have more layers, or have other shapes.
        """
        own = self.network.state_dict()
        absent = sorted(own.keys() - state.keys())
        if absent:
            raise ValueError(f"{file}: the weights lack {', '.join(absent[:3])}, {len(absent)} of {len(own)} tensors")
        others = [key for key in state if key not in own and key.partition(".")[0] not in _CLASSIFIERS]
        _refuse_unknown(others, file)
        try:
            self.network.load_state_dict({key: state[key] for key in own}, strict=True)
        except RuntimeError as error:  # torch lists every key
            raise ValueError(f"{file}: the weights do not fit: {' '.join(str(error).split())}") from None


def _refuse_unknown(keys: Collection[str], file: str) -> None:
    if keys:
        raise ValueError(
            f"{file}: weights of another network: {len(keys)} tensors that this one does not have, such as "
            f"{', '.join(sorted(keys)[:3])}"
        )


def _make_network(description: EncoderDescription, is_pretrained: bool) -> nn.Module:
    encoder = f"{description.library}:{description.name}"
    library: Any = import_library(LIBRARIES[description.library], f"encoder={encoder}")
    if description.library == "timm":
        network: nn.Module = library.create_model(description.name, pretrained=is_pretrained, num_classes=0)
        return network
    return _without_classifier(library.get_model(description.name, weights="DEFAULT" if is_pretrained else None))


def _without_classifier(network: nn.Module) -> nn.Module:
    """The network with its last linear layer removed, whose name differs between torchvision's networks."""
    name = next(name for name in _HEADS if hasattr(network, name))
    head = getattr(network, name)
    if isinstance(head, nn.Sequential):
        head[-1] = nn.Identity()
    else:
        setattr(network, name, nn.Identity())
    return network
