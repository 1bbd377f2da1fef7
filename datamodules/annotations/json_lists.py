"""JSON lists: the file as plain values, and entries whose errors name the file, the entry, the value and the fix."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations.list_text import AnnotationError, is_json_text, read_text

_MAX_CHARACTERS = 80


def is_json_list(path: Path) -> bool:
    """Whether a file is JSON, by its suffix or its first characters."""
    if path.suffix.lower() == ".json":
        return True
    return path.suffix.lower() != ".parquet" and is_json_text(read_text(path))


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        AnnotationError: the file is missing, cannot be read, or is not valid JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}, line {error.lineno}: is not valid JSON ({error.msg}); save it again") from None


class JsonEntry(NamedTuple):
    """One object in a JSON list.

    Attributes:
        location: the file and the place in it, the beginning of error messages.
        values: the object.
    """

    location: str
    values: Mapping[str, Any]

    def error(self, field: str, fix: str) -> AnnotationError:
        """Constructs the error about one value, to raise."""
        shown = repr(self.values[field]) if field in self.values else "is missing"
        shown = shown if len(shown) <= _MAX_CHARACTERS else f"{shown[: _MAX_CHARACTERS - 3]}..."
        value = f"{field}={shown}" if field in self.values else f"{field} {shown}"
        return AnnotationError(f"{self.location}: {value}: {fix}")

    def text(self, field: str) -> str:
        """A text, or a whole number as text, stripped of blanks.

        Raises:
            AnnotationError: it is missing, empty, of another type, or has control characters.
        """
        value = self.values.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, "must be a text that is not empty")
        if re.search(r"[\x00-\x1f\x7f]", value.strip()):
            raise self.error(field, "holds a control character; remove it")
        return value.strip()

    def integer(self, field: str) -> int:
        """A whole number of 0 or more.

        Raises:
            AnnotationError: it is missing, negative or of another type.
        """
        value = self.values.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.error(field, "must be a whole number, 0 or more")
        return value

    def interval(self, field: str) -> tuple[float, float]:
        """Two finite numbers, a start and an end; whether they are in order is not checked.

        Raises:
            AnnotationError: the value is no list of two numbers.
        """
        value = self.values.get(field)
        if not (isinstance(value, list) and len(value) == 2 and all(map(_is_finite, value))):
            raise self.error(field, "must be two numbers, a start and an end")
        return float(value[0]), float(value[1])

    def entries(self, field: str) -> Iterator["JsonEntry"]:
        """The objects in a list, or none where the list is missing or null.

        Raises:
            AnnotationError: the value is no list of objects.
        """
        value = self.values.get(field)
        if value is None:
            return
        if not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
            raise self.error(field, "must be a list of objects")
        for number, one in enumerate(value, 1):
            yield JsonEntry(f"{self.location}, {field} {number}", one)


def list_entries(path: Path, content: Any) -> list[JsonEntry]:
    """The objects of a JSON file that is one list; at least one.

    Raises:
        AnnotationError: the file is something else, or empty.
    """
    if not (isinstance(content, list) and content and all(isinstance(one, dict) for one in content)):
        raise AnnotationError(f"{path}: must be a JSON list of objects, one a video; check the file and --format")
    return [JsonEntry(f"{path}, entry {number}", one) for number, one in enumerate(content, 1)]


def keyed_entries(path: Path, content: Any) -> dict[str, JsonEntry]:
    """Key -> object, of a JSON file that is one object of objects; at least one.

    Raises:
        AnnotationError: the file is something else, or empty.
    """
    if not (isinstance(content, dict) and content and all(isinstance(one, dict) for one in content.values())):
        raise AnnotationError(f"{path}: must be a JSON object of objects, one a video; check the file and --format")
    return {key: JsonEntry(f"{path}, {key!r}", one) for key, one in content.items()}


def keyed_texts(path: Path, content: Any) -> dict[str, str]:
    """Key -> text, of a JSON file that is one object of texts or whole numbers; at least one.

    Raises:
        AnnotationError: the file is something else, or empty.
    """
    values = content.values() if isinstance(content, dict) else ()
    if not values or not all(isinstance(one, str | int) and not isinstance(one, bool) for one in values):
        raise AnnotationError(f"{path}: must be a JSON object of texts or whole numbers; use the official file")
    return {key: str(one) for key, one in content.items()}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
