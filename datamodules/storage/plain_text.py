"""Escaping of untrusted text (labels, keys, captions, file names) for terminals and for the cells of CSV files.

A control character in a file name must not move the cursor, and a label must not become a formula when a spreadsheet
opens the file. Both keep every character visible; `read_cell` restores the exact text from a CSV file.
"""

import ast
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}  # categories: control characters, surrogates, line and paragraph separators
_DIRECTION_CONTROLS = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # change the direction of the following text
)
_NONCHARACTERS = "\ufffe\uffff"  # noncharacters of Unicode, which XML and SVG must not have
_ESCAPES = r"\\x[0-9a-f]{2}|\\[\\tnr]"
_BYTES = re.compile(rf"""b(?:'(?:[ -&(-[\]-~]|\\'|{_ESCAPES})*'|"(?:[ !#-[\]-~]|{_ESCAPES})*")""")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")  # noqa: RUF001 - see OWASP, CSV injection
QUOTE = "'"
_MAX_EXAMPLES = 5


def printable(text: str, keep: str = "") -> str:
    r"""The text with every character escaped that a terminal or a page would interpret instead of displaying it.

    Args:
        text: Any text; bytes of a file name that are not UTF-8 are surrogates, as from `os.fsdecode`.
        keep: Characters not to escape, such as line feeds.

    Returns:
        Text that can be encoded, with escapes as in Python: `\x1b`, `\n`, `\u202e`, `\xe9` for the byte 0xE9.

    >>> printable("Putting [something] onto [something]"), printable("a\x1b[31m\udce9")
    ('Putting [something] onto [something]', 'a\\x1b[31m\\xe9')
    """
    if text.isprintable():
        return text
    return "".join(character if character in keep else _escape(character) for character in text)


def _escape(character: str) -> str:
    if character not in _DIRECTION_CONTROLS + _NONCHARACTERS and unicodedata.category(character) not in _CONTROLS:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def write_cell(text: str) -> str:
    r"""The text as a cell of a CSV file, with an apostrophe before anything a spreadsheet would take for a formula.

    Text is also marked if it begins with an apostrophe, begins or ends with blanks, or looks like the notation for
    bytes, `b'caf\xe9'`, which is used for names that are not UTF-8. All other text is unchanged.

    >>> write_cell("=1+1"), write_cell("run"), write_cell("'n'"), write_cell("caf\udce9")
    ("'=1+1", 'run', "''n'", "b'caf\\xe9'")
    """
    try:
        if not is_utf8(text):
            return repr(text.encode(errors="surrogateescape"))
    except UnicodeEncodeError:  # a surrogate that is not a byte of a name
        text = printable(text)
    marked = text.startswith((*_FORMULA, QUOTE)) or text != text.strip() or _BYTES.fullmatch(text)
    return f"{QUOTE}{text}" if marked else text


def read_cell(cell: str) -> str:
    r"""The text that `write_cell` converted; cells written by hand are stripped of blanks.

    >>> read_cell("'=1+1"), read_cell(" run "), read_cell("b'caf\\xe9'")
    ('=1+1', 'run', 'caf\udce9')
    """
    if cell.startswith(QUOTE):
        return cell.removeprefix(QUOTE)
    cell = cell.strip()
    return ast.literal_eval(cell).decode(errors="surrogateescape") if _BYTES.fullmatch(cell) else cell


def to_json(value: Any, **options: Any) -> str:
    r"""The value as readable JSON that can be encoded: `é` is kept, and only bytes that are not UTF-8 are escaped.

    Args:
        value: Plain data.
        options: Arguments of `json.dumps`.

    >>> to_json({"path": "é/caf\udce9"})
    '{"path": "é/caf\\udce9"}'
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    return text.encode(errors="backslashreplace").decode()  # JSON's own notation of surrogates


def describe_trimmed_labels(labels: Iterable[str]) -> str:
    """A sentence on labels that are equal except for surrounding blanks and become one class; empty if there are none.

    >>> describe_trimmed_labels(["run", "run ", " walk"])
    "labels that differ in the blanks around them alone are one class: 'run', 'run '"
    """
    forms = sorted(set(labels))
    counts = Counter(form.strip() for form in forms)
    equal_forms = [form for form in forms if counts[form.strip()] > 1]
    examples = ", ".join(map(repr, equal_forms[:_MAX_EXAMPLES])) + (", ..." if len(equal_forms) > _MAX_EXAMPLES else "")
    return f"labels that differ in the blanks around them alone are one class: {examples}" if equal_forms else ""


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: not if it has bytes that are not UTF-8, or other surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
