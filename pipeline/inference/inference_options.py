"""Options of inference with a checkpoint: allowed model classes, device and precision, views of the videos."""

from dataclasses import dataclass
from typing import Any, Literal

from datamodules.loading.frame_options import FrameOverrides
from datamodules.loading.loader_options import LoaderOptions
from datamodules.options import Options
from datamodules.sampling.clip_options import ClipOverrides, ViewOverrides

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Options):
    """Trust in the checkpoint.

    Attributes:
        allow: modules that the checkpoint's model class may come from, besides lightning_modules.
    """

    allow: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
    """Computing.

    Attributes:
        accelerator: Lightning's accelerator: auto, cpu, gpu, ...
        devices: processes or GPUs that compute; the result is the same with any number.
        precision: 32-true, or bf16-mixed, which is several times faster where the processor or GPU has bfloat16 units
            (AMX, tensor cores), slower where it has none, and moves results in the third digit; recorded with them.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: Precision = "32-true"

    def check(self) -> None:
        """Raises ValueError if devices is less than 1."""
        self.require_at_least(1, "devices")


@dataclass(frozen=True, kw_only=True)
class SplitFileOptions(Options):
    """Splits other than the packed ones.

    Attributes:
        split_file: name, path or URL of the split file whose splits or folds are taken; packed: those in the index.
            Default: the one that the checkpoint was trained with, if the dataset is the same.
    """

    split_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class OverwriteOptions(Options):
    """Earlier output.

    Attributes:
        overwrite: replace a file, or parts of an unfinished export, of other settings.
    """

    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoViewOptions(ViewOverrides):
    """Views of a video.

    By default ten evenly spread clips and their center crops.

    Attributes:
        whole: take all of a video as one clip instead, for networks that take any number of frames.
    """

    whole: bool | None = None

    def check(self) -> None:
        """Raises ValueError for more than one way to choose clips."""
        choices = {"num_clips": self.num_clips, "clip_step": self.clip_step, "whole": self.whole or None}
        chosen = [f"{name}={value}" for name, value in choices.items() if value is not None]
        if len(chosen) > 1:
            raise ValueError(f"{', '.join(chosen)}: give one of them")

    def data_options(self) -> dict[str, Any]:
        """Returns the views as options of `ShardedVideoDataModule`."""
        return {
            "test_sampling": "whole" if self.whole else "uniform" if self.clip_step is None else "dense",
            "num_clips": 10 if self.num_clips is None else self.num_clips,
            "clip_step": self.clip_step,
            "max_frames": self.max_frames,
            "num_crops": self.num_crops or 1,
        }


@dataclass(frozen=True, kw_only=True)
class InferenceOptions(  # the fields of the last base come first
    CheckpointOptions, ComputeOptions, LoaderOptions, FrameOverrides, ClipOverrides, VideoViewOptions
):
    """Stopping and resuming.

    Attributes:
        save_every: videos of a process between two saves of finished results, which are at most 30 seconds apart: the
            most that is lost when it is killed.
    """

    save_every: int = 64

    def check(self) -> None:
        """Raises ValueError if save_every is less than 1."""
        self.require_at_least(1, "save_every")
