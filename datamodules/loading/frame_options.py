"""Options of the size of the frames that a network is fed."""

from dataclasses import dataclass

from datamodules.dataset.renditions import WantedRendition
from datamodules.options import Options


@dataclass(frozen=True, kw_only=True)
class FrameOverrides(Options):
    """Size of the frames.

    As in training, where nothing is said.

    Attributes:
        crop_size: height and width of a clip, in pixels.
        resize: short side before cropping, or [height, width] as C3D's 128 x 171.
        rendition: which of the sizes that the dataset was packed in is read: its short side, or `auto`, the smallest
            that is at least as large as `resize` asks for (the largest where frames are cropped as stored). A run
            resumes on the rendition that it was trained on, and is evaluated on that one unless another is named.
    """

    crop_size: int | None = None
    resize: int | tuple[int, int] | None = None
    rendition: WantedRendition | None = None

    def check(self) -> None:
        """Refuses a clip without pixels."""
        self.require_at_least(1, "crop_size")


@dataclass(frozen=True, kw_only=True)
class FrameOptions(FrameOverrides):
    """Size of the frames.

    Without `resize` they are cropped as they are stored.
    """

    crop_size: int = 112
    rendition: WantedRendition = "auto"
