"""Libraries of video networks: which networks are whose, what is known of one without its weights, and its adapter."""

from collections.abc import Mapping
from typing import Any

from lightning_modules.networks.library_networks import TRANSFORMERS_PREFIX, TransformersSource, import_library
from lightning_modules.video_adapters import torchvision_adapter, transformers_adapter
from lightning_modules.video_adapters.network_description import NetworkDescription

TORCHVISION_PREFIX = "torchvision:"
LIBRARY_PREFIXES = (TRANSFORMERS_PREFIX, TORCHVISION_PREFIX)


def describe_network(
    network: str, plain: Mapping[str, Any] | None = None, revision: str | None = None
) -> NetworkDescription:
    """Describes a video network of a library, without its weights.

    Args:
        network: `transformers:NAME_OR_FOLDER` or `torchvision:NAME`.
        plain: its description as plain data, which is then not read anew.
        revision: branch, tag or commit on the hub, or name of torchvision's weights; None for the main one.

    Raises:
        ImportError: the library is not installed.
        OSError: the network cannot be read.
        ValueError: not a video network.
    """
    if plain is not None:
        return NetworkDescription.from_plain(plain)
    if network.startswith(TORCHVISION_PREFIX):
        library = import_library("torchvision.models", f"network={network}")
        return torchvision_adapter.describe(library, network.removeprefix(TORCHVISION_PREFIX), revision)
    if not network.startswith(TRANSFORMERS_PREFIX):
        raise ValueError(f"network={network!r}: must be transformers:NAME_OR_FOLDER or torchvision:NAME")
    source = TransformersSource("network", network.removeprefix(TRANSFORMERS_PREFIX), revision)
    configuration = source.configuration()
    architectures = configuration.get("architectures") or [""]
    has_classifier = architectures[0].endswith("ForVideoClassification")
    return transformers_adapter.describe(configuration, source.preprocessing(), has_classifier, str(source))


def adapter_of(description: NetworkDescription) -> Any:
    """The module that constructs a network and takes it apart."""
    return transformers_adapter if description.library == "transformers" else torchvision_adapter


def module_of(description: NetworkDescription) -> str:
    """The module of the library that has the network."""
    return "transformers" if description.library == "transformers" else "torchvision.models"
