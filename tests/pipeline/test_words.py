"""Command lines as people type them."""

from pathlib import Path

import pytest

from pipeline.words import spell_out


def verb(
    root: Path, lists: list[Path] | None = None, flag: bool = False, maybe: bool | None = None, short_side: int = 1
) -> None:
    """Stands for any verb."""


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("--root r --short_side 2", "--root r --short_side 2"),
        ("--root=r --short-side=2", "--root=r --short_side=2"),
        ("--lists a b --root r", "--lists+=a --lists+=b --root r"),
        ("--lists a --lists b", "--lists+=a --lists+=b"),
        ("--lists [a,b]", "--lists [a,b]"),
        ("--lists=a-b", "--lists=a-b"),
        ("--flag --root r", "--flag=true --root r"),
        ("--flag false --maybe", "--flag false --maybe=true"),
        ("--flag=false", "--flag=false"),
        ("--un-known x --config-file=a-b.yaml", "--un-known x --config-file=a-b.yaml"),
        ("--help", "--help"),
        ("--lists", "--lists"),
        ("", ""),
    ],
)
def test_words_are_spelled_out(typed: str, spelled: str) -> None:
    assert spell_out(verb, typed.split()) == spelled.split()
