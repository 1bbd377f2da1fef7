"""Description of a frame encoder of another library as plain data, which checkpoints hold and construct it from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from lightning_modules.networks.frame_encoder import IMAGENET_MEAN, IMAGENET_STD
from lightning_modules.networks.library_networks import PRETRAINED, RANDOM, TransformersSource, import_library
from lightning_modules.weights.weight_files import weight_names

LIBRARIES = {"transformers": "transformers", "timm": "timm", "torchvision": "torchvision.models"}
_SMALL_SIDE = 384  # ConvNeXt's preprocessor crops smaller frames, and squeezes larger ones
_CROP_FRACTION = 224 / 256  # part of the short side that its crop takes


@dataclass(frozen=True)
class EncoderDescription:
    """What constructs a frame encoder of another library, without its hub and without its weights.

    Attributes:
        library: `transformers`, `timm` or `torchvision`.
        name: the library's name of the network; "" for transformers, whose configuration says all.
        configuration: the configuration of a network of transformers.
        has_pooler: whether the weights have the layers that pool a vision transformer's tokens.
        mean: mean of the pixels of R, G and B, as values in [0, 1]; empty if its preprocessor is not known.
        std: their standard deviation.
        clip_settings: `resize` and `crop_size` as in its preprocessing; empty if they are not known.
    """

    library: str
    name: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    has_pooler: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    clip_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """The description as plain data."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The description that `plain` is of."""
        try:
            return cls(**{**plain, "mean": tuple(plain["mean"]), "std": tuple(plain["std"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"encoder_config: not as a checkpoint holds it ({error}); leave it out") from error


def encoder_source(encoder: str, revision: str | None = None) -> TransformersSource:
    """Where an encoder `transformers:NAME_OR_FOLDER` is read from."""
    return TransformersSource("encoder", encoder.partition(":")[2], revision)


def describe_encoder(encoder: str, revision: str | None = None, weights: str = PRETRAINED) -> EncoderDescription:
    """Describes an encoder by its library.

    Args:
        encoder: `transformers:NAME_OR_FOLDER`, `timm:NAME` or `torchvision:NAME`.
        revision: branch, tag or commit on the hub of transformers; None for its main branch.
        weights: `pretrained`; the path of a file of weights, or `none`, with which its own need not be there.

    Raises:
        ImportError: the library is not installed.
        OSError: the network cannot be read.
        ValueError: the library has no such network, or it has no weights as safetensors.
    """
    package, _, name = encoder.partition(":")
    if package == "transformers":
        return _describe_transformers(encoder_source(encoder, revision), weights)
    library = import_library(LIBRARIES[package], f"encoder={encoder}")
    try:
        if package == "timm":
            settings = library.get_pretrained_cfg(name, allow_unregistered=False)
            side = settings.input_size[-1]
            clips = {"resize": int(side / settings.crop_pct), "crop_size": side}
            return EncoderDescription(package, name, {}, True, tuple(settings.mean), tuple(settings.std), clips)
        published = library.get_model_weights(name).DEFAULT
    except (AttributeError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"encoder={encoder}: {package} has no such network ({error})") from error
    transforms = published.transforms()
    clips = {"resize": transforms.resize_size[0], "crop_size": transforms.crop_size[0]}
    return EncoderDescription(package, name, {}, True, tuple(transforms.mean), tuple(transforms.std), clips)


def _describe_transformers(source: TransformersSource, weights: str) -> EncoderDescription:
    whole = source.configuration()
    configuration = dict(whole.get("vision_config") or whole)  # CLIP and SigLIP: the vision tower
    for name in ("architectures", "dtype", "torch_dtype", "id2label", "label2id", "num_labels", "transformers_version"):
        configuration.pop(name, None)
    preprocessing = source.preprocessing()
    mean, std = _normalization(preprocessing)
    clips = _clip_settings(preprocessing, configuration.get("image_size"))
    return EncoderDescription("transformers", "", configuration, _have_pooler(source, weights), mean, std, clips)


def _have_pooler(source: TransformersSource, weights: str) -> bool:
    """Whether weights have the layers of a pooler."""
    if weights == RANDOM:
        return True
    names = source.weight_names() if weights == PRETRAINED else weight_names(Path(weights))
    return any("pooler" in name.split(".") for name in names)


def _normalization(preprocessing: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels in [0, 1] that do what the preprocessor does; empty without one."""
    if not preprocessing:
        return (), ()
    scale = 255 * preprocessing.get("rescale_factor", 1 / 255) if preprocessing.get("do_rescale", True) else 255.0
    if not preprocessing.get("do_normalize", True):
        return (0.0,) * 3, (1 / scale,) * 3
    mean = preprocessing.get("image_mean") or IMAGENET_MEAN
    std = preprocessing.get("image_std") or IMAGENET_STD
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def _clip_settings(preprocessing: Mapping[str, Any], image_size: Any) -> dict[str, Any]:
    """Options of the data module for frames as the preprocessor makes them, or of the size in the configuration."""
    size, crop = preprocessing.get("size"), preprocessing.get("crop_size")
    short_side = size.get("shortest_edge") if isinstance(size, dict) else size
    if "ConvNext" in str(preprocessing.get("image_processor_type")) and short_side is not None:
        if short_side >= _SMALL_SIDE:
            return {"resize": [short_side, short_side], "crop_size": short_side}
        fraction = preprocessing.get("crop_pct") or _CROP_FRACTION
        return {"resize": int(short_side / fraction), "crop_size": short_side}
    if isinstance(size, dict) and "height" in size:
        side = size["height"]
        resize: int | list[int] = [side, size["width"]]
    elif short_side is not None:
        resize = side = short_side
    elif isinstance(image_size, int):
        return {"resize": [image_size, image_size], "crop_size": image_size}
    else:
        return {}
    if preprocessing.get("do_center_crop", crop is not None) and crop is not None:
        side = crop["height"] if isinstance(crop, dict) else crop
    return {"resize": resize, "crop_size": side}
