"""Which frames a video has and when each is shown: by its packets where they tell, else by decoding all of it.

The decoder's output, in its order, says which frames there are: what `ffmpeg -fps_mode passthrough` gives. Sorted
presentation times do not: the clock of joined files starts again, the first pictures of a cut file may refer to what
was cut away and are never shown, and packets may hold no frame. Where nothing of that kind is seen in the packets,
they number the frames without any decoding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import count, pairwise
from statistics import median_low
from typing import Literal, NamedTuple, Self

import av
import av.container
import av.logging
import av.video
import numpy as np

from datamodules.video.mp4_writer import as_rate
from datamodules.video.packets import PacketFacts, clock_restarts, facts_of, in_order, packets_number_frames
from datamodules.video.truncation import clock_may_jump, find_truncation, is_cut_off
from datamodules.video.video_container import (
    DAMAGED,
    MAX_FRAMES,
    NO_FRAMES,
    TOO_LARGE,
    TRUNCATED,
    DecodeError,
    Source,
    iterate_frames,
    library_errors,
    open_video,
)
from datamodules.video.video_streams import candidate_streams

# Forward jumps that FFmpeg's command takes for another clock: in formats whose clocks jump, such as transport streams
# (-dts_delta_threshold), and in any (-dts_error_threshold); seconds.
NEW_CLOCK_S = 10
BROKEN_CLOCK_S = 30 * 3600

Trust = Literal["exact", "ordered", "nothing"]


class FrameTable(NamedTuple):
    """The frames of a video in the order in which they are shown, which is that in which decoding gives them.

    Attributes:
        ticks: when each is shown, in `time_base` from the first one's 0, never descending: clocks are mended.
        time_base: seconds.
        rate: average frames a second.
        duration: seconds, from the first frame's start to the last one's end.
        variable_rate: the frames are not evenly spaced, to half of the average distance.
        clock_jumps: places where the file's clock started again or jumped, which were closed.
        other_streams: further video streams of the file, covers not counted.
        flaw: empty, or why the file cannot be whole, by its container.
    """

    ticks: list[int]
    time_base: Fraction
    rate: Fraction
    duration: Fraction
    variable_rate: bool = False
    clock_jumps: int = 0
    other_streams: int = 0
    flaw: str = ""

    @property
    def num_frames(self) -> int:
        """F, the number of frames."""
        return len(self.ticks)


def count_steps(progress: Callable[[int], None] | None) -> Callable[[], None]:
    """What to call after each step of a long work, so that `progress` is told how many were done."""
    steps = count(1)
    return (lambda: None) if progress is None else lambda: progress(next(steps))


def read_frame_table(source: Source, trust: Trust = "exact", moved: Callable[[], None] = lambda: None) -> FrameTable:
    """Counts and times the frames of a video.

    Args:
        source: the bytes of a video file, or its path.
        trust: the packets of which files number the frames: `exact`, of those where nothing speaks against it;
            `ordered`, also of containers that do not list their frames (transport streams and others), for callers
            that decode all of it anyway and count what comes out; `nothing`, all is decoded.
        moved: called after each packet that was read and each frame that was decoded.

    Raises:
        DecodeError: the file cannot be opened or read, or has to be decoded and cannot be.
    """
    with open_video(source) as (container, stream), library_errors("the packets cannot be read"):
        packets: list[PacketFacts] = []
        last = None
        for packet in container.demux(stream):
            if packet.size:
                moved()
                packets.append(facts_of(packet, stream.codec_context))
                last = packet
            if len(packets) > MAX_FRAMES:
                raise DecodeError(f"it has more than {MAX_FRAMES} frames", TOO_LARGE)
        flaw = "its last packets are cut off" if is_cut_off(container, last) else ""
        flaw = find_truncation(source, container, stream) or flaw
        clock = _Clock.of(container, stream, packets)
        by_packets = packets_number_frames(packets, container.format.name) or (trust == "ordered" and in_order(packets))
        others = len(candidate_streams(container)) - 1
    shown = [packet for packet in packets if packet.shown]
    if trust == "nothing" or not by_packets:
        try:
            table = _decode_table(source, packets, clock, moved)
        except DecodeError as error:
            if flaw:
                raise DecodeError(f"the video is truncated: {flaw}", TRUNCATED) from error
            raise
    elif clock.counts_packets:
        table = clock.table([packet.dts or 0 for packet in shown])
    else:
        table = clock.table(sorted(packet.pts or 0 for packet in shown))
    return table._replace(other_streams=others, flaw=flaw)


class _Clock(NamedTuple):
    """How the times of a file are read.

    Attributes:
        time_base: seconds.
        rate: frames a second by the header.
        last_duration: of the frame that is shown last, in `time_base`; 0 where the file does not say.
        jumps_s: seconds; a longer way to the next frame is another clock.
        counts_packets: the decoding times are the frames' times, as in AVI, where a packet's number is its time and
            what FFmpeg makes of it around B-frames is wrong, and where there are no others.
    """

    time_base: Fraction
    rate: Fraction
    last_duration: int
    jumps_s: int
    counts_packets: bool

    @classmethod
    def of(
        cls, container: av.container.InputContainer, stream: av.video.VideoStream, packets: Sequence[PacketFacts]
    ) -> Self:
        """The clock of an open video."""
        latest = max(packets, key=lambda packet: (packet.shown, packet.pts or 0), default=None)
        counted = container.format.name == "avi" or all(packet.pts is None for packet in packets)
        return cls(
            stream.time_base or Fraction(1, 1),
            Fraction(stream.average_rate or stream.guessed_rate or 25),
            0 if latest is None or counted else latest.duration,
            NEW_CLOCK_S if clock_may_jump(container) else BROKEN_CLOCK_S,
            counted,
        )

    def numbered(self, count: int) -> FrameTable:
        """A table of frames that have no times: evenly spaced at the header's rate, which no time confirms.

        So a rate of less than one a second is not believed: a single frame would last for hours.
        """
        rate = max(self.rate, Fraction(1))
        return FrameTable(list(range(count)), 1 / rate, rate, count / rate)

    def table(self, times: Sequence[int]) -> FrameTable:
        """A table of frames by their times, in `time_base` and in the order in which the frames are shown.

        Where the clock starts again or jumps, the frame after it follows at the usual distance.
        """
        count = len(times)
        steps = [after - before for before, after in pairwise(times)]
        if not any(step > 0 for step in steps):
            return self.numbered(count)
        usual = median_low([step for step in steps if step > 0])
        limit = self.jumps_s / self.time_base
        ticks, jumps = [0], 0
        for step in steps:
            jumped = step < 0 or step > limit
            jumps += jumped
            ticks.append(ticks[-1] + (usual if jumped else step))
        duration = (ticks[-1] + (self.last_duration or Fraction(ticks[-1], count - 1))) * self.time_base
        variable = _is_variable(ticks)
        # The header's rate stands unless it is not what the frames do.
        counted = as_rate(count / duration)
        rate = counted if variable or abs(self.rate * duration - count) >= 1 else self.rate
        return FrameTable(ticks, self.time_base, rate, duration, variable, jumps)


def _is_variable(ticks: Sequence[int]) -> bool:
    """Whether a frame lies half a frame's time or more beside its place in an even row from the first to the last."""
    even = np.linspace(ticks[0], ticks[-1], len(ticks))
    step = (ticks[-1] - ticks[0]) / max(1, len(ticks) - 1)
    return bool(np.abs(np.array(ticks, np.float64) - even).max() >= step / 2)


