"""Tables and bars of rich in which text is text: no markup, no pictures, no control characters.

rich takes `[something]` for markup and `:fire:` for a picture; labels, keys and file names may hold both.
"""

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from datamodules.storage.plain_text import printable

_WIDEST = 1000  # columns of a table in a file, where nothing need be folded


class TextTable(Table):
    """A table whose title, headings and cells are text, shown whole: folded where the terminal is too narrow.

    Args:
        headings: Of the columns.
        title: Above the table.
        options: As for `rich.table.Table`.
    """

    def __init__(self, *headings: str, title: str | None = None, **options: Any):
        super().__init__(title=None if title is None else as_text(title, "table.title"), **options)
        for heading in headings:
            self.add_column(heading)

    def add_column(self, header: str = "", **options: Any) -> None:  # type: ignore[override] # text alone
        """A column; `options` as for `rich.table.Table`."""
        super().add_column(as_text(header), **{"overflow": "fold"} | options)

    def add_row(self, *cells: str | Text, **options: Any) -> None:  # type: ignore[override]
        """A row of text; `Text` where a cell has a color."""
        super().add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells), **options)


class TextOnlyColumn(TextColumn):
    """Words beside a bar of progress; `words` as for `rich.progress.TextColumn`, but without markup."""

    def __init__(self, words: str):
        super().__init__(words, markup=False)


def as_text(text: str, style: str = "") -> Text:
    """What rich shows as it is, control characters escaped."""
    return Text(printable(text, keep="\n"), style)


def print_table(table: Table, width: int | None = None) -> None:
    """Print a table on standard output, as wide as the terminal; in a file as wide as it needs. Its title is a line.

    Args:
        table: The table.
        width: In a file, the most columns; default: as many as it needs.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        wide = Console(width=width or _WIDEST, markup=False, emoji=False, highlight=False)
        needed = Measurement.get(wide, wide.options, table).maximum
        console.width = width or max(console.width, needed)
    if table.title is not None:  # which the table would fold to its own width
        console.print(table.title, soft_wrap=True)
        table.title = None
    console.print(table)
