"""`StreamReader`: the thread that reads a stream, again and again, into windows."""

import threading
import time
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

from datamodules.sampling.clip_sampling import ClipShape
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import UPRIGHT, orientation_of
from datamodules.video.pyav_decoder import rgb_pixels
from pipeline.live_streams.connection import Connection, ConnectionCounts, TimedFrame
from pipeline.live_streams.frame_selection import FrameSelection
from pipeline.live_streams.live_options import LiveOptions
from pipeline.live_streams.mailbox import Mailbox, StreamEvent
from pipeline.live_streams.stream_source import StreamLostError, StreamSource
from pipeline.live_streams.windows import WindowBuilder

FIRST_TRIES = 3  # attempts to connect before the first success
_LONGEST_PAUSE_S = 60.0
_STABLE_S = 10.0  # a connection that lasted so long was a success
_MAX_WINDOW_BYTES = 2**31
_CHANGE_INTERVAL_S = 10.0  # least seconds between two reports of another frame size


class WindowShape(NamedTuple):
    """The windows that a network needs.

    Attributes:
        clip: a clip of the network.
        min_frames: fewest frames of a window.
        window_s: length in seconds; None: one clip.
        stride_s: seconds from one window to the next; None: half of the length.
    """

    clip: ClipShape
    min_frames: int
    window_s: float | None
    stride_s: float | None

    def frame_rate(self, stream_fps: float) -> float:
        """Frames a second that are taken from a stream of `stream_fps`."""
        return stream_fps / self.clip.frame_interval if self.clip.fps is None else self.clip.fps

    def num_frames(self, stream_fps: float) -> int:
        """Number of frames of a window of a stream of `stream_fps` frames a second.

        Raises:
            ValueError: the window is shorter than a clip.
        """
        rate = self.frame_rate(stream_fps)
        count = self.clip.num_frames if self.window_s is None else round(self.window_s * rate)
        if count < self.min_frames:
            raise ValueError(
                f"window={self.window_s}: is shorter than a clip of the network, {self.min_frames} frames of "
                f"{rate:g} a second, {self.min_frames / rate:.3g} s; give more seconds, or leave it out"
            )
        return count


