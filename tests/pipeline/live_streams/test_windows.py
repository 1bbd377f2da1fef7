"""Frames, windows, clocks and mailbox of a live stream, by numbers checked by hand."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from datamodules.sampling.clip_sampling import ClipShape
from datamodules.sampling.frame_times import FrameTimes
from pipeline.live_streams.frame_selection import FrameSelection
from pipeline.live_streams.mailbox import Delivery, Mailbox, StreamEvent
from pipeline.live_streams.smoothing import ExponentialMean
from pipeline.live_streams.stream_clock import Backlog, StreamClock
from pipeline.live_streams.stream_reader import WindowShape
from pipeline.live_streams.windows import Window, WindowBuilder


def selected(fps: float | None, interval: int, times: list[float], frame_s: float) -> list[tuple[int, float]]:
    selection: FrameSelection[int] = FrameSelection(fps, interval)
    taken = [pair for number, time in enumerate(times) for pair in selection.add(number, time)]
    return taken + list(selection.finish(frame_s))


def test_every_third_frame() -> None:
    assert selected(None, 3, [0.0, 0.1, 0.2, 0.5, 0.6], 0.1) == [(0, 0.0), (3, 0.5)]


def test_frames_at_a_rate_are_those_shown() -> None:
    """By hand: frames shown at 0, 1, 2, 6 and 8 s, the last until 10 s, one a second."""
    taken = selected(1.0, 1, [0.0, 1.0, 2.0, 6.0, 8.0], 2.0)
    assert [number for number, _ in taken] == [0, 1, 2, 2, 2, 2, 3, 3, 4, 4]
    assert [time for _, time in taken] == list(range(10))


@pytest.mark.parametrize("fps", [2.0, 12.5, 30.0, 50.0])
def test_frames_at_a_rate_are_those_of_a_file(fps: float) -> None:
    """As `classify` takes them of a file whose times, in milliseconds, are uneven."""
    times = np.round(np.cumsum([0, *np.random.default_rng(0).uniform(0.01, 0.09, 80)]), 3)
    rate = len(times) / (times[-1] + 0.05)
    moments = np.arange(int(times[-1] * fps)) / fps
    expected = FrameTimes(times, len(times), rate).frames_at(moments)
    assert [number for number, _ in selected(fps, 1, times.tolist(), 0.05)][: len(moments)] == expected.tolist()


def windows_of(count: int, stride_s: float, num_frames: int = 4, spacing_s: float = 0.1) -> tuple[list[Window], int]:
    """Windows of frames 0.1 s apart, and how many frames were loaded."""
    builder, found, loaded = WindowBuilder(num_frames, spacing_s, stride_s), [], 0

    def load(number: int) -> Callable[[], torch.Tensor]:
        def pixels() -> torch.Tensor:
            nonlocal loaded
            loaded += 1
            return torch.full((1, 1, 3), number, dtype=torch.uint8)

        return pixels

    for number in range(count):
        window = builder.add(load(number), number * spacing_s, 100.0 + number)
        found += [window] if window else []
    return found, loaded


def numbers(window: Window) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in window.frames]


def test_windows_overlap() -> None:
    found, loaded = windows_of(9, 0.2)
    assert [numbers(window) for window in found] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert [(window.first, round(window.start_s, 3), round(window.end_s, 3)) for window in found] == [
        (0, 0.0, 0.4),
        (2, 0.2, 0.6),
        (4, 0.4, 0.8),
    ]
    assert (found[0].arrived, loaded) == (103.0, 9)


def test_windows_with_gaps_load_only_their_frames() -> None:
    found, loaded = windows_of(13, 0.6)
    assert [numbers(window) for window in found] == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert loaded == 9  # and frame 12, of the window that is not complete


def test_strides_that_are_no_multiple_of_a_frame() -> None:
    """At 0.25 s steps: the frames nearest to 0, 0.25, 0.5, 0.75 s."""
    found, _ = windows_of(12, 0.25)
    assert [window.first for window in found] == [0, 2, 5, 7]


def test_a_stride_below_a_frame_is_a_window_a_frame() -> None:
    assert [window.first for window in windows_of(6, 0.01)[0]] == [0, 1, 2]


def test_after_a_pause_windows_keep_their_places() -> None:
    builder = WindowBuilder(2, 0.1, 1.0)
    times = [0.0, 0.1, 5.0, 5.1, 5.2, 5.9, 6.0]
    found = [builder.add(lambda: torch.zeros(1, 1, 3), time, 0.0) for time in times]
    assert [(window.start_s, round(window.end_s, 3)) for window in found if window] == [
        (0.0, 0.2),
        (5.0, 5.2),
    ]


def test_the_length_of_a_window_in_frames() -> None:
    by_number = WindowShape(ClipShape(16, frame_interval=2), 16, 2.0, None)
    assert (by_number.frame_rate(30.0), by_number.num_frames(30.0)) == (15.0, 30)
    assert by_number._replace(window_s=None).num_frames(30.0) == 16
    assert WindowShape(ClipShape(8, fps=4.0), 8, 5.0, None).num_frames(30.0) == 20
    with pytest.raises(ValueError, match=r"window=0\.5: is shorter than a clip of the network, 16 frames of 15 a sec"):
        by_number._replace(window_s=0.5).num_frames(30.0)


def repaired(timestamps: list[float | None]) -> tuple[list[float], int]:
    clock = StreamClock(0.5)
    return [clock.time_of(timestamp) for timestamp in timestamps], clock.jumps


@pytest.mark.parametrize(
    ("timestamps", "times", "jumps"),
    [
        ([7.0, 7.5, 8.25], [0, 0.5, 1.25], 0),
        ([None, None, None], [0, 0.5, 1.0], 3),
        ([95443.0, 95443.5, 0.25, 0.75], [0, 0.5, 1.0, 1.5], 1),  # 2^33 / 90 kHz: the counter of MPEG wraps
        ([0.0, 0.5, 9.5, 20.0], [0, 0.5, 9.5, 10.0], 1),  # a pause of 9 s, then a jump of more than 10
        ([3.0, 3.0, 3.0, 3.5], [0, 0.5, 1.0, 1.5], 2),
        ([1.0, None, 2.0], [0, 0.5, 1.0], 1),
    ],
)
def test_a_clock_ascends_whatever_the_timestamps(
    timestamps: list[float | None], times: list[float], jumps: int
) -> None:
    assert repaired(timestamps) == (times, jumps)


def test_a_skip_is_no_jump() -> None:
    clock = StreamClock(0.5)
    assert clock.estimate(1.0) is None
    clock.time_of(1.0)
    assert clock.estimate(1.5) == 0.5
    clock.skip()
    assert (clock.time_of(61.0), clock.time_of(61.5), clock.jumps) == (60.0, 60.5, 0)


def test_a_backlog_is_noticed_and_worked_off() -> None:
    """Frames of 0.04 s, each decoded in 0.06 s: 2 s behind after 100 of them; then discarded, 1 ms each."""
    backlog, now, behind_at = Backlog(2.0), 0.0, 0
    for number in range(200):
        if backlog.observe(now, number * 0.04, 0.0005):
            behind_at = number
            break
        now += 0.06
    assert behind_at == 101
    caught_up = next(n for n in range(behind_at, 1000) if not backlog.observe(now + 1e-3 * n, n * 0.04, 0.0005))
    assert 135 < caught_up < 150  # 1.5 s / 0.039 s later


def test_bursts_drift_and_waits_are_no_backlog() -> None:
    backlog = Backlog(2.0)
    for segment in range(20):  # six seconds at once, every six seconds
        for number in range(150):
            waited_s = 5.9 if number == 0 else 1e-4
            assert not backlog.observe(6.0 * segment + 1e-3 * number, 6.0 * segment + 0.04 * number, waited_s)
    drifting = Backlog(2.0)  # 100 parts in a million, for three days
    assert not any(drifting.observe(now * (1 + 1e-4), float(now), 0.01) for now in range(0, 259_200, 10))
    stalled = Backlog(2.0)
    assert not stalled.observe(0.0, 0.0, 0.0)
    assert not stalled.observe(30.0, 0.04, 29.9)  # nothing came meanwhile: nothing is left to read
    assert stalled.observe(33.0, 0.08, 0.001)


def window_at(first: int, count: int = 4) -> Window:
    return Window([torch.zeros(1, 1, 3)] * count, first, first / 10, (first + count) / 10, 0.0)


def test_a_mailbox_keeps_the_newest_window_and_counts_the_others() -> None:
    mailbox = Mailbox(False, lambda: False)
    mailbox.put(window_at(0))
    first_delivery = mailbox.take(1)
    assert isinstance(first_delivery, Delivery)
    assert (first_delivery.window.first, first_delivery.skipped, first_delivery.dropped) == (0, 0, 0)
    for first in (2, 4, 6, 12):  # frames 4 to 9 and 12 to 15 are those of windows not taken yet
        mailbox.put(window_at(first))
        mailbox.put_event(StreamEvent("changed", {}))
    events = [mailbox.take(1) for _ in range(3)]
    delivery = mailbox.take(1)
    assert all(isinstance(event, StreamEvent) for event in events)
    assert isinstance(delivery, Delivery)
    assert (delivery.window.first, delivery.skipped, delivery.dropped) == (12, 3, 6)
    assert isinstance(mailbox.take(1), StreamEvent)
    mailbox.count_dropped(5)
    mailbox.put(window_at(14))
    delivery = mailbox.take(1)
    assert isinstance(delivery, Delivery)
    assert (delivery.skipped, delivery.dropped) == (0, 5)
    assert mailbox.take(0.01) is None


def test_a_mailbox_that_waits_loses_nothing() -> None:
    mailbox = Mailbox(True, lambda: False)
    writer = threading.Thread(target=lambda: [mailbox.put(window_at(first)) for first in range(20)], daemon=True)
    writer.start()
    taken = [mailbox.take(60) for _ in range(20)]
    assert [item.window.first for item in taken if isinstance(item, Delivery)] == list(range(20))
    assert all(item.skipped == item.dropped == 0 for item in taken if isinstance(item, Delivery))


def test_smoothing_falls_to_a_half_in_a_half_life() -> None:
    mean = ExponentialMean(2.0)
    assert [mean.add(np.array([value]), time).item() for value, time in ((1.0, 10), (0.0, 12), (0.0, 16))] == [
        1.0,
        0.5,
        0.125,
    ]
    none = ExponentialMean(0.0)
    assert [none.add(np.array([value]), time).item() for value, time in ((1.0, 0), (0.0, 1))] == [1.0, 0.0]
