"""Frame times: the frame of a video that is shown at a given moment, for videos with unevenly spaced frames."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING_TOLERANCE_S = 1.001e-3  # tolerance: containers round times to a millisecond (Matroska)
_FLOAT_TOLERANCE_S = 1e-9  # tolerance for floating-point error in sums of times


class FrameTimes:
    """The presentation times of a video's frames.

    Args:
        times: float64 (F,), presentation time of each frame in seconds from the first, ascending.
        video_frames: F, number of frames.
        video_fps: average frames per second: the last frame ends at F / video_fps.

    Attributes:
        end: end of the last frame, in seconds.
        mean_frame_s: average duration of a frame, in seconds.

    Raises:
        ValueError: the number of times is not F.
    """

    def __init__(self, times: NDArray[np.float64], video_frames: int, video_fps: float) -> None:
        if times.shape != (video_frames,):
            raise ValueError(f"times has shape {times.shape}: must be ({video_frames},), one for each frame")
        self._times = times
        self.mean_frame_s = 1 / video_fps
        self.end = max(video_frames / video_fps, float(times[-1]) + _ROUNDING_TOLERANCE_S)

    def frames_at(self, moments: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Number of the frame shown at each moment (seconds); the last frame for moments after the end."""
        numbers = np.searchsorted(self._times, moments + _ROUNDING_TOLERANCE_S, side="right") - 1
        return np.clip(numbers, 0, len(self._times) - 1).astype(np.int64)

    def fractional_positions(self, moments: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Fractional frame positions of moments: a frame's number at its start, growing linearly until the next."""
        fractional_positions: NDArray[np.float64] = np.interp(
            moments, [*self._times, self.end], np.arange(len(self._times) + 1)
        )
        return fractional_positions

    def wrap(self, moments: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Moments modulo the video's duration: the video is repeated when it ends."""
        return np.where(
            moments < self.end - _FLOAT_TOLERANCE_S, moments, np.mod(moments + _FLOAT_TOLERANCE_S, self.end)
        )

    def fits(self, starts: NDArray[np.floating[Any]] | float, seconds: float) -> NDArray[np.bool_]:
        """Whether clips that begin at `starts` take their last frame, `seconds` later, before the video ends."""
        return np.asarray(np.asarray(starts) + seconds < self.end - _FLOAT_TOLERANCE_S)

    def start_times(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Presentation times of frames, in seconds."""
        starts: NDArray[np.float64] = self._times[numbers]
        return starts


def time_span(first: int, last: int, video_fps: float, times: NDArray[np.float64] | None) -> tuple[float, float]:
    """Start of the frame `first` of a video and end of the frame `last`, in seconds.

    Args:
        first: number of the first frame.
        last: number of the last frame.
        video_fps: average frames per second.
        times: float64 (F,), presentation time of each frame; None if evenly spaced.
    """
    if times is None:
        return first / video_fps, (last + 1) / video_fps
    if last + 1 < len(times):
        return float(times[first]), float(times[last + 1])
    return float(times[first]), FrameTimes(times, len(times), video_fps).end
