"""What packing prints at its end: counts of classes, and notes on the sources."""

import json
from types import SimpleNamespace

import pytest

from datamodules.encoding.transcoding import SourceIrregularities
from pipeline.packing.pack_summary import _class_counts
from pipeline.packing.source_notes import (
    NoteCount,
    add_notes,
    describe_columns,
    describe_notes,
    notes_as_json,
    notes_from_json,
    video_notes,
)


def rows(counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        SimpleNamespace(rows=[SimpleNamespace(description=SimpleNamespace(class_names=[label])) for label in labels])
    ]


def test_few_classes_are_all_told_and_of_many_the_ends():
    assert _class_counts(rows({"b": 2, "a": 2, "c": 3})) == "c 3, a 2, b 2"
    many = _class_counts(rows({f"k{number:02d}": number for number in range(1, 15)}))
    assert many == "k14 14, k13 13, k12 12, ... (8 more, `python -m pipeline stats` has all), k03 3, k02 2, k01 1"
    assert _class_counts([]) == "none"


COPIED = {"copy": True}
ENCODED = {"copy": False, "fps": None, "square_pixels": False}


def test_nothing_is_told_of_plain_videos() -> None:
    assert video_notes("a", SourceIrregularities()) == {}
    assert describe_notes({}, ENCODED) == describe_notes({}, COPIED) == []


def test_counts_are_summed_and_the_first_keys_are_named() -> None:
    sources = [SourceIrregularities(variable_rate=True, clock_jumps=number) for number in range(5)]
    notes = add_notes(video_notes(f"v{number}", source) for number, source in enumerate(sources))
    assert notes == {
        "variable_rate": NoteCount(5, 5, ("v0", "v1", "v2")),
        "clock_jumps": NoteCount(4, 10, ("v1", "v2", "v3")),
    }
    assert notes_from_json(json.loads(json.dumps(notes_as_json(notes)))) == notes
    assert describe_notes(notes, ENCODED) == [
        "variable rate: 5 videos (v0, v1, v2, ...), every frame is kept at its own time",
        "clocks that restart or jump: 4 videos (v1, v2, v3, ...), 10 places, closed: no frame is lost or doubled",
    ]
    assert describe_notes(notes, COPIED)[1].endswith("10 places, stored as they are")


def test_resampled_frames_are_counted_for_variable_and_constant_rates_apart() -> None:
    notes = add_notes(
        [
            video_notes("uneven", SourceIrregularities(variable_rate=True, frames_dropped=7, frames_repeated=2)),
            video_notes("fast", SourceIrregularities(frames_dropped=30)),
            video_notes("slow", SourceIrregularities(frames_repeated=1)),
        ]
    )
    assert describe_notes(notes, ENCODED | {"fps": 15.0}) == [
        "variable rate: 1 video (uneven), resampled to 15 frames a second: 7 source frames not shown, 2 shown more "
        "than once",
        "constant rate: 2 videos (fast, slow), resampled to 15 frames a second: 30 source frames not shown, 1 shown "
        "more than once",
    ]


@pytest.mark.parametrize(
    ("encode", "streams", "pixels"),
    [
        (ENCODED, "left out", "kept as stored: the index has their pixel_aspect, --square-pixels makes them square"),
        (ENCODED | {"square_pixels": True}, "left out", "made square"),
        (COPIED, "stored, never read", "kept as stored: the index has their pixel_aspect"),
    ],
)
def test_streams_and_pixels(encode: dict[str, object], streams: str, pixels: str) -> None:
    notes = video_notes("[b]", SourceIrregularities(other_streams=2, stretched_pixels=True))
    assert describe_notes(notes, encode) == [
        f"further video streams: 1 video ([b]), 2 streams, {streams}",
        f"pixels that are not square: 1 video ([b]), {pixels}",
    ]


def test_what_an_index_tells() -> None:
    assert describe_columns([False, False], [1.0, 1.0]) == []
    assert describe_columns([True, False, True], [1.0, 16 / 11, 16 / 11]) == [
        "variable rate: 2 videos, whose frames a second are an average",
        "pixels that are not square: 2 videos (width through height 1.455 in 2)",
    ]
