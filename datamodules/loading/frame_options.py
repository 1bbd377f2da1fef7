"""Options of the frame size of a network's input."""

from dataclasses import dataclass

from datamodules.dataset.renditions import RenditionChoice
from datamodules.options import Options


@dataclass(frozen=True, kw_only=True)
class FrameOverrides(Options):
    """Size of the frames.

    The default of each is its value in training.

    Attributes:
        crop_size: height and width of a clip, in pixels.
        resize: short side before cropping, or [height, width] as C3D's 128 x 171.
        rendition: packed size of the videos to read: its short side, or `auto`, the smallest that is at least as large
            as `resize` (the largest if frames are cropped as stored). A run resumes on the rendition that it was
            trained on, and is evaluated on it unless another is named.
    """

    crop_size: int | None = None
    resize: int | tuple[int, int] | None = None
    rendition: RenditionChoice | None = None

    def check(self) -> None:
        """Raises ValueError if crop_size is less than 1."""
        self.require_at_least(1, "crop_size")


@dataclass(frozen=True, kw_only=True)
class FrameOptions(FrameOverrides):
    """Size of the frames.

    Without `resize` frames are cropped at their stored size.
    """

    crop_size: int = 112
    rendition: RenditionChoice = "auto"
