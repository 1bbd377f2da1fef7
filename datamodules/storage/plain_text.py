"""Text of others (labels, keys, captions, file names) on its way out: to a terminal, and into the cells of a CSV file.

A control character in a file name must not move the cursor, and a label must not become a formula when a spreadsheet
opens the file. Both keep every character visible; what is in a CSV file comes back exactly with `read_cell`.
"""

import ast
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, line and paragraph separators
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they turn the direction of what follows
_NONE = "\ufffe\uffff"  # no characters, by Unicode; no drawing may hold them
_ESCAPES = r"\\x[0-9a-f]{2}|\\[\\tnr]"
_BYTES = re.compile(rf"""b(?:'(?:[ -&(-[\]-~]|\\'|{_ESCAPES})*'|"(?:[ !#-[\]-~]|{_ESCAPES})*")""")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")  # noqa: RUF001 - see OWASP, CSV injection
QUOTE = "'"
_SHOWN = 5


def printable(text: str, keep: str = "") -> str:
    r"""The text with every character escaped that a terminal or a page would obey instead of showing it.

    Args:
        text: Any text; bytes of a file name that are not UTF-8 stand in it as Python has them (`os.fsdecode`).
        keep: Characters to leave as they are, such as line feeds.

    Returns:
        Text that can be encoded, with escapes as in Python: `\x1b`, `\n`, `\u202e`, `\xe9` for the byte 0xE9.

    >>> printable("Putting [something] onto [something]"), printable("a\x1b[31m\udce9")
    ('Putting [something] onto [something]', 'a\\x1b[31m\\xe9')
    """
    if text.isprintable():
        return text
    return "".join(one if one in keep else _escape(one) for one in text)


def _escape(one: str) -> str:
    if one not in _TURNS + _NONE and unicodedata.category(one) not in _CONTROLS:
        return one
    if "\udc80" <= one <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape", "surrogatepass").decode()


def write_cell(text: str) -> str:
    r"""The text as a cell of a CSV file: what a spreadsheet would take for a formula has an apostrophe before it.

    So do texts that begin with an apostrophe, with or end in blanks, or look like what stands for bytes: `b'caf\xe9'`
    for a name that is not UTF-8. All others are written as they are.

    >>> write_cell("=1+1"), write_cell("run"), write_cell("'n'"), write_cell("caf\udce9")
    ("'=1+1", 'run', "''n'", "b'caf\\xe9'")
    """
    try:
        if not is_utf8(text):
            return repr(text.encode(errors="surrogateescape"))
    except UnicodeEncodeError:  # half a character, which is no byte of a name
        text = printable(text)
    marked = text.startswith((*_FORMULA, QUOTE)) or text != text.strip() or _BYTES.fullmatch(text)
    return f"{QUOTE}{text}" if marked else text


def read_cell(cell: str) -> str:
    r"""The text that `write_cell` made a cell of; a person's own cell loses the blanks around it.

    >>> read_cell("'=1+1"), read_cell(" run "), read_cell("b'caf\\xe9'")
    ('=1+1', 'run', 'caf\udce9')
    """
    if cell.startswith(QUOTE):
        return cell.removeprefix(QUOTE)
    cell = cell.strip()
    return ast.literal_eval(cell).decode(errors="surrogateescape") if _BYTES.fullmatch(cell) else cell


def to_json(value: Any, **options: Any) -> str:
    r"""The value as JSON that can be read without a decoder, and encoded: `é` stays, only bytes of a name do not.

    Args:
        value: Plain data.
        options: As for `json.dumps`.

    >>> to_json({"path": "é/caf\udce9"})
    '{"path": "é/caf\\udce9"}'
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    return text.encode(errors="backslashreplace").decode()  # which is how JSON writes half a character, too


def describe_trimmed(labels: Iterable[str]) -> str:
    """A sentence where labels that differ in the blanks around them alone are read as one; empty where there are none.

    >>> describe_trimmed(["run", "run ", " walk"])
    "labels that differ in the blanks around them alone are one class: 'run', 'run '"
    """
    forms = sorted(set(labels))
    counts = Counter(form.strip() for form in forms)
    alike = [form for form in forms if counts[form.strip()] > 1]
    told = ", ".join(map(repr, alike[:_SHOWN])) + (", ..." if len(alike) > _SHOWN else "")
    return f"labels that differ in the blanks around them alone are one class: {told}" if alike else ""


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: not where it holds bytes of a name that are none, or half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
