"""VideoMAE, TimeSformer, ViViT and V-JEPA 2 of transformers, taken apart into stages with the library's own layers.

Tong, Song, Wang, Wang: "VideoMAE", NeurIPS 2022. Bertasius, Wang, Torresani: "Is Space-Time Attention All You Need for
Video Understanding?", ICML 2021. Arnab, Dehghani, Heigold, Sun, Lucic, Schmid: "ViViT", ICCV 2021. Assran et al.:
"V-JEPA 2", 2025.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.layers.attentive_pooling import AttentivePooler
from lightning_modules.layers.stochastic_depth import StochasticDepth, depth_probabilities
from lightning_modules.video_adapters.network_description import NetworkDescription, NetworkParts
from lightning_modules.video_adapters.token_pooling import ClipShape, FirstToken, MeanPooling

# Set in conversions of V-JEPA 2.1 (huggingface/transformers, pull request 45497), whose layers differ.
_OF_VJEPA_2_1 = ("use_rope_interleave", "use_modality_embeddings", "interpolate_rope")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TransformerFamily:
    """How one architecture of transformers is described and taken apart.

    Attributes:
        layers: attribute path of the layers in the base network.
        frames: name of the configuration's number of frames.
        size: name of its height and width.
        mean: mean of a network without a preprocessor's configuration.
        std: its standard deviation.
        frame_interval: that of the paper's recipe for Kinetics-400, as configurations do not tell it.
        resize_ratio: short side divided by the crop, of a network without a preprocessor's configuration.
        lora_targets: linear layers that LoRA updates: those of queries and values, as in its paper (section 4.2).
        refuses_other_clips: whether its position embeddings fit no other length and size.
        takes_any_length: whether clips may have any number of frames, by rotary position embeddings.
    """

    layers: str
    frames: str
    size: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    frame_interval: int
    resize_ratio: float
    lora_targets: tuple[str, ...]
    refuses_other_clips: bool = False
    takes_any_length: bool = False


FAMILIES: Mapping[str, TransformerFamily] = {
    # scripts/kinetics of MCG-NJU/VideoMAE: 16 frames, every 4th
    "videomae": TransformerFamily("encoder.layer", "num_frames", "image_size", *_IMAGENET, 4, 1.0, ("query", "value")),
    # configs/Kinetics/TimeSformer_divST_8x32_224.yaml of facebookresearch/TimeSformer
    "timesformer": TransformerFamily(
        "encoder.layer", "num_frames", "image_size", (0.45,) * 3, (0.225,) * 3, 32, 1.0, ("qkv",)
    ),
    # section 4.1 of the paper: 32 frames, every 2nd
    "vivit": TransformerFamily(
        "layers", "num_frames", "image_size", (0.5,) * 3, (0.5,) * 3, 2, 256 / 224, ("q_proj", "v_proj"), True
    ),
    # configs/eval of facebookresearch/vjepa2: every 4th frame
    "vjepa2": TransformerFamily(
        "encoder.layer", "frames_per_clip", "crop_size", *_IMAGENET, 4, 256 / 224, ("query", "value"), False, True
    ),
}


def describe(
    configuration: Mapping[str, Any], preprocessing: Mapping[str, Any], has_classifier: bool, option: str
) -> NetworkDescription:
    """The description of a network by the configurations of itself and of its preprocessor.

    Raises:
        ValueError: another architecture than those of `FAMILIES`, or clips that are not square.
    """
    architecture = str(configuration.get("model_type"))
    if architecture not in FAMILIES:
        raise ValueError(
            f"{option}: a network of type {architecture!r}; video networks of transformers are {', '.join(FAMILIES)}, "
            "and networks of images serve as encoder of CNNLSTM and FrameClassifier"
        )
    if configuration.get("attention_type") == "space_only":
        raise ValueError(f"{option}: attention_type='space_only' gives a vector a frame; take another TimeSformer")
    if architecture == "vjepa2" and any(configuration.get(option) for option in _OF_VJEPA_2_1):
        raise ValueError(
            f"{option}: V-JEPA 2.1, which transformers would run as V-JEPA 2, with other numbers; take that"
        )
    family = FAMILIES[architecture]
    crop_size = configuration[family.size]
    if not isinstance(crop_size, int):
        raise ValueError(f"{option}: {family.size}={crop_size}: clips here are square")
    names = configuration.get("id2label") or {}
    ordered = [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    samples = bool(preprocessing.get("do_sample_frames"))
    return NetworkDescription(
        "transformers",
        architecture,
        {name: value for name, value in configuration.items() if name not in ("id2label", "label2id", "num_labels")},
        configuration[family.frames],
        crop_size,
        _resize(family, architecture, preprocessing, crop_size),
        family.frame_interval,
        preprocessing.get("fps") if samples else None,
        *_normalization(family, architecture, preprocessing),
        ordered if has_classifier else None,
        bool(preprocessing),
    )


def _normalization(
    family: TransformerFamily, architecture: str, preprocessing: Mapping[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels in [0, 1] that do what the preprocessor does with pixels from 0 to 255."""
    if not preprocessing:
        return family.mean, family.std
    default_scale = 1 / 127.5 if architecture == "vivit" else 1 / 255
    scale = 255 * preprocessing.get("rescale_factor", default_scale) if preprocessing.get("do_rescale", True) else 255.0
    offset = 1.0 if architecture == "vivit" and preprocessing.get("offset", True) else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if preprocessing.get("do_normalize", True):
        mean = preprocessing.get("image_mean") or list(family.mean)
        std = preprocessing.get("image_std") or list(family.std)
    return tuple((offset + value) / scale for value in mean), tuple(value / scale for value in std)