class StreamReader(threading.Thread):
    """Reads a stream into a mailbox: connects, decodes, builds windows, reconnects. A daemon, as C code may hang.

    Args:
        source: the stream.
        options: timeout, retries and whether to wait.
        shape: the windows to build.
        transform: resizes and crops frames.
        mailbox: where windows and events go.
        stopping: set to stop.

    Attributes:
        counts: what happened so far.
        connections: number of connections so far.
        last_sign: monotonic time of the last sign of life, in seconds.
    """

    def __init__(
        self,
        source: StreamSource,
        options: LiveOptions,
        shape: WindowShape,
        transform: EvalTransform,
        mailbox: Mailbox,
        stopping: threading.Event,
    ) -> None:
        super().__init__(name="stream reader", daemon=True)
        self._source, self._options, self._shape = source, options, shape
        self._transform, self._mailbox, self._stopping = transform, mailbox, stopping
        self.counts, self.connections, self.last_sign = ConnectionCounts(), 0, time.monotonic()
        self._windows = self._next_number = 0
        self._began: float | None = None  # monotonic time of the first frame
        self._pixels: tuple[av.VideoFrame, Tensor] | None = None  # of the newest frame that was taken
        self._told: set[str] = set()

    def run(self) -> None:
        """Reads until the stream ends, is given up, or `stopping` is set."""
        try:
            self._read_all()
            self._mailbox.close()
        except BaseException as error:  # raised again in the main thread
            self._mailbox.close(error)

    def _read_all(self) -> None:
        failures = pauses = 0  # attempts in a row without a connection; pauses since a connection that lasted
        while not self._stopping.is_set():
            began, connections = time.monotonic(), self.connections
            try:
                self._read_connection()
            except StreamLostError as error:
                lost = error
            if self._stopping.is_set():
                return
            was_connected = self.connections > connections
            if not self._source.is_restartable:
                if not self.counts.frames:
                    raise ValueError(f"live={self._source.name!r}: cannot be read: {lost}") from None
                if lost.is_end or not was_connected or self._source.kind == "file":
                    self._tell("ended", {"reason": str(lost)})
                    return
                self._tell("lost", {"reason": str(lost)}, f"{lost}; reading on")
                continue
            if was_connected and lost.is_end:
                self._tell("ended", {"reason": str(lost)})
                return
            failures = 1 if was_connected else failures + 1
            pauses = 1 if was_connected and time.monotonic() - began > _STABLE_S else pauses + 1
            self._refuse_attempt(lost, failures)
            self._tell("lost" if was_connected else "unreachable", {"reason": str(lost)})
            self._pause(lost, min(_LONGEST_PAUSE_S, 2.0 ** min(pauses - 1, 10)))

    def _refuse_attempt(self, lost: StreamLostError, failures: int) -> None:
        """Raises ValueError if there are no more attempts after `failures` that failed."""
        limit = self._options.retries
        if limit is None and not self.connections:
            limit = FIRST_TRIES - 1
        if lost.is_final or (limit is not None and failures > limit):
            tries = f" after {failures} attempts" if failures > 1 else ""
            raise ValueError(
                f"live={self._source.name!r}: {'was lost' if self.connections else 'cannot be opened'}{tries}: {lost}"
                + ("" if lost.is_final else "; check the address, or give more --retries or --timeout")
            )

    def _pause(self, lost: StreamLostError, pause_s: float) -> None:
        """Waits before the next attempt."""
        self._tell("reconnecting", {"in_s": pause_s}, f"{lost}; connecting again in {pause_s:g} s")
        end = time.monotonic() + pause_s
        while time.monotonic() < end and not self._stopping.wait(min(1.0, pause_s)):
            self._sign()

    def _read_connection(self) -> None:
        """Connects, and reads until the stream is lost; raises StreamLostError in any case."""
        self._sign()
        with self._source.open() as (container, stream):
            self._sign()
            waits = self._options.wait or self._source.kind == "file"
            connection = Connection(
                self._source,
                container,
                stream,
                self.counts,
                self._options.timeout,
                not waits,
                self._sign,
                lambda: self._mailbox.count_dropped(1),
            )
            self.connections += 1
            size = {"width": stream.codec_context.width, "height": stream.codec_context.height}
            rate = {"codec": stream.codec_context.name, **size, "fps": round(connection.fps, 3)}
            self._tell("connected", {"source": self._source.name, **rate}, f"connected to {self._source.name}")
            now = time.monotonic()
            self._began = now if self._began is None else self._began
            self._build_windows(connection, now - self._began)

    def _build_windows(self, connection: Connection, start_s: float) -> None:
        clip, fps = self._shape.clip, connection.fps
        rate, num_frames = self._shape.frame_rate(fps), self._shape.num_frames(fps)
        if 3 * num_frames * self._transform.crop_size**2 > _MAX_WINDOW_BYTES:
            raise ValueError(f"window={self._shape.window_s}: its {num_frames} frames take more than 2 GiB; give fewer")
        stride_s = num_frames / rate / 2 if self._shape.stride_s is None else self._shape.stride_s
        selection: FrameSelection[TimedFrame] = FrameSelection(clip.fps, clip.frame_interval)
        builder = WindowBuilder(num_frames, 1 / rate, stride_s, self._next_number, start_s)
        size: tuple[int, int] | None = None
        last: TimedFrame | None = None
        changed = -_CHANGE_INTERVAL_S
        try:
            for frame in connection.frames():
                if self._stopping.is_set():
                    return
                if size != (size := (frame.frame.width, frame.frame.height)) and last is not None:
                    changed = self._tell_change(size, changed)
                last = frame
                for taken, moment in selection.add(frame, frame.time):
                    self._take(builder, taken, moment)
                self._tell_counts()
        except StreamLostError:
            if last is not None:
                self._finish(selection, builder, last, 1 / fps)
            raise
        finally:
            self._next_number = builder.next_number

    def _take(self, builder: WindowBuilder, taken: TimedFrame, moment: float) -> None:
        window = builder.add(lambda: self._load(taken.frame), moment, taken.arrived)
        if window is not None:
            self._windows += 1
            self._mailbox.put(window)
            self._sign()

    def _finish(
        self, selection: FrameSelection[TimedFrame], builder: WindowBuilder, last: TimedFrame, frame_s: float
    ) -> None:
        """Takes the frames that are left at the end; a stream shorter than a window is one window."""
        for taken, moment in selection.finish(frame_s):
            self._take(builder, taken, moment)
        window = builder.unfinished(last.arrived)
        if not self._windows and window is not None and not self._source.is_restartable:
            self._windows += 1
            self._mailbox.put(window)

    def _load(self, frame: av.VideoFrame) -> Tensor:
        """The pixels of a frame for the network: uint8 (H, W, C); one that is taken again is not converted again."""
        if self._pixels is None or self._pixels[0] is not frame:
            pixels, orientation = rgb_pixels(frame, frame.width, frame.height), orientation_of(frame)
            if orientation != UPRIGHT:
                pixels = np.ascontiguousarray(orientation.apply(pixels))
            cropped, _ = self._transform(torch.from_numpy(pixels)[None])
            self._pixels = frame, cropped[0].clone(memory_format=torch.contiguous_format)  # not a view of the whole
        return self._pixels[1]

    def _tell(self, name: str, details: dict[str, object], sentence: str = "") -> None:
        self._mailbox.put_event(StreamEvent(name, details, sentence))

    def _tell_change(self, size: tuple[int, int], last: float) -> float:
        """Tells that frames have another size, but seldom; returns when it was told last, in monotonic seconds."""
        if time.monotonic() - last < _CHANGE_INTERVAL_S:
            return last
        self._tell("changed", {"width": size[0], "height": size[1]}, f"frames have {size[0]} x {size[1]} pixels now")
        return time.monotonic()

    def _tell_counts(self) -> None:
        """Tells once of damaged packets and of a clock that jumps; the summary has their number."""
        for name, count, sentence in (
            ("damaged", self.counts.damaged, "some packets are damaged, and left out"),
            ("clock_jump", self.counts.clock_jumps, "some timestamps are missing or jump, and are replaced"),
        ):
            if count and name not in self._told:
                self._told.add(name)
                self._tell(name, {}, sentence)

    def _sign(self) -> None:
        self.last_sign = time.monotonic()
