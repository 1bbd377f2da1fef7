"""Safe printing on a terminal: control characters are escaped.

Terminals execute control characters, and labels, keys and file names may contain them. All text with data from outside
is therefore printed by `print_text`, or in the tables of `pipeline.cli.text_table`.
"""

import sys
from typing import TextIO

from datamodules.storage.plain_text import printable


def print_text(text: str = "", file: TextIO | None = None) -> None:
    """Print text with data from outside, on standard output unless `file` is given; only line feeds are kept."""
    print(printable(text, keep="\n"), file=file, flush=True)


def escape_unencodable_characters() -> None:
    """Make standard output escape characters that its encoding lacks, as standard error does, instead of failing."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
