"""`Connection`: the frames of one open stream, with their times, without falling behind."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import av
import av.container
import av.video

from pipeline.live_streams.stream_clock import Backlog, StreamClock
from pipeline.live_streams.stream_source import StreamLostError, StreamSource

_USUAL_FPS = 25.0  # where a stream does not state its rate
_MAX_FPS = 1000.0
_BEHIND_S = 2.0  # more than the bursts in which servers send, less than what anyone would call live
_KEY_FRAME_LIMIT_S = 10.0
_MAX_FRAMELESS = 100  # packets in a row that give no frame: the codec has changed
_MAX_FRAMELESS_AT_FIRST = 1000  # the same before the first frame: a key frame may be 10 s away


class ConnectionCounts:
    """What happened on all connections of a stream, for its summary.

    Attributes:
        frames: decoded frames.
        damaged: packets that did not decode, and frames that the decoder marked as damaged.
        clock_jumps: frames whose timestamps were replaced.
    """

    frames = damaged = clock_jumps = 0


class TimedFrame(NamedTuple):
    """A decoded frame, its time in seconds from the connection's first frame, and its arrival, seconds since 1970."""

    frame: av.VideoFrame
    time: float
    arrived: float


class Connection:
    """Reads and decodes the frames of an open stream.

    Args:
        source: what the stream was opened from.
        container: the open container.
        stream: its video stream.
        counts: to be counted on.
        timeout_s: seconds without a frame after which the stream is lost.
        can_discard: whether packets are discarded where decoding falls behind.
        alive: called at every packet.
        discarded: called for every packet that is left out to catch up.

    Attributes:
        fps: nominal frames per second.
    """

    def __init__(
        self,
        source: StreamSource,
        container: av.container.InputContainer,
        stream: av.video.VideoStream,
        counts: ConnectionCounts,
        timeout_s: float,
        can_discard: bool,
        alive: Callable[[], None],
        discarded: Callable[[], None],
    ) -> None:
        self._source, self._container, self._stream = source, container, stream
        self._counts, self._timeout_s, self._alive, self._discarded = counts, timeout_s, alive, discarded
        rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
        self.fps = next((float(rate) for rate in rates if rate and 0 < rate <= _MAX_FPS), _USUAL_FPS)
        self._clock = StreamClock(1 / self.fps)
        self._backlog = Backlog(_BEHIND_S) if can_discard else None
        self._has_key_frame = False
        self._catching_up_since: float | None = None  # monotonic time
        self._frameless, self._max_frameless = 0, _MAX_FRAMELESS_AT_FIRST

    def frames(self) -> Iterator[TimedFrame]:
        """Yields frames until the stream ends.

        Raises:
            StreamLostError: the stream ended, or cannot be read any further.
        """
        last_packet: av.Packet[Any] | None = None
        last_frame = time.monotonic()
        for packet, waited_s in self._packets():
            if packet.stream_index != self._stream.index or not packet.size:
                last_packet = packet if packet.stream_index == self._stream.index else last_packet
                self._refuse_silence(last_frame)
                continue
            if self._is_discarded(packet, waited_s):
                last_frame = time.monotonic()
                continue
            for frame in self._decode(packet):
                last_frame = time.monotonic()
                yield frame
            self._refuse_silence(last_frame)
        if last_packet is not None and not last_packet.size:  # the empty packet at the end flushes the decoder
            yield from self._decode(last_packet)
        size = self._container.size
        raise StreamLostError("it ended", is_end=not self._source.is_restartable or size > 0)

    def _packets(self) -> "Iterator[tuple[av.Packet[Any], float]]":
        """Packets of all streams, as another one may go on where the video has stopped; and how long each took."""
        packets = self._container.demux()
        while True:
            began = time.monotonic()
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError, ValueError) as error:
                reason = self._source.explain(error, time.monotonic() - began)
                raise StreamLostError(reason, is_end=self._source.has_ended) from None
            self._alive()
            if packet is None:
                return
            yield packet, time.monotonic() - began

    def _refuse_silence(self, last_frame: float) -> None:
        if self._source.is_restartable and time.monotonic() - last_frame > self._timeout_s:
            raise StreamLostError(f"no frame for {self._timeout_s:g} s, though data come")

    def _is_discarded(self, packet: "av.Packet[Any]", waited_s: float) -> bool:
        """Whether a packet is left out to catch up with the stream."""
        timestamp = packet.dts if packet.pts is None else packet.pts
        if self._backlog is None or timestamp is None:
            return False
        moment, now = self._clock.estimate(float(timestamp * packet.time_base)), time.monotonic()
        if moment is None:
            return False
        if self._backlog.observe(now, moment, waited_s) and self._catching_up_since is None:
            self._catching_up_since = now
        if self._catching_up_since is None:
            return False
        # Decoding goes on at a key frame; of a stream that has none, after a while, with damaged frames.
        waits = now - self._catching_up_since < _KEY_FRAME_LIMIT_S and not packet.is_keyframe
        if self._backlog.is_behind or waits:
            self._discarded()
            return True
        self._catching_up_since = None
        self._clock.skip()
        self._stream.codec_context.flush_buffers()
        return False

    def _decode(self, packet: "av.Packet[Any]") -> Iterator[TimedFrame]:
        self._has_key_frame = self._has_key_frame or packet.is_keyframe
        try:
            frames = packet.decode()
        except av.FFmpegError:
            frames = []
            if self._has_key_frame:  # a stream that is met in the middle of a group of pictures is not damaged
                self._counts.damaged += 1
        self._frameless = 0 if frames else self._frameless + 1
        if frames:
            self._max_frameless = _MAX_FRAMELESS
        elif self._frameless >= self._max_frameless:
            raise StreamLostError(f"{self._frameless} packets in a row give no frame")
        for frame in frames:
            assert isinstance(frame, av.VideoFrame)
            jumps = self._clock.jumps
            timestamp = None if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)
            moment = self._clock.time_of(timestamp)
            if self._clock.jumps > jumps:
                self._counts.clock_jumps += 1
                if self._backlog is not None:
                    self._backlog.reset()
            if frame.is_corrupt:
                self._counts.damaged += 1
                continue
            self._counts.frames += 1
            yield TimedFrame(frame, moment, time.time())
