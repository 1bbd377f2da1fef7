"""`Mailbox`: hands windows and events from the thread that reads a stream to the one that runs the network."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.live_streams.windows import Window


class StreamEvent(NamedTuple):
    """Something that happened to a stream.

    Attributes:
        name: connected, changed, clock_jump, damaged, lost, unreachable, reconnecting or ended.
        details: more of it, as plain data.
        sentence: the same for a person; "" where there is nothing to say.
    """

    name: str
    details: dict[str, Any]
    sentence: str = ""


class Delivery(NamedTuple):
    """A window to classify.

    Attributes:
        window: the window.
        skipped: number of windows skipped since the last delivery.
        dropped: number of frames since then that no delivered window has, though a window would have had them.
    """

    window: Window
    skipped: int
    dropped: int


class Closed(NamedTuple):
    """The end of a stream: None, or the error that ended it."""

    error: BaseException | None


class Mailbox:
    """A place for events in their order and for one window at most, the newest.

    Args:
        wait: `put` waits until the window before was taken, instead of replacing it.
        is_stopping: returns whether to give up waiting.
    """

    def __init__(self, wait: bool, is_stopping: Callable[[], bool]) -> None:
        self._wait, self._is_stopping = wait, is_stopping
        self._items: deque[StreamEvent | Window | Closed] = deque()
        self._changed = threading.Condition()
        self._skipped = self._dropped = 0
        self._taken_until = 0  # number of the frame after the last delivered window

    def put(self, window: Window) -> None:
        """Leaves a window, in the place of one that was not taken yet."""
        with self._changed:
            pending = self._pending()
            while pending is not None and self._wait and not self._is_stopping():
                self._changed.wait(0.25)
                pending = self._pending()
            if pending is not None:
                self._items = deque(item for item in self._items if item is not pending)
                self._skipped += 1
                first = max(pending.first, self._taken_until)
                self._dropped += max(0, min(pending.first + len(pending.frames), window.first) - first)
            self._items.append(window)
            self._changed.notify_all()

    def put_event(self, event: StreamEvent) -> None:
        """Leaves an event."""
        with self._changed:
            self._items.append(event)
            self._changed.notify_all()

    def count_dropped(self, frames: int) -> None:
        """Counts frames that were discarded before they were decoded."""
        with self._changed:
            self._dropped += frames

    def close(self, error: BaseException | None = None) -> None:
        """Leaves the end."""
        with self._changed:
            self._items.append(Closed(error))
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Delivery | StreamEvent | Closed | None:
        """Takes what came first; None if nothing comes within `timeout_s` seconds."""
        with self._changed:
            if not self._items:
                self._changed.wait(timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            if not isinstance(item, Window):
                return item
            delivery = Delivery(item, self._skipped, self._dropped)
            self._skipped = self._dropped = 0
            self._taken_until = item.first + len(item.frames)
            self._changed.notify_all()
            return delivery

    def _pending(self) -> Window | None:
        return next((item for item in self._items if isinstance(item, Window)), None)
