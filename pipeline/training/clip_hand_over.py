"""Hand-over of clip settings: a fit samples and resizes clips as the network was made for, unless the user says."""

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from datamodules.batch import STREAM_CHANNELS
from lightning_modules import VideoNetwork
from lightning_modules.tasks.saved_network import has_argument
from pipeline.cli.config_files import given_options

# Options that are handed over together, and those of which any that the user sets prevents it. Frames resized for the
# network's crop do not suit another one; its crop suits frames of any size.
_GROUPS = (
    (("num_frames",), ("num_frames",)),
    (("frame_interval", "fps"), ("frame_interval", "fps")),
    (("crop_size",), ("crop_size",)),
    (("resize",), ("crop_size", "resize")),
)
_log = logging.getLogger("pytorch_lightning.utilities.rank_zero")


def hand_over_clip_settings(model: Any, data: Any, arguments: Sequence[str]) -> None:
    """Sets the options of `ShardedVideoDataModule` that the network was made for, where the user set none.

    A value of the user's that differs is told in one line, and kept.

    Args:
        model: configuration of the network, with class_path and init_args.
        data: configuration of the data module, changed in place.
        arguments: the command line.
    """
    if not str(data.get("class_path")).endswith("ShardedVideoDataModule") or not model.get("class_path"):
        return
    module, _, name = model["class_path"].rpartition(".")
    network = getattr(importlib.import_module(module), name, None) if module else None
    if not (isinstance(network, type) and issubclass(network, VideoNetwork)):
        return
    given = given_options(arguments, ("data", "init_args"))
    _hand_over_stream(network, model, data, "stream" in given, arguments)
    settings = network.clip_settings_of(dict(model.get("init_args") or {}))
    for options, kept_by in _GROUPS:
        of_network = {option: settings[option] for option in options if option in settings}
        of_user = {option: data["init_args"][option] for option in options if option in given}
        if not given & set(kept_by):
            for option, value in of_network.items():
                data["init_args"][option] = value
        differing = {option: value for option, value in of_user.items() if of_network.get(option, value) != value}
        if differing:
            _log.info("data: %s; the network was made for %s", _describe(differing), _describe(of_network))


def _hand_over_stream(
    network: type[VideoNetwork], model: Any, data: Any, is_given: bool, arguments: Sequence[str]
) -> None:
    """Makes the network's input channels and the stream of the data agree; what the user says counts.

    Raises:
        ValueError: the user says both, and they differ; or the network does not take the stream.
    """
    init_args = model["init_args"]
    if is_given and has_argument(network, "in_channels"):
        channels = STREAM_CHANNELS.get(data["init_args"]["stream"])
        if "in_channels" not in given_options(arguments, ("model", "init_args")) and channels is not None:
            init_args["in_channels"] = channels
    if init_args.get("in_channels") == STREAM_CHANNELS["both"]:
        raise ValueError(
            f"data.init_args.stream='both', model={network.__name__}: takes one stream; choose the model TwoStream"
        )
    taken = network.stream_of(dict(init_args))
    if is_given and data["init_args"]["stream"] != taken:
        raise ValueError(
            f"data.init_args.stream={data['init_args']['stream']!r}: the network, {network.__name__}, takes {taken!r}; "
            "give the same to both"
        )
    data["init_args"]["stream"] = taken


def _describe(settings: dict[str, Any]) -> str:
    return ", ".join(f"{option}={value}" for option, value in settings.items())
