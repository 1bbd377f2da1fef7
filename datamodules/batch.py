"""`ClipBatch`: the one contract between data and models.

Axis letters, used everywhere in this repository: B videos in a batch, N clips in a batch, T frames of a clip,
H height, W width, C channels (3, RGB), D features, K classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

# From a shape to a uint8 tensor, of any content, that a batch is written to.
Allocate = Callable[[tuple[int, ...]], Tensor]


class BufferLease(Protocol):
    """The use of a block of memory that is shared with the worker that wrote a batch into it."""

    def give_back(self) -> None:
        """Nothing holds the block any more: its worker may write to it."""

    def pin_memory(self) -> None:
        """Called by torch, which pins a batch field by field, this one after the clips: they have been copied."""


class Window(NamedTuple):
    """The part of a video's frames that a clip shows, in pixels of the frames as they were after resizing.

    A clip whose window is larger or smaller than itself was resized from it (`random_resized_crop`).

    Attributes:
        frame_height: of the whole frame.
        frame_width: of the whole frame.
        top: first row of the window.
        left: first column of the window.
        height: of the window.
        width: of the window.
        mirrored: left and right are exchanged.
    """

    frame_height: int
    frame_width: int
    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


class ClipBatch(NamedTuple):
    """Whole videos, as clips laid flat.

    A named tuple, because torch's `pin_memory` and Lightning's transfer to the device look inside named tuples. All
    views of a video travel in the same batch, so averaging over them needs no other rank. A batch may hold no video at
    all (B = N = 0): a rank that has fewer videos than the others takes empty batches so that all ranks step together.

    Attributes:
        clips: uint8 (N, T, H, W, C), RGB in [0, 255], frames last in memory as they were decoded.
        video_index: int64 (N,), for each clip the position of its video in `labels` and `keys`, in [0, B).
        labels: int64 (B,), class indices in [0, K).
        keys: the B keys of the videos, unique within a dataset.
        rows: int64 (B,), the rows of the videos in the dataset's index.
        clip_times: float64 (N, 2), start and end of each clip in its video, in seconds: from when its earliest frame
            begins to be shown to when its latest one ends, also where the video's rate is variable.
        num_skipped: videos planned for this batch that could not be decoded and are missing from it, in training and in
            tests that allow it.
        pixel_format: `rgb`; or `i420`, planar YUV 4:2:0 at half the bytes, where `clips` is uint8 (N, T, 3h, 2w) as
            `datamodules.transforms.yuv420` tells, and nothing but `datamodules.transforms.yuv420.to_rgb` can read it.
        frame_numbers: int64 (N, T), which frames of its video each clip has, from 0.
        windows: N, which part of the frames each clip shows.
        seeds: N keys of the augmentation on the device, each of (seed, epoch, sample, view); None in evaluation, which
            augments nothing.
        captions: for each of the B videos one or more sentences that tell what is to be seen, the name of its class
            where the dataset has none; None where nobody asked for them.
        failed: of the videos that are missing, the row of each in the dataset's index and the reason, in order.
        num_quarantined: videos planned for this batch that are quarantined and missing from it (training only).
        load_seconds: what reading, decoding and cutting this batch took where it was done.
        crops_to_cut: crops that each clip still holds; above 1, `clips` is wider than high, clips are padded on the
            right, those of upright videos lie on their side, and nothing but
            `datamodules.transforms.three_crops.cut_crops` can read it.
        colors: int32 (N, 6), what each clip is converted to RGB with (`datamodules.transforms.yuv420.color_factors`);
            None in RGB.
        loan: of the memory of `clips`, from a worker to its loader, which takes it off; None everywhere else.

    What the program itself looks at, `windows` and `seeds`, are lists and stay on the host: asking the device for a
    tensor's values would wait for all that it has to do.
    """

    clips: Tensor
    video_index: Tensor
    labels: Tensor
    keys: list[str]
    rows: Tensor
    clip_times: Tensor
    num_skipped: int = 0
    pixel_format: str = "rgb"
    frame_numbers: Tensor | None = None
    windows: list[Window] | None = None
    seeds: list[int] | None = None
    crops_to_cut: int = 1
    captions: list[list[str]] | None = None
    failed: Sequence[tuple[int, str]] = ()
    num_quarantined: int = 0
    load_seconds: float = 0.0
    colors: Tensor | None = None
    loan: BufferLease | None = None

    @classmethod
    def of_video(cls, clips: Tensor) -> Self:
        """A batch of one video that is in no dataset, from its clips: uint8 (N, T, H, W, C)."""
        return cls.of_videos([clips])

    @classmethod
    def of_videos(cls, videos: Sequence[Tensor]) -> Self:
        """A batch of B videos that are in no dataset, from the clips of each: uint8 (N, T, H, W, C), N its own."""
        none = torch.zeros(len(videos), dtype=torch.int64)
        counts = torch.tensor([len(clips) for clips in videos])
        return cls(
            clips=torch.cat(list(videos)),
            video_index=torch.repeat_interleave(torch.arange(len(videos)), counts),
            labels=none,
            keys=[""] * len(videos),
            rows=none,
            clip_times=torch.zeros(int(counts.sum()), 2, dtype=torch.float64),
        )

    @property
    def num_videos(self) -> int:
        """B, the number of videos in this batch."""
        return len(self.keys)
