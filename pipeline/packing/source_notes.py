"""Notes on peculiarities of packed sources, such as a variable frame rate: counted by part, printed at the end."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from datamodules.annotations.segments import END_MARGIN_S
from datamodules.encoding.transcoding import SourceIrregularities

MAX_KEYS = 3


class NoteCount(NamedTuple):
    """Number of videos with a peculiarity.

    Attributes:
        videos: number of videos.
        amount: number of occurrences in all of them: places, streams or frames.
        keys: keys of the first videos, at most `MAX_KEYS`.
    """

    videos: int = 0
    amount: int = 0
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        suffix = ", ..." if self.videos > len(self.keys) else ""
        return f"{_format_count(self.videos, 'video')} ({', '.join(self.keys)}{suffix})"


# Counts by field of `SourceIrregularities`; dropped and repeated frames are counted separately for constant and
# variable rates.
Notes = dict[str, NoteCount]


def video_notes(key: str, source: SourceIrregularities) -> Notes:
    """The notes on one video."""
    amounts: dict[str, int] = source._asdict()
    dropped, repeated = amounts.pop("frames_dropped"), amounts.pop("frames_repeated")
    kind = "variable" if source.variable_rate else "constant"
    amounts |= {f"{kind}_dropped": dropped, f"{kind}_repeated": repeated, f"{kind}_resampled": dropped + repeated}
    return {name: NoteCount(1, int(amount), (key,)) for name, amount in amounts.items() if amount}


def add_notes(notes: Iterable[Notes]) -> Notes:
    """Sums notes; the sum has the first `MAX_KEYS` keys."""
    total: Notes = {}
    for summand in notes:
        for name, count in summand.items():
            sum_ = total.get(name, NoteCount())
            keys = (*sum_.keys, *count.keys)[:MAX_KEYS]
            total[name] = NoteCount(sum_.videos + count.videos, sum_.amount + count.amount, keys)
    return total


def notes_as_json(notes: Notes) -> dict[str, Any]:
    """The notes as plain values, for a part's record."""
    return {name: count._asdict() for name, count in notes.items()}


def notes_from_json(content: Mapping[str, Any]) -> Notes:
    """Reads what `notes_as_json` made.

    Raises:
        KeyError, TypeError, ValueError: the content is damaged.
    """
    return {
        name: NoteCount(int(one["videos"]), int(one["amount"]), tuple(map(str, one["keys"])))
        for name, one in content.items()
    }


def describe_notes(notes: Notes, encode: Mapping[str, Any]) -> list[str]:
    """A line for each kind of note.

    Args:
        notes: the summed notes on all videos.
        encode: the encoding as in dataset.json: `copy`, and where it is false `fps` and `square_pixels`.
    """
    copied, fps = encode["copy"], encode.get("fps")
    lines = []
    if variable := notes.get("variable_rate"):
        resampled = fps is not None or "variable_resampled" in notes
        treatment = _describe_resampling(notes, "variable", fps) if resampled else "every frame is kept at its own time"
        lines.append(f"variable rate: {variable}, {treatment}")
    if constant := notes.get("constant_resampled"):
        lines.append(f"constant rate: {constant}, {_describe_resampling(notes, 'constant', fps)}")
    if jumps := notes.get("clock_jumps"):
        treatment = "stored as they are" if copied else "closed: no frame is lost or doubled"
        lines.append(f"clocks that restart or jump: {jumps}, {_format_count(jumps.amount, 'place')}, {treatment}")
    if streams := notes.get("other_streams"):
        treatment = "stored, never read" if copied else "left out"
        lines.append(f"further video streams: {streams}, {_format_count(streams.amount, 'stream')}, {treatment}")
    if stretched := notes.get("stretched_pixels"):
        treatment = "kept as stored: the index has their pixel_aspect"
        treatment += "" if copied else ", --square-pixels makes them square"
        treatment = "made square" if encode.get("square_pixels") else treatment
        lines.append(f"pixels that are not square: {stretched}, {treatment}")
    if late := notes.get("ends_after_file"):
        lines.append(f"segments that end up to {END_MARGIN_S:g} s after their file: {late}, cut at its end")
    return lines


def describe_columns(variable_rates: Iterable[bool], pixel_aspects: Iterable[float]) -> list[str]:
    """A line for variable frame rates and one for non-square pixels, counted in the columns of an index."""
    lines = []
    if num_variable := sum(map(bool, variable_rates)):
        lines.append(f"variable rate: {_format_count(num_variable, 'video')}, whose frames a second are an average")
    aspects = Counter(f"{aspect:.4g}" for aspect in pixel_aspects if not math.isclose(aspect, 1.0, rel_tol=1e-3))
    if aspects:
        described = ", ".join(f"{aspect} in {count}" for aspect, count in aspects.most_common(MAX_KEYS))
        described += ", ..." if len(aspects) > MAX_KEYS else ""
        number = _format_count(aspects.total(), "video")
        lines.append(f"pixels that are not square: {number} (width through height {described})")
    return lines


def _describe_resampling(notes: Notes, kind: str, fps: float | None) -> str:
    """The phrase on resampled videos: how many source frames are not shown, and how many are shown more than once."""
    dropped, repeated = (notes.get(f"{kind}_{field}", NoteCount()).amount for field in ("dropped", "repeated"))
    rate = "their average rate" if fps is None else f"{fps:g} frames a second"
    return f"resampled to {rate}: {_format_count(dropped, 'source frame')} not shown, {repeated} shown more than once"


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
