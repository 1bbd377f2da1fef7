"""How papers looked at a test video, by name."""

from typing import Any, Literal, NamedTuple

Preset = Literal["lrcn", "c3d", "i3d", "10x3"]
_WAYS = ("num_clips", "clip_step", "whole")  # of taking clips: a protocol and a person name one of them


class Protocol(NamedTuple):
    """What a paper did with a test video; clips have the length and size that the network was trained on.

    Attributes:
        source: where it is described.
        settings: options of `evaluate`.
    """

    source: str
    settings: dict[str, Any]


PROTOCOLS: dict[str, Protocol] = {
    "lrcn": Protocol(
        "Donahue et al. 2015, section 4: clips of 16 frames, 8 frames apart, their scores averaged",
        {"clip_step": 8, "num_crops": 1, "average": "probabilities"},
    ),
    "c3d": Protocol(
        "Tran et al. 2015, section 3.3: ten clips, a center crop each, averaged; the paper's are random, ours even",
        {"num_clips": 10, "num_crops": 1, "average": "probabilities"},
    ),
    "i3d": Protocol(
        "Carreira and Zisserman 2017, section 2.5: convolutional over the whole video at 25 frames/s, a center crop",
        {"whole": True, "fps": 25.0, "num_crops": 1, "average": "probabilities"},
    ),
    "10x3": Protocol(
        "Wang et al. 2018 (Non-local), section 4.1, and SlowFast after it: ten clips, three crops, softmax averaged",
        {"num_clips": 10, "num_crops": 3, "average": "probabilities"},
    ),
}


def with_preset(preset: Preset | None, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a protocol, where nobody said otherwise.

    Args:
        preset: name of the protocol, or None.
        given: options by name; None where a person said nothing. Any way of taking clips replaces the protocol's.

    Returns:
        The options by name, with those that are in neither None.

    Raises:
        ValueError: no such protocol.
    """
    if preset is None:
        return dict(given)
    if preset not in PROTOCOLS:
        raise ValueError(f"preset={preset!r}: must be one of {', '.join(PROTOCOLS)}")
    settings = dict(PROTOCOLS[preset].settings)
    if any(given.get(way) for way in _WAYS):
        settings = {name: value for name, value in settings.items() if name not in _WAYS}
    if given.get("frame_interval") is not None:
        settings.pop("fps", None)
    said = {name: value for name, value in given.items() if value is not None}
    return dict.fromkeys(given) | settings | said