def _resize(
    family: TransformerFamily, architecture: str, preprocessing: Mapping[str, Any], crop_size: int
) -> int | list[int]:
    """Short side, or (height, width), that the preprocessor resizes videos to, for the network's size of crop."""
    size: Any = preprocessing.get("size")
    if architecture == "vjepa2" or size is None:  # that of V-JEPA 2 ignores the size in its configuration
        return int(crop_size * family.resize_ratio)
    crop: Any = preprocessing.get("crop_size") or crop_size
    cropped = crop if isinstance(crop, int) else crop.get("height", crop.get("shortest_edge", crop_size))
    ratio = crop_size / cropped if preprocessing.get("do_center_crop", True) else 1.0
    if isinstance(size, int):
        return round(size * ratio)
    if "shortest_edge" in size:
        shortest: int = round(size["shortest_edge"] * ratio)
        return shortest
    return [round(size[side] * ratio) for side in ("height", "width")]


def construct(
    library: Any, description: NetworkDescription, num_frames: int | None, crop_size: int | None
) -> nn.Module:
    """Constructs a network of random weights for clips of a length and size; None for its own.

    Raises:
        ValueError: a length or size that the architecture cannot have.
    """
    family, own = FAMILIES[description.architecture], description
    configuration = dict(own.configuration)
    given = {"num_frames": num_frames, "crop_size": crop_size}
    other = {name: value for name, value in given.items() if value not in (None, getattr(own, name))}
    if other and family.refuses_other_clips:
        raise ValueError(
            f"{', '.join(f'{name}={value}' for name, value in other.items())}: this {own.architecture} has position "
            f"embeddings for num_frames={own.num_frames}, crop_size={own.crop_size} alone; take those"
        )
    steps = _patch_steps(configuration)
    for name, value, step in zip(given, given.values(), steps, strict=True):
        if value is not None and (value < step or value % step):
            raise ValueError(f"{name}={value}: must be a multiple of {step}, the size of a patch of this network")
    configuration |= {family.frames: num_frames or own.num_frames, family.size: crop_size or own.crop_size}
    kind = configuration.pop("model_type")
    try:
        return library.AutoModel.from_config(library.AutoConfig.for_model(kind, **configuration))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise ValueError(f"network_config: transformers cannot construct this {kind} ({error})") from error


def _patch_steps(configuration: Mapping[str, Any]) -> tuple[int, int]:
    """Frames and pixels of a patch."""
    tubelet, patch = configuration.get("tubelet_size", 1), configuration.get("patch_size")
    if isinstance(tubelet, (list, tuple)):
        return int(tubelet[0]), int(tubelet[1])
    return int(tubelet), int(patch if isinstance(patch, int) else patch[0])  # type: ignore[index]


