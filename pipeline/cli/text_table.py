"""Tables and progress columns of rich with literal text: no markup, no emoji, no control characters.

rich reads `[something]` as markup and `:fire:` as an emoji; labels, keys and file names may contain both.
"""

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from datamodules.storage.plain_text import printable

_MAX_WIDTH = 1000  # width in characters of a table in a file, where nothing need be folded


class TextTable(Table):
    """Table whose title, headings and cells are literal text, folded, not cut, where the terminal is too narrow.

    Args:
        headings: Headings of the columns.
        title: Title above the table.
        options: Other arguments of `rich.table.Table`.
    """

    def __init__(self, *headings: str, title: str | None = None, **options: Any):
        super().__init__(title=None if title is None else literal_text(title, "table.title"), **options)
        for heading in headings:
            self.add_column(heading)

    def add_column(self, header: str = "", **options: Any) -> None:  # type: ignore[override] # text alone
        """Adds a column; `options` are other arguments of `rich.table.Table.add_column`."""
        super().add_column(literal_text(header), **{"overflow": "fold"} | options)

    def add_row(self, *cells: str | Text, **options: Any) -> None:  # type: ignore[override]
        """Adds a row of text; a cell with a color is given as `Text`."""
        super().add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells), **options)


class TextOnlyColumn(TextColumn):
    """Text beside a progress bar; `text_format` is the format of `rich.progress.TextColumn`, without markup."""

    def __init__(self, text_format: str):
        super().__init__(text_format, markup=False)


def literal_text(text: str, style: str = "") -> Text:
    """Text that rich shows literally, with control characters escaped."""
    return Text(printable(text, keep="\n"), style)


def print_table(table: Table, width: int | None = None) -> None:
    """Print a table on standard output, as wide as the terminal or, in a file, as its content; its title is one line.

    Args:
        table: The table.
        width: The maximum width in a file, in characters; default: as wide as the content needs.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        wide_console = Console(width=width or _MAX_WIDTH, markup=False, emoji=False, highlight=False)
        needed = Measurement.get(wide_console, wide_console.options, table).maximum
        console.width = width or max(console.width, needed)
    if table.title is not None:  # rich would fold the title to the table's width
        console.print(table.title, soft_wrap=True)
        table.title = None
    console.print(table)
