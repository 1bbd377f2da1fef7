"""Labels of the frames of a clip, from labels by time: index arithmetic without I/O."""

from collections.abc import Sequence

import numpy as np

from datamodules.sampling.clip_shape import Integers, Seconds

UNLABELLED = -1  # label of a frame that does not count in loss and metrics
_TOLERANCE_S = 1e-6  # a frame at 1/25 s belongs to a part from 0.04 s on, whatever its binary form


def frame_labels(
    numbers: Integers,
    moments: Seconds,
    timeline: Sequence[tuple[int, float, float]],
    video_frames: int,
    num_classes: int | None = None,
) -> Integers:
    """The labels of the frames of a clip: of each part of the timeline that a frame begins in.

    Frames that only lengthen a clip of a shorter video are `UNLABELLED`. By hand, for a video of 4 frames a second and
    the parts (1, 0.0, 0.5) and (0, 0.5, 1.0): frames 0, 1, 2, 3 and again 0 have the labels 1, 1, 0, 0 and -1.

    Args:
        numbers: int64 (T,), frame numbers of the clip.
        moments: float64 (T,), when each of them is first shown, in seconds from the first frame of the video.
        timeline: class index, start and end in seconds of each labelled part.
        video_frames: number of frames of the video.
        num_classes: K, where a frame may have several labels; None: it has one.

    Returns:
        int64 (T,), class indices, -1 for a frame without a label; with `num_classes` int64 (T, K), 1 for each class of
        the frame, else 0, and -1 for a frame that does not count.
    """
    labels: Integers
    if num_classes is None:
        labels = np.full(len(numbers), UNLABELLED, np.int64)
    else:
        labels = np.zeros((len(numbers), num_classes), np.int64)
    for label, start, end in timeline:
        inside = (moments >= start - _TOLERANCE_S) & (moments < end - _TOLERANCE_S)
        if num_classes is None:
            labels[inside] = label
        else:
            labels[inside, label] = 1
    labels[is_padding(numbers, video_frames)] = UNLABELLED
    return labels


def is_padding(numbers: Integers, video_frames: int) -> np.ndarray:
    """Whether each frame of a clip only lengthens it: the video began again, or its last frame was repeated.

    At a higher rate than the video's, the repetitions of its last frame count as such, too.

    >>> is_padding(np.array([2, 3, 0, 1]), 4).tolist(), is_padding(np.array([2, 3, 3, 3]), 4).tolist()
    ([False, False, True, True], [False, False, True, True])

    Args:
        numbers: int64 (T,), frame numbers of the clip.
        video_frames: number of frames of the video.

    Returns:
        bool (T,).
    """
    ended = (np.diff(numbers) < 0) | ((numbers[1:] == numbers[:-1]) & (numbers[1:] == video_frames - 1))
    padding: np.ndarray = np.concatenate([[False], np.logical_or.accumulate(ended)])
    return padding
