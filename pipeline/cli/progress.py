"""How far a long step is: a bar on a terminal, else a line every ten seconds; on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from pipeline.cli.text_table import TextOnlyColumn

LINE_INTERVAL_S = 10.0


@contextmanager
def count_progress(verb: str, total: int, what: str) -> Iterator[Callable[[], None]]:
    """Show how much of `total` is done.

    Args:
        verb: What is going on.
        total: How many there are.
        what: Of what: `videos`.

    Yields:
        A function to call after each one, from one thread.
    """
    if sys.stderr.isatty():
        columns = (TextOnlyColumn(verb), BarColumn(), MofNCompleteColumn(), TextOnlyColumn(what), TimeRemainingColumn())
        # What is printed meanwhile goes above the bar on a terminal, and stays what it is in a file.
        with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as progress:
            task = progress.add_task(verb, total=total)
            yield lambda: progress.advance(task)
        return
    done, began = 0, time.monotonic()
    shown = began

    def count() -> None:
        nonlocal done, shown
        done += 1
        now = time.monotonic()
        if now - shown >= LINE_INTERVAL_S and done < total:
            shown = now
            left = (now - began) * (total - done) / done
            print(f"{verb}: {done} of {total} {what}, {left:.0f} s left", file=sys.stderr, flush=True)

    yield count
    print(f"{verb}: {done} of {total} {what} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
