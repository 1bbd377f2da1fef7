"""Progress of a long step on standard error: a bar on a terminal, else a line every ten seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextOnlyColumn, literal_text

LINE_INTERVAL_S = 10.0
_CHECK_INTERVAL_S = 0.5  # seconds between two checks whether a line is due


class ProgressLines:
    """Prints the progress of a step in lines, at most one every ten seconds; thread-safe.

    Args:
        verb: Name of the step, at the beginning of a line.
        total: Number of items.
        items: Plural noun of the items, such as `videos`.
        details: Returns a phrase for the end of a line; default: the estimated seconds left, in the last line the
            seconds taken.
    """

    def __init__(self, verb: str, total: int, items: str, details: Callable[[], str] | None = None):
        self._verb, self._total, self._items, self._details = verb, total, items, details
        self._done = 0
        self._start_time = self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, count: int = 1) -> None:
        """Count finished items; prints a line if one is due."""
        with self._lock:
            self._done += count
        self.show()

    def show(self) -> None:
        """Print a line if the last one is ten seconds old and items are left."""
        with self._lock:
            now = time.monotonic()
            if now - self._last_line < LINE_INTERVAL_S or self._done >= self._total:
                return
            self._last_line = now
            seconds_left = (now - self._start_time) * (self._total - self._done) / max(self._done, 1)
            self._print(f", {seconds_left:.0f} s left" if self._done else "")

    def finish(self) -> None:
        """Print the last line, even if none is due."""
        with self._lock:
            self._print(f" in {time.monotonic() - self._start_time:.0f} s")

    def _print(self, ending: str) -> None:
        ending = f", {self._details()}" if self._details else ending
        print_text(f"{self._verb}: {self._done} of {self._total} {self._items}{ending}", sys.stderr)


@contextmanager
def count_progress(
    verb: str, total: int, items: str, details: Callable[[], str] | None = None
) -> Iterator[Callable[..., None]]:
    """Show the progress of a step of `total` items.

    Args:
        verb: Name of the step.
        total: Number of items.
        items: Plural noun of the items, such as `videos`.
        details: Returns a phrase that is shown after the count; default: the estimated time left.

    Yields:
        A function to call with the number of items finished since its last call (default 1), from any thread.
    """
    if sys.stderr.isatty():
        last_column = TimeRemainingColumn() if details is None else _DetailsColumn(details)
        columns = (TextOnlyColumn(verb), BarColumn(), MofNCompleteColumn(), TextOnlyColumn(items), last_column)
        # Text printed meanwhile is redirected above the bar on a terminal; in a file it must stay unchanged.
        with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as progress:
            task = progress.add_task(verb, total=total)
            yield lambda count=1: progress.advance(task, count)
        return
    lines = ProgressLines(verb, total, items, details)
    stop = threading.Event()

    def print_due_lines() -> None:  # prints lines even while a single item takes long
        while not stop.wait(_CHECK_INTERVAL_S):
            lines.show()

    thread = threading.Thread(target=print_due_lines, daemon=True)
    thread.start()
    try:
        yield lines.advance
    finally:
        stop.set()
        thread.join()
    lines.finish()


class _DetailsColumn(ProgressColumn):
    """Column with the phrase that a function returns, called twice a second."""

    max_refresh = 0.5

    def __init__(self, details: Callable[[], str]):
        super().__init__()
        self._details = details

    def render(self, task: Task) -> Text:
        return literal_text(self._details())
