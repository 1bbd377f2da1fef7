"""When each frame of a video is shown, where that is not evenly: which frame is shown at a moment."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDED_S = 1.001e-3  # containers round times to a millisecond (Matroska): a frame may be that late
_SAME_S = 1e-9  # moments that are added up may be that far from what is meant


class FrameTimes:
    """A video's frames in time.

    Args:
        times: float64 (F,), when each frame is shown, in seconds from the first one, ascending.
        video_frames: F.
        video_fps: frames a second on average: the last frame ends at F / video_fps.

    Attributes:
        end: when the last frame ends, in seconds.
        mean_frame_s: how long a frame is shown on average.

    Raises:
        ValueError: there are not as many times as frames.
    """

    def __init__(self, times: NDArray[np.float64], video_frames: int, video_fps: float) -> None:
        if times.shape != (video_frames,):
            raise ValueError(f"times has shape {times.shape}: must be ({video_frames},), one for each frame")
        self._times = times
        self.mean_frame_s = 1 / video_fps
        self.end = max(video_frames / video_fps, float(times[-1]) + _ROUNDED_S)

    def shown(self, moments: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """The frame shown at each moment, in seconds; from the end on the last one."""
        numbers = np.searchsorted(self._times, moments + _ROUNDED_S, side="right") - 1
        return np.clip(numbers, 0, len(self._times) - 1).astype(np.int64)

    def places(self, moments: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Between which frames each moment is: a frame's number when it begins to be shown, growing until the next."""
        places: NDArray[np.float64] = np.interp(moments, [*self._times, self.end], np.arange(len(self._times) + 1))
        return places

    def wrapped(self, moments: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The same moments where the video starts again whenever it ends."""
        return np.where(moments < self.end - _SAME_S, moments, np.mod(moments + _SAME_S, self.end))

    def fits(self, starts: NDArray[np.floating[Any]] | float, seconds: float) -> NDArray[np.bool_]:
        """Whether what begins at `starts` shows its last frame, `seconds` later, before the video ends."""
        return np.asarray(np.asarray(starts) + seconds < self.end - _SAME_S)

    def starts_of(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """When frames begin to be shown, in seconds."""
        starts: NDArray[np.float64] = self._times[numbers]
        return starts


def span_of(first: int, last: int, video_fps: float, times: NDArray[np.float64] | None) -> tuple[float, float]:
    """When the frame `first` of a video begins to be shown, and when the frame `last` ends, in seconds.

    Args:
        first: number of the frame.
        last: number of the frame.
        video_fps: frames a second, on average.
        times: float64 (F,), when each frame is shown; None for evenly.
    """
    if times is None:
        return first / video_fps, (last + 1) / video_fps
    if last + 1 < len(times):
        return float(times[first]), float(times[last + 1])
    return float(times[first]), FrameTimes(times, len(times), video_fps).end
