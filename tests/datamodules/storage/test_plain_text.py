"""Text of others on its way out: nothing a terminal or a spreadsheet obeys, and back exactly for our own readers."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datamodules.storage.plain_text import is_utf8, printable, read_cell, to_json, write_cell

ANY = st.text(st.characters(codec=None, exclude_categories=())).filter(
    lambda text: not any("\ud800" <= one <= "\udfff" and not "\udc80" <= one <= "\udcff" for one in text)
)
ODD = st.text(st.sampled_from(list("=+-@'\"\\bx09 \t\r\n\0,;é\udce9\u2028")), max_size=12)


@given(st.lists(ANY | ODD, min_size=1, max_size=4))
@example(["=1+1"])
@example(["'=1+1", "''", "'"])
@example([" blanks around ", "\t", "\r", "\n", "\0"])
@example(["b'caf\\xe9'", "caf\udce9", "b'", 'b"\'"', "it's \udce9", "b'é'"])
def test_what_a_cell_holds_comes_back_exactly(texts: list[str]) -> None:
    # a name whose bytes are UTF-8 after all is not one that Python would decode so
    texts = [text.encode(errors="surrogateescape").decode(errors="surrogateescape") for text in texts]
    file = io.StringIO(newline="")
    csv.writer(file).writerow(map(write_cell, texts))
    read = next(csv.reader(io.StringIO(file.getvalue().encode().decode(), newline="")))
    assert [read_cell(cell) for cell in read] == texts
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in read)


def test_plain_text_is_written_as_it_is_and_a_persons_cell_loses_its_blanks() -> None:
    for text in ("Putting [something] onto [something]", "a/b.c", "0123", "b", "it's", 'say "x"', "שלום", "3.0"):
        assert write_cell(text) == read_cell(text) == text
    assert read_cell("  key ") == "key"
    assert write_cell("\ud800") == "\\ud800"  # half a character, which no file can hold


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]x[/red] :fire: <b>", "[red]x[/red] :fire: <b>"),
        ("a\x1b[31mb\x07\x08\x7f\x9b", "a\\x1b[31mb\\x07\\x08\\x7f\\x9b"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("caf\udce9 \ud83d", "caf\\xe9 \\ud83d"),
        ("txt.\u202egpj \u2066", "txt.\\u202egpj \\u2066"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("می\u200cروم 👨\u200d👩 é", "می\u200cروم 👨\u200d👩 é"),  # joiners belong to words and pictures
    ],
)
def test_nothing_is_left_that_a_terminal_obeys(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert is_utf8(shown)


def test_json_holds_any_text_and_reads_it_back(tmp_path: Path) -> None:
    value = {"path": "caf\udce9/é", "half": "\ud83d", "whole": "👩", "control": "\x1b\0"}
    (tmp_path / "a.json").write_text(to_json(value, indent=1), encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_bytes()) == value
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_what_is_to_stay_stays() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
