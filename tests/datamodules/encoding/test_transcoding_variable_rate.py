"""Transcoding of videos whose frames are not evenly spaced: times are kept, or the rate is made constant."""

import numpy as np
import pytest

from datamodules.encoding.transcoding import (
    EncodeProfile,
    SourceIrregularities,
    transcode,
)
from datamodules.video.decoding import (
    VideoInfo,
    probe,
    read_frame_times,
)
from tests.datamodules.encoding.test_transcoding import numbers, timed_video


def test_frames_of_a_variable_rate_keep_their_times():
    """10 frames in the first second, then 5 a second; the file says 40 ms for the last one: 20 frames in 2.84 s."""
    times = [100 * i for i in range(10)] + [1000 + 200 * i for i in range(10)]
    source = timed_video(times)
    video = transcode(source, EncodeProfile())
    assert numbers(video.data) == list(range(20))
    assert 1000 * read_frame_times(video.data) == pytest.approx(times, abs=0.1)
    assert video.info == VideoInfo(20, 20 / 2.84, 64, 48, 2.84, 0, "h264", variable_rate=True) == probe(video.data)
    assert video.notes == SourceIrregularities(variable_rate=True)
    assert probe(source)[:6] == video.info[:6]


def test_a_variable_rate_is_made_constant_where_that_is_asked_for():
    """At 5 a second every other frame of the first second is dropped, at 10 each later one is shown twice."""
    source = timed_video([100 * i for i in range(10)] + [1000 + 200 * i for i in range(10)])
    slow, fast = (transcode(source, EncodeProfile(fps=fps)) for fps in (5.0, 10.0))
    assert numbers(slow.data) == [0, 2, 4, 6, 8, *range(10, 20)]
    assert (slow.notes.frames_dropped, slow.notes.frames_repeated) == (5, 0)
    assert numbers(fast.data) == [*range(10), *np.repeat(range(10, 19), 2).tolist(), 19]
    assert (fast.notes.frames_dropped, fast.notes.frames_repeated) == (0, 9)
    assert not slow.info.variable_rate


@pytest.mark.parametrize("pause", [60_000, 3_600_000])
def test_a_pause_loses_no_frame(pause):
    times = [40 * i for i in range(20)] + [pause + 40 * i for i in range(20)]
    video = transcode(timed_video(times), EncodeProfile())
    assert numbers(video.data) == list(range(40))
    assert 1000 * read_frame_times(video.data) == pytest.approx(times, abs=1)
    assert video.notes == SourceIrregularities(variable_rate=True)


def test_one_frame_an_hour():
    video = transcode(timed_video([3_600_000 * i for i in range(5)], "mp4"), EncodeProfile())
    assert numbers(video.data) == list(range(5))
    assert probe(video.data) == video.info
    assert video.info.fps == pytest.approx(1 / 3600, rel=0.3)  # the file says 40 ms for the last frame


def test_jittered_times_lose_no_frame():
    """Matroska rounds 1/30 s to milliseconds: still 30 frames a second, each once."""
    video = transcode(timed_video([round(1000 * i / 30) for i in range(35)]), EncodeProfile())
    assert video.info.num_frames == 35
    assert numbers(video.data) == list(range(35))
