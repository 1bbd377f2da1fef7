"""What a person reads on a terminal: text as it is, nothing in it is obeyed.

A terminal obeys control characters, and labels, keys and file names may hold them. So whatever is printed with text of
others in it goes through `say`, or through the tables of `pipeline.cli.text_table`.
"""

import sys
from typing import TextIO

from datamodules.storage.plain_text import printable


def say(text: str = "", file: TextIO | None = None) -> None:
    """Print text that holds data of others, on standard output unless `file` is given; lines stay lines."""
    print(printable(text, keep="\n"), file=file, flush=True)


def show_all_characters() -> None:
    """Standard output escapes what its encoding lacks, as standard error does: a label never ends a run."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
