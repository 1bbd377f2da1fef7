"""Frame encoders of other libraries: transformers, timm and torchvision."""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.encoder_description import LIBRARIES, EncoderDescription, encoder_source
from lightning_modules.networks.frame_encoder import FrameEncoder
from lightning_modules.networks.library_networks import import_library

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
        state = network.state_dict()
        own = self.network.state_dict().keys()
        absent = sorted(missing & own)
        if absent:
            raise ValueError(f"{source}: the weights lack {', '.join(absent[:3])}, {len(absent)} of {len(own)} tensors")
        self.network.load_state_dict({key: value for key, value in state.items() if key in own}, strict=True)


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


def _make_network(description: EncoderDescription, is_pretrained: bool) -> nn.Module:
    encoder = f"{description.library}:{description.name}"
    library: Any = import_library(LIBRARIES[description.library], f"encoder={encoder}")
    if description.library == "timm":
        network: nn.Module = library.create_model(description.name, pretrained=is_pretrained, num_classes=0)
        return network
    return _without_classifier(library.get_model(description.name, weights="DEFAULT" if is_pretrained else None))


def _without_classifier(network: nn.Module) -> nn.Module:
    """The network with its last linear layer removed, whose name differs between torchvision's networks."""
    name = next(name for name in ("fc", "classifier", "head", "heads") if hasattr(network, name))
    head = getattr(network, name)
    if isinstance(head, nn.Sequential):
        head[-1] = nn.Identity()
    else:
        setattr(network, name, nn.Identity())
    return network
