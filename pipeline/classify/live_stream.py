"""`classify_live`: a JSON line for each window of a live stream, until it ends or the command is told to stop."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from datamodules.video.decoding import describe_decoder
from lightning_modules import VideoClassifier
from pipeline.classify.class_choice import ClassChoice
from pipeline.classify.linear_head import LinearHead
from pipeline.classify.video_input import Preprocessing
from pipeline.classify.window_scores import WindowScorer
from pipeline.cli.terminal import print_text
from pipeline.live_streams.live_options import LiveOptions
from pipeline.live_streams.mailbox import Closed, Delivery, Mailbox, StreamEvent
from pipeline.live_streams.smoothing import ExponentialMean
from pipeline.live_streams.stream_reader import StreamReader, WindowShape
from pipeline.live_streams.stream_source import StreamSource

_POLL_S = 0.5
_HANG_S = 60.0  # beyond the timeout: looking up a name may take as long


def classify_live(
    address: str,
    options: LiveOptions,
    model: VideoClassifier | LinearHead,
    preprocessing: Preprocessing,
    choice: ClassChoice,
) -> None:
    """Reads a stream in a thread, and prints the classes of each window and what happens to the stream, as JSON lines.

    Where the network is slower than the stream, the newest window is taken and those before it are skipped.

    Args:
        address: the stream, as `StreamSource` takes it.
        options: windows, smoothing, retries.
        model: the network, or a linear classifier on a network.
        preprocessing: its preprocessing.
        choice: the classes to print.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the stream cannot be opened or is given up, or the windows do not fit the network.
    """
    shape = window_shape(preprocessing, options)
    stopping = threading.Event()
    source = StreamSource(address, options.timeout, stopping.is_set)
    mailbox = Mailbox(options.wait or source.kind == "file", stopping.is_set)
    reader = StreamReader(source, options, shape, preprocessing.transform, mailbox, stopping)
    printer = _Printer(WindowScorer(model, preprocessing, options.stride), choice, options.half_life)
    began = time.monotonic()
    with _stop_signals(stopping):
        reader.start()
        try:
            _print_all(mailbox, printer, reader, source, stopping, options.timeout + _HANG_S)
        except BrokenPipeError:  # whoever read the lines has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        finally:
            stopping.set()
            if reader.connections:
                print_text(f"classify: {_summary(printer, reader, time.monotonic() - began)}", sys.stderr)


def _print_all(
    mailbox: Mailbox,
    printer: "_Printer",
    reader: StreamReader,
    source: StreamSource,
    stopping: threading.Event,
    hang_s: float,
) -> None:
    while not stopping.is_set():
        item = mailbox.take(_POLL_S)
        if isinstance(item, Closed):
            if item.error is not None:
                raise item.error
            return
        if isinstance(item, StreamEvent):
            printer.print_event(item)
        elif item is not None:
            printer.print_window(item)
        elif source.is_restartable and time.monotonic() - reader.last_sign > hang_s:
            raise ValueError(
                f"live={source.name!r}: gives no sign for {hang_s:g} s, and cannot be interrupted; start again"
            )
    printer.print_event(StreamEvent("ended", {"reason": "stopped"}))


def window_shape(preprocessing: Preprocessing, options: LiveOptions) -> WindowShape:
    """The windows of a stream for a network.

    Args:
        preprocessing: its preprocessing.
        options: length and stride.

    Raises:
        ValueError: the network takes optical flow, or frames of whole videos and no length is given; or the length is
            less than a clip, as far as is known without the rate of the stream.
    """
    clip = preprocessing.shape
    if preprocessing.stream != "rgb":
        raise ValueError("live: the network takes optical flow, which is not computed for streams; give one of RGB")
    if clip.segments:
        if options.window is None:
            raise ValueError("window: the network takes frames spread over a whole video; give --window, in seconds")
        clip = replace(clip, frame_interval=1, fps=None)
    min_frames = 1 if clip.segments else preprocessing.sampler.shape.num_frames
    shape = WindowShape(clip, min_frames, options.window, options.stride)
    if clip.fps is not None:
        shape.num_frames(clip.fps)
    return shape


class _Printer:
    """Prints windows and events.

    Args:
        score: scores windows.
        choice: the classes to print.
        half_life_s: half-life of the smoothed probabilities, in seconds.

    Attributes:
        windows: number of printed windows.
        skipped: number of skipped windows.
        dropped: number of dropped frames.
    """

    def __init__(self, score: WindowScorer, choice: ClassChoice, half_life_s: float) -> None:
        self._score, self._choice, self._mean = score, choice, ExponentialMean(half_life_s)
        self.windows = self.skipped = self.dropped = 0

    def print_window(self, delivery: Delivery) -> None:
        """Classifies a window and prints its line."""
        window = delivery.window
        scores = self._score(window)
        smoothed = self._mean.add(scores, window.end_s)
        line: dict[str, Any] = {
            "time": _utc(window.arrived),
            "start": round(self._score.start_s(window), 3),
            "end": round(window.end_s, 3),
        }
        line |= self._choice.describe(scores) | {"smoothed": self._choice.describe(smoothed)["top"]}
        line |= {"skipped": delivery.skipped, "dropped": delivery.dropped}
        self.windows += 1
        self.skipped += delivery.skipped
        self.dropped += delivery.dropped
        print_text(json.dumps(line))

    def print_event(self, event: StreamEvent) -> None:
        """Prints an event, and its sentence on standard error."""
        details = event.details | ({"decoder": describe_decoder("pyav")} if event.name == "connected" else {})
        print_text(json.dumps({"time": _utc(time.time()), "event": event.name, **details}))
        if event.sentence:
            print_text(f"classify: {event.sentence}", sys.stderr)


def _utc(seconds: float) -> str:
    """ISO 8601, to the millisecond, of seconds since 1970.

    >>> _utc(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _summary(printer: _Printer, reader: StreamReader, seconds: float) -> str:
    counts = reader.counts
    parts = [f"{printer.windows} windows in {seconds:.0f} s", f"{counts.frames} frames decoded"]
    for number, words in (
        (printer.skipped, "windows skipped"),
        (printer.dropped, "frames dropped"),
        (reader.connections * (reader.connections > 1), "connections"),
        (counts.damaged, "packets or frames damaged"),
        (counts.clock_jumps, "timestamps replaced"),
    ):
        if number:
            parts.append(f"{number} {words}")
    return ", ".join(parts)


@contextmanager
def _stop_signals(stopping: threading.Event) -> Iterator[None]:
    """Sets `stopping` at the first Ctrl-C or SIGTERM; the second one has its usual effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
