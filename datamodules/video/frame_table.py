"""Frame table: number and times of a video's frames, from its packets or, if these are unreliable, by decoding.

The frames of a video are those that the decoder outputs, in its order, as `ffmpeg -fps_mode passthrough` gives them.
Sorted presentation timestamps can differ from that: in joined files the clock starts again, the first pictures of a cut
file may refer to pictures that were cut away and are never shown, and packets may hold no frame. Where the packets show
no sign of any of these, they number the frames and nothing is decoded.
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
from datamodules.video.packets import (
    PacketInfo,
    has_clock_restart,
    num_decodable_frames,
    packets_are_ordered,
    packets_number_frames,
    read_packet_info,
)
from datamodules.video.truncation import clock_may_jump, find_truncation, is_last_packet_truncated
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

# Forward jumps in seconds that the FFmpeg command line treats as a new clock: in formats whose clocks may jump, such as
# transport streams (-dts_delta_threshold), and in all other formats (-dts_error_threshold).
NEW_CLOCK_S = 10
BROKEN_CLOCK_S = 30 * 3600

PacketTrust = Literal["exact", "ordered", "nothing"]


class FrameTable(NamedTuple):
    """The frames of a video in presentation order, which is also the decoder's output order.

    Attributes:
        ticks: presentation time of each frame in `time_base`, from 0, never descending: clock jumps are closed.
        time_base: seconds per tick.
        rate: average frame rate, frames per second.
        duration: seconds, from the first frame's start to the last one's end.
        variable_rate: a frame is half of the average frame duration or more away from even spacing.
        clock_jumps: number of places where the file's clock started again or jumped, and was corrected.
        other_streams: number of further video streams in the file, without cover pictures.
        truncation: why the file must be truncated, by its container's header; empty otherwise.
    """

    ticks: list[int]
    time_base: Fraction
    rate: Fraction
    duration: Fraction
    variable_rate: bool = False
    clock_jumps: int = 0
    other_streams: int = 0
    truncation: str = ""

    @property
    def num_frames(self) -> int:
        """The number of frames, F."""
        return len(self.ticks)

    def time(self, frame: int) -> Fraction:
        """The time at which a frame is first shown, in seconds; `num_frames` gives the end of the last one."""
        return self.ticks[frame] * self.time_base if frame < len(self.ticks) else self.duration

    def part(self, first: int, stop: int) -> "FrameTable":
        """The table of the frames from `first` to before `stop`, as of a file that holds these alone."""
        ticks = [tick - self.ticks[first] for tick in self.ticks[first:stop]]
        duration = self.time(stop) - self.time(first)
        variable = len(ticks) > 1 and _is_variable(ticks)
        rate = _choose_rate(self.rate, len(ticks), duration, variable)
        return self._replace(ticks=ticks, duration=duration, variable_rate=variable, rate=rate)


def count_steps(progress: Callable[[int], None] | None) -> Callable[[], None]:
    """A callback to call after each step of a long operation; it calls `progress` with the number of steps so far."""
    steps = count(1)
    return (lambda: None) if progress is None else lambda: progress(next(steps))


def read_frame_table(
    source: Source, trust: PacketTrust = "exact", report_step: Callable[[], None] = lambda: None
) -> FrameTable:
    """Counts and times the frames of a video; see `read_frames_and_packets`."""
    return read_frames_and_packets(source, trust, report_step).table


class FramesAndPackets(NamedTuple):
    """The frames of a video beside its packets.

    Attributes:
        table: the frames.
        packets: the packets of the stream, in file order.
        numbered: whether the presentation timestamps of the shown packets, sorted, are those of the frames; False where
            the frames were counted by decoding, or are timed otherwise.
        container: FFmpeg's name of the container.
    """

    table: FrameTable
    packets: list[PacketInfo]
    numbered: bool
    container: str


def read_frames_and_packets(
    source: Source,
    trust: PacketTrust = "exact",
    report_step: Callable[[], None] = lambda: None,
    observe: Callable[[av.VideoFrame], None] = lambda frame: None,
) -> FramesAndPackets:
    """Counts and times the frames of a video.

    Args:
        source: the bytes of a video file, or its path.
        trust: when packets number the frames without decoding. `exact`: only where nothing in the file speaks against
            it. `ordered`: also in containers that do not list their frames (transport streams and others), for callers
            that decode the whole file anyway and count the output. `nothing`: never, the file is decoded.
        report_step: called after each packet read and each frame decoded.
        observe: called with each frame, in order, where the file is decoded.

    Raises:
        DecodeError: the file cannot be opened or read, or needs decoding and does not decode.
    """
    with open_video(source) as (container, stream), library_errors("the packets cannot be read"):
        packets: list[PacketInfo] = []
        last = None
        for packet in container.demux(stream):
            if packet.size:
                report_step()
                packets.append(read_packet_info(packet, stream.codec_context))
                last = packet
            if len(packets) > MAX_FRAMES:
                raise DecodeError(f"it has more than {MAX_FRAMES} frames", TOO_LARGE)
        truncation = "its last packets are cut off" if is_last_packet_truncated(container, last) else ""
        truncation = find_truncation(source, container, stream) or truncation
        clock, container_format = _FileClock.from_stream(container, stream, packets), container.format.name
        by_packets = packets_number_frames(packets, container_format) or (
            trust == "ordered" and packets_are_ordered(packets)
        )
        num_other_streams = len(candidate_streams(container)) - 1
    if trust == "nothing" or not by_packets:
        try:
            table = _decode_table(source, packets, clock, report_step, observe)
        except DecodeError as error:
            if truncation:
                raise DecodeError(f"the video is truncated: {truncation}", TRUNCATED) from error
            raise
        numbered = False
    elif clock.counts_packets:
        table, numbered = clock.table([packet.dts or 0 for packet in packets if packet.shown]), False
    else:
        table, numbered = clock.table(sorted(packet.pts or 0 for packet in packets if packet.shown)), True
    table = table._replace(other_streams=num_other_streams, truncation=truncation)
    return FramesAndPackets(table, packets, numbered, container_format)


class _FileClock(NamedTuple):
    """How the timestamps of a file are interpreted.

    Attributes:
        time_base: seconds per tick.
        rate: frame rate by the header, frames per second.
        last_duration: duration of the frame that is shown last, in `time_base`; 0 where the file does not state it.
        max_step_s: a longer step between two frames, in seconds, is a jump of the clock.
        counts_packets: decoding timestamps are used as presentation timestamps: in AVI, where a packet's number is its
            time and FFmpeg's presentation timestamps around B-frames are wrong, and in files without any.
    """

    time_base: Fraction
    rate: Fraction
    last_duration: int
    max_step_s: int
    counts_packets: bool

    @classmethod
    def from_stream(
        cls, container: av.container.InputContainer, stream: av.video.VideoStream, packets: Sequence[PacketInfo]
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

    def evenly_spaced_table(self, count: int) -> FrameTable:
        """A table of evenly spaced frames at the header's rate, for files without timestamps.

        Rates below 1 per second are raised to 1: no timestamp confirms them, and a single frame would last for hours.
        """
        rate = max(self.rate, Fraction(1))
        return FrameTable(list(range(count)), 1 / rate, rate, count / rate)

    def table(self, times: Sequence[int]) -> FrameTable:
        """A table of frames with these timestamps, in `time_base` and in presentation order.

        Where the clock starts again or jumps, the next frame follows at the usual (median) distance.
        """
        count = len(times)
        steps = [after - before for before, after in pairwise(times)]
        if not any(step > 0 for step in steps):
            return self.evenly_spaced_table(count)
        median_step = median_low([step for step in steps if step > 0])
        limit = self.max_step_s / self.time_base
        ticks, jumps = [0], 0
        for step in steps:
            jumped = step < 0 or step > limit
            jumps += jumped
            ticks.append(ticks[-1] + (median_step if jumped else step))
        duration = (ticks[-1] + (self.last_duration or Fraction(ticks[-1], count - 1))) * self.time_base
        variable = _is_variable(ticks)
        rate = _choose_rate(self.rate, count, duration, variable)
        return FrameTable(ticks, self.time_base, rate, duration, variable, jumps)


def _choose_rate(header: Fraction, count: int, duration: Fraction, variable: bool) -> Fraction:
    """The frame rate of `count` frames in `duration` seconds: the header's unless the frames contradict it."""
    return as_rate(count / duration) if variable or abs(header * duration - count) >= 1 else header