def take_apart(network: Any, architecture: str) -> NetworkParts:
    """Takes a network apart: the base network, or one with a classifier.

    Args:
        network: the network of transformers, whose layers the parts are.
        architecture: a name in `FAMILIES`.
    """
    family = FAMILIES[architecture]
    base = getattr(network, architecture, network)  # with a classifier, the attribute has the architecture's name
    configuration = base.config
    frames, size = getattr(configuration, family.frames), getattr(configuration, family.size)
    steps = _patch_steps(configuration.to_dict())
    shape = ClipShape(None if family.takes_any_length else frames, size, steps[0])
    encoder = base.encoder if architecture == "vjepa2" else base
    arguments = {"videomae": (None,)}.get(architecture, ())
    stages: dict[str, nn.Module] = {"embed": PatchEmbedding(encoder.embeddings, shape, arguments)}
    for number, layer in enumerate(base.get_submodule(family.layers), 1):
        stages[f"layer_{number}"] = EncoderLayer(layer)
    stages["tokens"] = encoder.layernorm or nn.Identity()  # VideoMAE norms after pooling
    classifier = getattr(network, "classifier", None)
    weights = classifier.state_dict() if isinstance(classifier, nn.Linear) else None
    pooling = _pooling(network, configuration)
    sizes = configuration.hidden_size, configuration.num_attention_heads
    return NetworkParts(stages, pooling, weights, *sizes, isinstance(pooling, AttentivePooler))


def needed(missing: Iterable[str]) -> set[str]:
    """Those of missing weights that the parts have: not V-JEPA 2's predictor, nor the pooler of a headless ViViT."""
    return {name for name in missing if "predictor." not in name and not name.startswith("pooler.dense")}


def _pooling(network: Any, configuration: Any) -> nn.Module:
    """The pooling of the library's classifier, also for a network without one."""
    if configuration.model_type == "vjepa2":
        pooler = AttentivePooler(
            configuration.hidden_size, configuration.num_attention_heads, configuration.num_pooler_layers + 1
        )
        if hasattr(network, "pooler"):
            pooler.load_state_dict(network.pooler.state_dict())
        return pooler
    if configuration.model_type == "videomae" and configuration.use_mean_pooling:
        return MeanPooling(getattr(network, "fc_norm", None) or nn.LayerNorm(configuration.hidden_size))
    return FirstToken()


def add_stochastic_depth(parts: NetworkParts, architecture: str, rate: float) -> None:
    """Adds stochastic depth to the residual branches of the layers, rising to `rate` in the last one.

    Dropout is the last layer of the branches of VideoMAE and ViViT, TimeSformer and V-JEPA 2 have their own place.
    """
    layers: list[Any] = [stage.layer for stage in parts.stages.values() if isinstance(stage, EncoderLayer)]
    for layer, probability in zip(layers, depth_probabilities(rate, len(layers)), strict=True):
        if architecture in ("timesformer", "vjepa2"):
            layer.drop_path = StochasticDepth(probability)
            continue
        owners = (layer.attention.output, layer.output) if architecture == "videomae" else (layer,)
        for owner in owners:
            owner.dropout = nn.Sequential(owner.dropout, StochasticDepth(probability))


def resize_positions(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose position embeddings are those of a network for other clips, by the nearest ones.

    TimeSformer's are resized, as transformers does. VideoMAE and V-JEPA 2 compute theirs.

    Args:
        state: state dict of the pretrained network.
        own: state dict of the network that it is for.
    """
    resized = dict(state)
    for key, value in state.items():
        wanted = own[key].shape if key in own else value.shape
        if key.endswith(".time_embeddings") and value.shape != wanted:
            resized[key] = F.interpolate(value.transpose(1, 2), wanted[1], mode="nearest").transpose(1, 2)
        elif key.endswith(".position_embeddings") and value.shape != wanted:
            old, new = (round((length - 1) ** 0.5) for length in (value.shape[1], wanted[1]))
            places = value[:, 1:].transpose(1, 2).reshape(1, -1, old, old)
            places = F.interpolate(places, (new, new), mode="nearest").flatten(2).transpose(1, 2)
            resized[key] = torch.cat([value[:, :1], places], dim=1)
    return resized


class PatchEmbedding(nn.Module):
    """Embedding of patches with their positions: clips (N, C, T, H, W) to tokens (N, L, D).

    Args:
        embeddings: the library's embeddings, which take (N, T, C, H, W).
        shape: check of the clips.
        arguments: further arguments of the embeddings.
    """

    def __init__(self, embeddings: Callable[..., Tensor], shape: ClipShape, arguments: tuple[None, ...]) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.shape = shape
        self._arguments = arguments

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) to tokens (N, L, D)."""
        return self.embeddings(self.shape(clips).transpose(1, 2), *self._arguments)


class EncoderLayer(nn.Module):
    """A layer of a transformer, without the attention maps that some return: (N, L, D) to (N, L, D)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens to tokens, (N, L, D)."""
        output: Tensor | tuple[Tensor, ...] = self.layer(tokens)
        return output if isinstance(output, Tensor) else output[0]