def _decode_table(
    source: Source, packets: Sequence[PacketFacts], clock: _Clock, moved: Callable[[], None]
) -> FrameTable:
    """The table of all frames that come out.

    Raises:
        DecodeError: there is none, one does not decode, or some are missing and the decoder said why.
    """
    times: list[int | None] = []
    about_the_beginning = 0
    with _decoder_messages() as messages:
        for frame in iterate_frames(source):
            about_the_beginning = about_the_beginning if times else len(messages)
            times.append(frame.pts)
            moved()
    if not times:
        raise DecodeError("the video has no frames", NO_FRAMES)
    missing = _num_decodable(packets) - len(times)
    if missing > 0 and len(messages) > about_the_beginning:
        raise DecodeError(
            f"only {len(times)} of {len(times) + missing} frames decode ({messages[-1][2].strip()})", DAMAGED
        )
    decoding = [packet.dts for packet in packets if packet.shown and packet.dts is not None]
    if clock.counts_packets:
        in_step = len(decoding) == len(times)
        return clock.table(decoding) if in_step else clock.numbered(len(times))
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return clock.numbered(len(times))
    if len(set(known)) == len(known) and not clock_restarts(packets):
        known.sort()  # one clock: where times go back all the same, the file gives them in decoding order
    return clock.table(known)


def _num_decodable(packets: Sequence[PacketFacts]) -> int:
    """Frames that the packets announce, without those at the beginning that refer to what was cut away."""
    first = next((number for number, packet in enumerate(packets) if packet.key), 0)
    second = next((number for number, packet in enumerate(packets) if packet.key and number > first), len(packets))
    start = packets[first].pts if packets else None
    leading = [p for p in packets[first:second] if p.pts is not None and start is not None and p.pts < start]
    return sum(packet.shown for packet in packets[first:]) - sum(packet.shown for packet in leading)


@contextmanager
def _decoder_messages() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg logs in this thread meanwhile, errors alone: level, who and what of each."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as messages:
            yield messages
    finally:
        av.logging.set_level(before)
