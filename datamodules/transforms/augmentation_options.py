"""Options of what training does to the pixels of its clips."""

from dataclasses import dataclass

from datamodules.options import Options
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.device_augmentation import Augmentation
from datamodules.transforms.flip_safety import SidedClasses
from datamodules.transforms.rand_augment import RandAugment


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions(Options):
    """Augmentation of training clips.

    Attributes:
        random_resized_crop: crop a random area and shape and resize it, instead of a random place.
        flip_probability: share of the clips that are mirrored left to right, in [0, 1].
        sided_classes: what mirroring means for classes whose names say left or right: `refuse` to train; `keep` them
            as they are and mirror others; `mirror` them too; or the list of the classes that are never mirrored.
        rand_augment: RandAugment on the device; null for none.
        color_jitter: color jitter on the device, after RandAugment; null for none.
    """

    random_resized_crop: bool = False
    flip_probability: float = 0.5
    sided_classes: SidedClasses = "refuse"
    rand_augment: RandAugment | None = None
    color_jitter: ColorJitter | None = None

    def device_augmentation(self) -> Augmentation:
        """What is done to the clips once they are on the device."""
        return Augmentation(self.rand_augment, self.color_jitter)
