"""`ClipBatch`: the one contract between data and models.

Axis letters, used everywhere in this repository: B videos in a batch, N clips in a batch, T frames of a clip,
H height, W width, C channels (3, RGB), D features, K classes.
"""

from typing import NamedTuple

from torch import Tensor


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
        clip_times: float64 (N, 2), start and end of each clip in its video, in seconds.
        num_skipped: videos planned for this batch that could not be decoded and are missing from it (training only).
        pixel_format: `rgb`; the only function that cares is `VideoClassifier.normalize`.
    """

    clips: Tensor
    video_index: Tensor
    labels: Tensor
    keys: list[str]
    rows: Tensor
    clip_times: Tensor
    num_skipped: int = 0
    pixel_format: str = "rgb"

    @property
    def num_videos(self) -> int:
        """B, the number of videos in this batch."""
        return len(self.keys)
