"""`FrameSelection`: which frames of a stream a network takes: every n-th, or those shown at a rate."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
_TOLERANCE_S = 1.001e-3  # containers round times to a millisecond, as in datamodules.sampling.frame_times


class FrameSelection(Generic[Frame]):
    """Selects frames one after the other, without those that follow.

    With a rate, moment k is k / fps seconds after the first frame, and its frame the one shown then: a frame comes out
    when the next one has come, several times where it is shown for long, and not at all where it is shown for less.

    Args:
        fps: frames a second to take; None: take every `interval`-th frame.
        interval: frames from one taken frame to the next, where `fps` is None.
    """

    def __init__(self, fps: float | None, interval: int) -> None:
        self._fps, self._interval = fps, interval
        self._count = 0  # frames that came; with a rate moments that went
        self._shown: tuple[Frame, float] | None = None

    def add(self, frame: Frame, time: float) -> Iterator[tuple[Frame, float]]:
        """Takes the next frame, shown from `time` seconds on; yields frames with the times that they are taken for."""
        if self._fps is None:
            if self._count % self._interval == 0:
                yield frame, time
            self._count += 1
            return
        yield from self._shown_until(time - _TOLERANCE_S)
        self._shown = frame, time

    def finish(self, frame_s: float) -> Iterator[tuple[Frame, float]]:
        """Yields what is left when the stream ends, its last frame shown for `frame_s` seconds."""
        if self._fps is not None and self._shown is not None:
            yield from self._shown_until(self._shown[1] + frame_s - 1e-6)

    def _shown_until(self, end: float) -> Iterator[tuple[Frame, float]]:
        assert self._fps is not None
        while self._shown is not None and self._count / self._fps < end:
            yield self._shown[0], self._count / self._fps
            self._count += 1