def _is_variable(ticks: Sequence[int]) -> bool:
    """Whether a frame is half of the average frame duration or more away from even spacing between first and last."""
    even = np.linspace(ticks[0], ticks[-1], len(ticks))
    step = (ticks[-1] - ticks[0]) / max(1, len(ticks) - 1)
    return bool(np.abs(np.array(ticks, np.float64) - even).max() >= step / 2)


def _decode_table(
    source: Source,
    packets: Sequence[PacketInfo],
    clock: _FileClock,
    report_step: Callable[[], None],
    observe: Callable[[av.VideoFrame], None],
) -> FrameTable:
    """Decodes the whole video, and makes the table of its frames.

    Raises:
        DecodeError: there is no frame, one does not decode, or frames are missing and the decoder logged an error.
    """
    times: list[int | None] = []
    num_initial_messages = 0
    with _decoder_messages() as messages:
        for frame in iterate_frames(source):
            num_initial_messages = num_initial_messages if times else len(messages)
            times.append(frame.pts)
            observe(frame)
            report_step()
    if not times:
        raise DecodeError("the video has no frames", NO_FRAMES)
    missing = num_decodable_frames(packets) - len(times)
    if missing > 0 and len(messages) > num_initial_messages:
        raise DecodeError(
            f"only {len(times)} of {len(times) + missing} frames decode ({messages[-1][2].strip()})", DAMAGED
        )
    decoding = [packet.dts for packet in packets if packet.shown and packet.dts is not None]
    if clock.counts_packets:
        in_step = len(decoding) == len(times)
        return clock.table(decoding) if in_step else clock.evenly_spaced_table(len(times))
    timestamps = [time for time in times if time is not None]
    if len(timestamps) < len(times):
        return clock.evenly_spaced_table(len(times))
    if len(set(timestamps)) == len(timestamps) and not has_clock_restart(packets):
        timestamps.sort()  # one clock: timestamps that descend are then in decoding order
    return clock.table(timestamps)


@contextmanager
def _decoder_messages() -> Iterator[list[tuple[int, str, str]]]:
    """Captures the error messages that FFmpeg logs in this thread: (level, component, message) each."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as messages:
            yield messages
    finally:
        av.logging.set_level(before)
