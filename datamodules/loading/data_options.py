"""`DataOptions`: all options of `ShardedVideoDataModule` except its root, composed of groups of options."""

from dataclasses import dataclass

from datamodules.dataset.split_options import SplitOptions
from datamodules.loading.frame_options import FrameOptions
from datamodules.loading.loader_options import LoaderOptions
from datamodules.sampling.clip_options import ClipOptions, ViewOptions
from datamodules.sampling.order_options import OrderOptions
from datamodules.storage.remote_options import RemoteOptions
from datamodules.transforms.augmentation_options import AugmentationOptions
from datamodules.transforms.yuv420 import check_yuv420_options


@dataclass(frozen=True, kw_only=True)
class DataOptions(  # the fields of the last base come first
    RemoteOptions,
    LoaderOptions,
    OrderOptions,
    SplitOptions,
    AugmentationOptions,
    FrameOptions,
    ViewOptions,
    ClipOptions,
):
    """Options of `ShardedVideoDataModule`.

    Attributes:
        captions: add the videos' captions to the batches (class names if there are none), for captioning networks.
        max_skipped_fraction: share of an epoch's videos that may fail to decode in training before the run ends.
        allow_missing: in tests and predictions, leave out videos that cannot be decoded and list them in their batch,
            instead of failing.
        eval_batch_bytes: bound on the clips of an evaluation batch, in bytes.
        resume_on_other_data: allow a run to resume on other videos than its checkpoint was trained on: another dataset,
            of which the interrupted epoch then sees every video, or another split, fold or order.
    """

    captions: bool = False
    max_skipped_fraction: float = 0.01
    allow_missing: bool = False
    eval_batch_bytes: int = 2**26
    resume_on_other_data: bool = False

    def check(self) -> None:
        """Raises ValueError for conflicting options of different groups."""
        if self.test_sampling == "whole" and self.max_frames < self.num_frames:
            raise ValueError(f"max_frames={self.max_frames}: must be at least num_frames={self.num_frames}")
        if self.segments and (self.test_sampling != "uniform" or self.clip_step is not None):
            raise ValueError(
                "segments=true: its clips span the whole video; use test_sampling='uniform' and no clip_step"
            )
        if self.stream != "rgb":
            pixels = None if self.pixels == "rgb" else self.pixels
            for name, value in (
                ("rand_augment", self.rand_augment),
                ("color_jitter", self.color_jitter),
                ("pixels", pixels),
            ):
                if value is not None:
                    raise ValueError(f"{name}, stream={self.stream!r}: is for RGB alone; leave {name} out")
        check_yuv420_options(self.pixels, self.decoder, self.random_resized_crop)
