"""What is known of a network of a library before its weights are read: its configuration and its clips."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkDescription:
    """A video network of a library; as plain data it is the argument `network_config` of `PretrainedVideoNetwork`.

    Attributes:
        library: `transformers` or `torchvision`.
        architecture: type of the network in its library, such as `videomae` or `r3d_18`.
        configuration: configuration from which the library constructs it.
        num_frames: frames of a clip.
        crop_size: height and width of a clip in pixels.
        resize: short side that videos are resized to before the crop, or (height, width).
        frame_interval: source frames from one frame of a clip to the next, where `fps` is None.
        fps: frames per second of a clip; None for `frame_interval` at the video's own rate.
        mean: mean of R, G and B that is subtracted from pixels in [0, 1].
        std: what the difference is divided by.
        class_names: classes of its classifier, in order; None without one.
        has_preprocessing: whether a configuration of its preprocessor says resize, mean and std; else they are those of
            the architecture.
    """

    library: str
    architecture: str
    configuration: Mapping[str, Any]
    num_frames: int
    crop_size: int
    resize: int | Sequence[int]
    frame_interval: int
    fps: float | None
    mean: Sequence[float]
    std: Sequence[float]
    class_names: Sequence[str] | None = None
    has_preprocessing: bool = True

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The description of plain data.

        Raises:
            ValueError: not what `plain` returned.
        """
        try:
            return cls(**plain)
        except TypeError as error:
            raise ValueError(f"network_config: no description of a network ({error}); leave it out") from error

    @property
    def plain(self) -> dict[str, Any]:
        """The description as plain data: lists, dicts and scalars."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def clip_settings(self) -> dict[str, Any]:
        """Options of the data module for the clips that the network was made for."""
        resize = self.resize if isinstance(self.resize, int) else list(self.resize)
        rate = {"frame_interval": self.frame_interval} if self.fps is None else {"fps": self.fps}
        return {"num_frames": self.num_frames, "crop_size": self.crop_size, "resize": resize, **rate}

    def with_clips(self, num_frames: int | None, crop_size: int | None) -> Self:
        """The description for clips of another length or size; the short side is scaled with the crop."""
        size = crop_size or self.crop_size
        sides = [self.resize] if isinstance(self.resize, int) else self.resize
        scaled = [round(side * size / self.crop_size) for side in sides]
        resize = scaled[0] if isinstance(self.resize, int) else scaled
        return replace(self, num_frames=num_frames or self.num_frames, crop_size=size, resize=resize)


class NetworkParts(NamedTuple):
    """A network of a library, taken apart.

    Attributes:
        stages: `embed`, `layer_1` to `layer_L` and `tokens`, in order: clips (N, C, T, H, W) to tokens, (N, L, D) or
            (N, D, T', H', W').
        pooling: tokens to vectors (N, D), as the library's own classifier has them.
        classifier: weights of the library's linear classifier by the names of `nn.Linear`; None without one.
        size: D.
        num_heads: attention heads that suit D.
        has_attentive_head: whether the library's own pooling is attentive.
    """

    stages: dict[str, nn.Module]
    pooling: nn.Module
    classifier: Mapping[str, Tensor] | None
    size: int
    num_heads: int
    has_attentive_head: bool = False
