"""`ClipBatch`: the data structure passed from the data loader to the networks.

Axis letters, used everywhere in this repository: B videos in a batch, N clips in a batch, T frames of a clip,
H height, W width, C channels (`STREAM_CHANNELS`), D features, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor

# What clips are of: RGB; optical flow, x (right) and y (down); or both, as R, G, B, x, y.
Stream = Literal["rgb", "flow", "both"]
STREAM_CHANNELS: dict[Stream, int] = {"rgb": 3, "flow": 2, "both": 5}
# Levels of optical flow: 128 is no motion, 1 is 20 pixels left or up, 255 is 20 pixels right or down. As values in
# [0, 1] of this mean and standard deviation, they are normalized to [-1, 1].
FLOW_ZERO_LEVEL, FLOW_HALF_RANGE = 128, 127
FLOW_MEAN, FLOW_STD = FLOW_ZERO_LEVEL / 255, FLOW_HALF_RANGE / 255

# Returns a uint8 tensor of the given shape and arbitrary content, into which a batch is written.
Allocate = Callable[[tuple[int, ...]], Tensor]


class BufferLease(Protocol):
    """A lease of shared memory: the worker that wrote a batch into it waits for its return."""

    def return_block(self) -> None:
        """Ends the lease: nothing refers to the block any more, and its worker may overwrite it."""

    def pin_memory(self) -> None:
        """Called by torch, which pins a batch field by field, after the clips were copied."""


class Window(NamedTuple):
    """The part of a video's frames that a clip shows, in pixels of the frames after resizing.

    A clip whose size differs from its window's was resized from the window (`random_resized_crop`).

    Attributes:
        frame_height: height of the whole frame.
        frame_width: width of the whole frame.
        top: first row of the window.
        left: first column of the window.
        height: height of the window.
        width: width of the window.
        mirrored: left and right are swapped.
    """

    frame_height: int
    frame_width: int
    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


class ClipBatch(NamedTuple):
    """A batch of videos, each with all its clips; the clips of all videos are along one axis.

    A named tuple, because torch's `pin_memory` and Lightning's transfer to the device recurse into named tuples. All
    views of a video are in the same batch, so averaging over them needs no communication. A batch may have no videos
    (B = N = 0): a rank with fewer videos than the others takes empty batches so that all ranks step together.

    Attributes:
        clips: uint8 (N, T, H, W, C), channels last in memory as decoded: RGB in [0, 255] (C is 3), levels of optical
            flow (C is 2), or both (C is 5); see `STREAM_CHANNELS`.
        video_index: int64 (N,), index of each clip's video in `labels` and `keys`, in [0, B).
        labels: int64 (B,), class indices in [0, K), -1 for a video without a label; in a dataset of several labels
            uint8 (B, K), 1 for each class of the video, else 0 (`multi_hot`).
        keys: the B keys of the videos, unique within a dataset.
        rows: int64 (B,), row of each video in the dataset's index.
        clip_times: float64 (N, 2), start and end of each clip in its video, in seconds: from the start of its earliest
            frame to the end of its latest one, in videos of variable rate too.
        num_skipped: number of videos planned for this batch that could not be decoded and are missing from it, in
            training and in tests that allow it.
        pixel_format: `rgb`; or `i420`, planar YUV 4:2:0 with half the bytes, where `clips` is uint8 (N, T, 3h, 2w) in
            the layout of `datamodules.transforms.yuv420`, and only `datamodules.transforms.yuv420.to_rgb` reads it.
        frame_numbers: int64 (N, T), frame numbers of each clip in its video, from 0.
        windows: N windows, the part of the frames that each clip shows.
        videos_of_clips: `video_index` as numbers, where captions are trained on; None elsewhere.
        seeds: N keys of the augmentation on the device, each derived from (seed, epoch, sample, view); None in
            evaluation, which does not augment.
        frame_labels: int64, labels of the frames of each clip, in a dataset of labels by time: (N, T), class indices;
            or with several labels a frame (N, T, K), 1 or 0. -1 for frames that do not count. None in other datasets.
        captions: one or more sentences for each of the B videos that describe it, or its class name where the dataset
            has no captions; None if captions are not loaded.
        failed: index row, category of the reason, and description of each video that could not be decoded,
            in order.
        num_quarantined: number of planned videos that are quarantined and missing from the batch (training only).
        load_seconds: time that the worker took to read, decode and crop this batch.
        crops_to_cut: number of crops in each clip; above 1, `clips` is wider than high, clips are padded on the right,
            clips of portrait videos are transposed, and only `datamodules.transforms.three_crops.cut_crops` reads it.
        colors: int32 (N, 6), color conversion factors of each clip (`datamodules.transforms.yuv420.color_factors`);
            None for `rgb`.
        lease: lease of the shared memory of `clips`, from a worker to its loader, which removes it; None elsewhere.

    The fields that Python code reads, `windows`, `videos_of_clips` and `seeds`, are lists on the host: reading values
    of a tensor on the device would wait for all of its queued work.
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
    videos_of_clips: list[int] | None = None
    seeds: list[int] | None = None
    crops_to_cut: int = 1
    frame_labels: Tensor | None = None
    captions: list[list[str]] | None = None
    failed: Sequence[tuple[int, str, str]] = ()
    num_quarantined: int = 0
    load_seconds: float = 0.0
    colors: Tensor | None = None
    lease: BufferLease | None = None

    @classmethod
    def from_clips(cls, clips: Tensor) -> Self:
        """A batch of one video that is not from a dataset, given its clips: uint8 (N, T, H, W, C)."""
        return cls.from_clips_of_videos([clips])

    @classmethod
    def from_clips_of_videos(cls, videos: Sequence[Tensor]) -> Self:
        """A batch of B videos that are not from a dataset, given the clips of each: uint8 (N, T, H, W, C), any N."""
        zeros = torch.zeros(len(videos), dtype=torch.int64)
        counts = torch.tensor([len(clips) for clips in videos])
        return cls(
            clips=torch.cat(list(videos)),
            video_index=torch.repeat_interleave(torch.arange(len(videos)), counts),
            labels=zeros,
            keys=[""] * len(videos),
            rows=zeros,
            clip_times=torch.zeros(int(counts.sum()), 2, dtype=torch.float64),
        )

    def to(self, device: torch.device) -> Self:
        """The batch with its tensors on a device; Lightning would look for tensors in every list, too."""
        tensors: dict[str, Any] = {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
        return self._replace(**{name: value.to(device, non_blocking=True) for name, value in tensors.items()})

    @property
    def num_videos(self) -> int:
        """B, the number of videos in this batch."""
        return len(self.keys)

    @property
    def views_per_video(self) -> Tensor:
        """Number of clips of each video, int64 (B,); the host does not wait for it, as `torch.bincount` would."""
        counts = self.video_index.new_zeros(self.num_videos)
        return counts.index_add_(0, self.video_index, torch.ones_like(self.video_index))


def multi_hot(labels: Sequence[Sequence[int]], num_classes: int) -> Tensor:
    """The classes of B videos as a matrix: uint8 (B, K), 1 where the video has the class, else 0.

    >>> multi_hot([[0, 2], []], 3).tolist()
    [[1, 0, 1], [0, 0, 0]]

    Args:
        labels: class indices of each video, in [0, K); any number of them.
        num_classes: number of classes, K.
    """
    matrix = torch.zeros((len(labels), num_classes), dtype=torch.uint8)
    for row, of_video in zip(matrix, labels, strict=True):
        row[list(of_video)] = 1
    return matrix
