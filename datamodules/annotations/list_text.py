"""Text of annotation lists in any Unicode encoding; files that are not text are refused by their actual kind."""

import codecs
from pathlib import Path

_BYTE_ORDER_MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_SIGNATURES = (
    (b"PK\x03\x04", "a spreadsheet (xlsx, ods) or another zip file; save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet (xls); save it as CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"PAR1", "a Parquet file; end its name in .parquet"),
    (b"\x93NUMPY", "a NumPy array; write a CSV file with the columns path, label, split"),
    (b"SQLite", "a database; write a CSV file with the columns path, label, split"),
    (b"%PDF", "a PDF; write a CSV file with the columns path, label, split"),
)


class AnnotationError(ValueError):
    """An annotation list cannot be read; the message says where and what to do."""


def read_text(path: Path) -> str:
    """The text of a list in UTF-8, or in UTF-16 or UTF-32 as saved by spreadsheets and PowerShell.

    Raises:
        AnnotationError: the file is missing, cannot be read, or is not text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file; check the path of the list") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}); name a file with a list") from None
    for signature, description in _OTHER_SIGNATURES:
        if data.startswith(signature):
            raise AnnotationError(f"{path}: is {description}")
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        value = data[error.start : error.start + 1]
        raise AnnotationError(f"{path}, line {line}: {value!r} is not UTF-8; save the list as UTF-8") from None
    return text


def read_table_text(path: Path) -> str:
    """As `read_text`, for tables and lists of lines.

    Raises:
        AnnotationError: also where the file is JSON.
    """
    text = read_text(path)
    if is_json_text(text) or path.suffix.lower() in (".json", ".jsonl"):
        raise AnnotationError(
            f"{path}: is JSON, which this format is not; check --format, or write a CSV file with the columns path, "
            "label, split"
        )
    return text


def is_json_text(text: str) -> bool:
    """Whether a text begins as JSON objects and lists of objects or texts do; a line of a table may begin with [."""
    return text.lstrip().startswith(("{", "[{", "[\n", "[\r\n", '["'))


def _encoding(data: bytes) -> str:
    """The encoding by the byte order mark, or by the position of zero bytes in the first character; else UTF-8."""
    for signature, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(signature):
            return encoding
    if len(data) >= 4 and data[1] == 0 and data[0] != 0:
        return "utf-16-le"
    if len(data) >= 4 and data[0] == 0 and data[1] != 0:
        return "utf-16-be"
    return "utf-8"
