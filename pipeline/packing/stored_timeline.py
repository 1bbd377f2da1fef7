"""`stored_timeline`: the labels by time of a video as they are stored beside it."""

from collections.abc import Callable
from typing import Any

from datamodules.annotations.records import Timeline, VideoRecord
from datamodules.timed_lists.timelines import complete_timeline, timeline_in_seconds


def stored_timeline(
    record: VideoRecord, duration_s: float, background: str | None, call: Callable[..., Any]
) -> Timeline | None:
    """The labels of a whole file in seconds, cut at its end, with background between them; None where it has none.

    Args:
        record: the video.
        duration_s: its duration as stored.
        background: class of the time without a label; None leaves it without.
        call: calls a function, with its arguments, in the process that may read the video.

    Raises:
        DecodeError: a part lies outside of the video.
    """
    if record.timeline is None:
        return None
    timeline = call(timeline_in_seconds, record.path, record.timeline, record.frames_per_second)
    return complete_timeline(timeline, duration_s, background)
