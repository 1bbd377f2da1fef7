"""Protocols of papers by name: what `features` and `linear` take where a person gives no option."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

ProtocolName = Literal["c3d-ucf101", "lrcn", "i3d-kinetics-transfer"]


class Protocol(NamedTuple):
    """How features are made and judged.

    Attributes:
        features: options of `features`.
        linear: options of `linear`.
    """

    features: Mapping[str, Any]
    linear: Mapping[str, Any]


PROTOCOLS: dict[str, Protocol] = {
    # Tran et al. 2015, sections 3.3 and 4: clips of 16 frames that overlap by 8, fc6, the mean over a video's clips,
    # L2-normalized, a linear SVM; frames of 128 x 171, of which 112 x 112 are cropped. The paper names no C.
    "c3d-ucf101": Protocol(
        {"layer": "fc6", "num_frames": 16, "frame_interval": 1, "clip_step": 8, "resize": (128, 171), "crop_size": 112},
        {"classifier": "svm", "C": 1.0},
    ),
    # Donahue et al. 2015, section 4: clips of 16 frames at 30 frames a second, every 8 frames, predictions averaged
    # over frames and clips. The paper trains its softmax with the network; here it learns from the averaged states.
    "lrcn": Protocol(
        {"layer": "state", "num_frames": 16, "fps": 30.0, "clip_step": 8}, {"classifier": "logistic", "C": "auto"}
    ),
    # Carreira and Zisserman 2017, section 5, "Fixed": the network of Kinetics as it is, whole videos at 25 frames a
    # second, short side 256, center 224, averaged over time and space, softmax. The paper names no penalty.
    "i3d-kinetics-transfer": Protocol(
        {"layer": "Mixed_5c", "whole": True, "num_frames": 64, "fps": 25.0, "resize": 256, "crop_size": 224},
        {"classifier": "logistic", "C": "auto"},
    ),
}


def options_of(protocol: ProtocolName | None, verb: Literal["features", "linear"]) -> dict[str, Any]:
    """Options that a protocol sets for a verb; none without one."""
    return {} if protocol is None else dict(getattr(PROTOCOLS[protocol], verb))
