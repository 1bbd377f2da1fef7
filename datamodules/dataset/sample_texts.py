"""Texts of a foreign sample: its label, group and captions, or the reason why they cannot be used.

Text that cannot be represented unchanged (bytes that are not UTF-8, control characters in a name) is refused, and the
message shows the bytes: if it were cleaned, videos of different classes could get the same label.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from datamodules.annotations.records import as_captions
from datamodules.dataset.tar_members import TarSample
from datamodules.storage.plain_text import is_utf8

BAD_CAPTION = "bad caption"  # a sample whose txt or json is not text
_BLANKS = " \t\r\n"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class UnusableSampleError(ValueError):
    """A sample that cannot be used; `reason` is the category of the reason."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def find_captions(label_from: str, sample: TarSample) -> tuple[str, ...]:
    """The captions of a video by video2dataset: `caption` in its json, otherwise its txt; () if that is the label.

    Raises:
        UnusableSampleError: The json or txt to read is not text, or a caption cannot be represented.
    """
    metadata = _load(sample, "json", BAD_CAPTION) if "json" in sample.texts else {}
    captions = as_captions(metadata.get("caption")) if label_from != "json:caption" else ()
    if not captions and label_from not in ("txt", "json:caption") and "txt" in sample.texts:
        captions = as_captions(_decode(sample, "txt", BAD_CAPTION))
    for caption in captions:
        if not is_utf8(caption):
            raise UnusableSampleError(BAD_CAPTION, f"its caption {caption!a} holds half a character; correct it")
    return captions


def find_text(source: str, sample: TarSample, reason: str) -> str:
    """The text at a place in a sample.

    Args:
        source: `json:KEY`, `cls`, `txt` or `folder`, as in `TarLayout`.
        sample: The sample to search.
        reason: The reason of the refusal if there is no text.

    Raises:
        UnusableSampleError: There is no such place, or no text there; the message says what is there instead.
    """
    return _as_text(_find_value(source, sample, reason), source, reason)


def find_texts(source: str, sample: TarSample, reason: str) -> list[str] | None:
    """The texts of a list at a place in a sample: in its json, or a JSON list in its cls or txt; None for no list.

    Args:
        source: `json:KEY`, `cls`, `txt` or `folder`, as in `TarLayout`.
        sample: The sample to search.
        reason: The reason of the refusal if there is nothing.

    Raises:
        UnusableSampleError: There is no such place, or an entry is neither text nor a whole number.
    """
    value = _find_value(source, sample, reason)
    if source in ("cls", "txt") and value.strip().startswith("["):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return [_as_text(one, source, reason) for one in value] if isinstance(value, list) else None


def _find_value(source: str, sample: TarSample, reason: str) -> Any:
    if source == "folder":
        folders = sample.key.split("/")[:-1]
        if not folders:
            raise UnusableSampleError(reason, f"{sample.key} is in no folder of the tar")
        return folders[-1]
    kind, _, name = source.partition(":")
    if kind not in sample.texts:
        raise UnusableSampleError(reason, f"there is no .{kind} member, only {list_extensions(sample.extensions)}")
    if kind != "json":
        return _decode(sample, kind, reason)
    value: Any = _load(sample, kind, reason)
    for part in [name] if name in value else name.split("."):
        if not isinstance(value, dict) or part not in value:
            keys = ", ".join(value) if isinstance(value, dict) else repr(value)
            raise UnusableSampleError(reason, f"its json has no {name!r}, only {keys or 'an empty object'}")
        value = value[part]
    return value


def _as_text(value: Any, source: str, reason: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 3.0 means 3: pandas makes floats of integers where some are missing
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise UnusableSampleError(reason, f"{source} is {value!r}, not a name or a whole number")
    return str(value)


def as_name(text: str, source: str, reason: str) -> str:
    """The text stripped of blanks, checked to be a name.

    Args:
        text: The text from `find_text`.
        source: The place where it was found, for the message.
        reason: The reason of the refusal.

    Raises:
        UnusableSampleError: Nothing is left, or there are characters that names cannot have.
    """
    name = text.strip(_BLANKS)
    if not name.strip():
        raise UnusableSampleError(reason, f"{source} is {text!r}, which is empty; give every video one")
    if _CONTROLS.search(name):
        raise UnusableSampleError(reason, f"{source} is {text!r}, which holds a control character; write it as text")
    if not is_utf8(name):
        raise UnusableSampleError(reason, f"{source} is {text!a}, which is not UTF-8; write it as text")
    return name


def _decode(sample: TarSample, kind: str, reason: str) -> str:
    data = sample.texts[kind]
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableSampleError(reason, f"its .{kind} is not UTF-8: {data[:40]!r}; write it as text") from None


def _load(sample: TarSample, kind: str, reason: str) -> dict[str, Any]:
    """The object in a json member; {} if it is not an object."""
    try:
        content = json.loads(sample.texts[kind])
    except (ValueError, RecursionError) as error:
        raise UnusableSampleError(reason, f"its .{kind} is not JSON ({error}); correct it") from None
    return content if isinstance(content, dict) else {}


def json_keys(sample: TarSample) -> list[str]:
    """The keys of the object in a sample's json, for a message; [] if there is no such object."""
    try:
        return list(_load(sample, "json", "")) if "json" in sample.texts else []
    except UnusableSampleError:
        return []


def list_extensions(extensions: Sequence[str]) -> str:
    """The extensions of a sample's members, for a message."""
    return ", ".join(f".{extension}" for extension in extensions) or "nothing"
