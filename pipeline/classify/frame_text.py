"""Text on frames: names in any script, drawn in fonts of this machine that have their characters.

Pillow's embedded font has the characters of ASCII. For others, fontconfig (`fc-match`, on nearly every Linux) finds the
installed font that has most of them. A character that no font has is drawn without its accents, else as "?".
"""

import functools
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from PIL import ImageFont

from datamodules.storage.plain_text import printable

_PROBE_SIZE = 16
_NONCHARACTER = "\uffff"  # a Unicode noncharacter, which no font has: drawn as every missing character is
_MAC_FONT = "Arial Unicode.ttf"  # where there is no fontconfig
_INVISIBLE_CATEGORIES = ("Mn", "Cf")  # Unicode categories: combining marks; format characters such as joiners
_MAX_NAMED = 3


class DrawableText(NamedTuple):
    """A text as a font of this machine can show it.

    Attributes:
        text: the text to draw.
        font: path or name of a font file; None is Pillow's embedded font.
        missing: characters of the original text that are replaced in `text`.
    """

    text: str
    font: str | None
    missing: str


def drawable_texts(texts: Sequence[str]) -> list[DrawableText]:
    """Chooses for each text the font that has most of its characters; escapes control characters by `printable`."""
    texts = [printable(text) for text in texts]
    fonts = _find_fonts("".join(sorted({letter for text in texts for letter in text})))
    return [_choose_font(text, fonts) for text in texts]


def describe_missing(texts: Sequence[DrawableText]) -> str:
    """A sentence on characters that no font of this machine has; empty where all can be drawn."""
    changed = [text for text in texts if text.missing]
    if not changed:
        return ""
    shown = ", ".join(text.missing for text in changed[:_MAX_NAMED]) + (", ..." if len(changed) > _MAX_NAMED else "")
    return (
        f"{len(changed)} of {len(texts)} names have characters that no font on this machine has: {shown}; they are "
        "drawn without accents or as '?'; install a font that has them, such as Debian's fonts-noto-cjk"
    )


@functools.cache
def open_font(font: str | None, size: float) -> ImageFont.FreeTypeFont:
    """Opens a font file, or for None Pillow's embedded font, at a size in pixels.

    Raises:
        OSError: there is no such font.
    """
    if font is not None:
        return ImageFont.truetype(font, size)
    default = ImageFont.load_default(size)
    assert isinstance(default, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return default


def _find_fonts(letters: str) -> list[str | None]:
    """Pillow's embedded font, then installed fonts, until all letters are covered or no font has any of the rest."""
    fonts: list[str | None] = [None]
    letters = _missing_characters(letters, None)
    while letters:
        try:
            uncovered = _missing_characters(letters, font := _query_fontconfig(letters))
        except OSError:
            break
        if len(uncovered) == len(letters):
            break
        fonts.append(font)
        letters = uncovered
    return fonts


def _query_fontconfig(letters: str) -> str:
    if shutil.which("fc-match") is None:
        return _MAC_FONT
    codes = " ".join(f"{ord(letter):x}" for letter in letters)
    command = ["fc-match", "--format", "%{file}", f"sans:charset={codes}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _choose_font(text: str, fonts: Sequence[str | None]) -> DrawableText:
    missing, font = min(
        ((_missing_characters(text, font), font) for font in fonts), key=lambda candidate: len(candidate[0])
    )
    return DrawableText(
        "".join(_strip_accents(character, font) if character in missing else character for character in text),
        font,
        missing,
    )


def _strip_accents(letter: str, font: str | None) -> str:
    """A letter without accents if the font has it, "" for a combining mark or a joiner, else a question mark."""
    base = "".join(
        character
        for character in unicodedata.normalize("NFKD", letter)
        if unicodedata.category(character) not in _INVISIBLE_CATEGORIES
    )
    return "?" if _missing_characters(base, font) else base


def _missing_characters(text: str, font: str | None) -> str:
    """The distinct characters of a text that a font lacks."""
    return "".join(letter for letter in dict.fromkeys(text) if not _has_glyph(letter, font))


@functools.cache
def _has_glyph(letter: str, font: str | None) -> bool:
    if letter.isspace():
        return True
    probe = open_font(font, _PROBE_SIZE).font_variant(layout_engine=ImageFont.Layout.BASIC)  # letter by letter
    drawn, nothing = probe.getmask(letter), probe.getmask(_NONCHARACTER)
    return (drawn.size, bytes(drawn)) != (nothing.size, bytes(nothing))
