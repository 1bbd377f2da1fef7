"""Test protocols of papers, as options of `evaluate`, `features` and `linear`."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

ProtocolName = Literal["lrcn", "c3d", "i3d", "10x3"]
TransferProtocolName = Literal["lrcn", "c3d", "i3d"]  # protocols with a linear classifier on features
_CLIP_CHOICES = ("num_clips", "clip_step", "whole")  # mutually exclusive


class Protocol(NamedTuple):
    """Test protocol of a paper: scoring of a video, and classification of its features.

    Attributes:
        evaluate: options of `evaluate`; clips have the length and size that the network was trained on.
        features: options of `features`; empty if the paper trains no classifier on features.
        linear: options of `linear`; empty if `features` is empty.
    """

    evaluate: Mapping[str, Any]
    features: Mapping[str, Any]
    linear: Mapping[str, Any]


PROTOCOLS: dict[str, Protocol] = {
    # Donahue et al. 2015, section 4: clips of 16 frames at 30 frames a second, every 8 frames, predictions averaged
    # over frames and clips. The paper trains its softmax with the network; `linear` learns from the averaged states.
    "lrcn": Protocol(
        {"clip_step": 8, "num_crops": 1, "average": "probabilities"},
        {"layer": ["state"], "num_frames": 16, "fps": 30.0, "clip_step": 8},
        {"classifier": "logistic", "C": "auto"},
    ),
    # Tran et al. 2015. Section 3.3: ten clips, a center crop each, averaged; the paper's are random, ours even.
    # Section 4: clips of 16 frames that overlap by 8, fc6, the mean over a video's clips, L2-normalized, a linear SVM;
    # frames of 128 x 171, of which 112 x 112 are cropped. The paper names no C.
    "c3d": Protocol(
        {"num_clips": 10, "num_crops": 1, "average": "probabilities"},
        {
            "layer": ["fc6"],
            "num_frames": 16,
            "frame_interval": 1,
            "clip_step": 8,
            "resize": (128, 171),
            "crop_size": 112,
        },
        {"classifier": "svm", "C": 1.0},
    ),
    # Carreira and Zisserman 2017. Section 2.5: convolutional over the whole video at 25 frames a second, a center crop.
    # Section 5, "Fixed": the network of Kinetics as it is, whole videos at 25 frames a second, short side 256,
    # center 224, averaged over time and space, softmax. The paper names no penalty.
    "i3d": Protocol(
        {"whole": True, "fps": 25.0, "num_crops": 1, "average": "probabilities"},
        {"layer": ["Mixed_5c"], "whole": True, "num_frames": 64, "fps": 25.0, "resize": 256, "crop_size": 224},
        {"classifier": "logistic", "C": "auto"},
    ),
    # Wang et al. 2018 (Non-local), section 4.1, and SlowFast after it: ten clips, three crops, softmax averaged.
    "10x3": Protocol({"num_clips": 10, "num_crops": 3, "average": "probabilities"}, {}, {}),
}


def apply_protocol(
    protocol: ProtocolName | None, verb: Literal["evaluate", "features", "linear"], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Fills in the options of a verb that were not given with those of a protocol.

    Args:
        protocol: name of the protocol; None changes nothing.
        verb: the verb that the options belong to.
        options: options by name, None for options that were not given. A given choice of clips (`num_clips`,
            `clip_step`, `whole`) replaces the protocol's, and a given `frame_interval` its `fps`.

    Raises:
        ValueError: the protocol does not exist.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}: must be one of {', '.join(PROTOCOLS)}")
    defaults = {} if protocol is None else dict(getattr(PROTOCOLS[protocol], verb))
    if any(options.get(name) for name in _CLIP_CHOICES):
        defaults = {name: value for name, value in defaults.items() if name not in _CLIP_CHOICES}
    if options.get("frame_interval") is not None:
        defaults.pop("fps", None)
    return {name: defaults.get(name) if value is None else value for name, value in options.items()}
