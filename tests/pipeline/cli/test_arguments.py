"""Command lines as people type them."""

from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.cli.arguments import call_from_command_line, expand_option_names, usage_of


def verb(
    root: Path, lists: list[Path] | None = None, flag: bool = False, maybe: bool | None = None, short_side: int = 1
) -> None:
    """Stands for any verb."""


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("--root r --short_side 2", "--root r --short_side 2"),
        ("--root=r --short-side=2", "--root=r --short_side=2"),
        ("--root=r --print-config", "--root=r --print_config"),
        ("--lists a b --root r", "--lists+=a --lists+=b --root r"),
        ("--lists a --lists b", "--lists+=a --lists+=b"),
        ("--lists [a,b]", "--lists [a,b]"),
        ("--lists=a-b", "--lists+=a-b"),
        ("--flag --root r", "--flag=true --root r"),
        ("--flag false --maybe", "--flag false --maybe=true"),
        ("--flag=false", "--flag=false"),
        ("--un-known x --config-file=a-b.yaml", "--un-known x --config-file=a-b.yaml"),
        ("--help", "--help"),
        ("--lists", "--lists"),
        ("r", "--root=r"),
        ("r --flag --short-side 2", "--flag=true --short_side 2 --root=r"),
        ("--flag r", "--flag=true --root=r"),
        ("--lists a b --flag r", "--lists+=a --lists+=b --flag=true --root=r"),
        ("r --root s", "--root s r"),
        ("", ""),
    ],
)
def test_words_are_spelled_out(typed: str, spelled: str) -> None:
    assert expand_option_names(verb, typed.split()) == spelled.split()


def sized(data: Path, sides: int | list[int] = 1) -> None:
    """Stands for a verb that takes one number or several."""


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("--sides 256 128 --data d", "--sides=[256,128] --data d"),
        ("--sides 256 128 d", "--sides=[256,128] --data=d"),
        ("--sides 256 d", "--sides 256 --data=d"),
        ("--sides=256 d", "--sides=256 --data=d"),
        ("d --sides 256", "--sides 256 --data=d"),
        ("--sides [256,128]", "--sides [256,128]"),
    ],
)
def test_one_number_or_several(typed: str, spelled: str) -> None:
    assert expand_option_names(sized, typed.split()) == spelled.split()


def several(data: Path, keys: list[str], reason: str = "") -> None:
    """Stands for a verb of several arguments."""


def test_bare_words_stand_for_what_has_no_default() -> None:
    arguments = ["folder", "a", "b=c", "--reason", "too dark"]
    assert expand_option_names(several, arguments) == [
        "--reason",
        "too dark",
        "--data=folder",
        "--keys+=a",
        "--keys+=b=c",
    ]
    assert expand_option_names(several, ["--keys", "a", "b", "--reason=", "folder"])[-1] == "--data=folder"


def heard(data: Path, keys: list[str]) -> list[str]:
    """Stands for a verb that takes keys, or names of files."""
    return keys


UNUSUAL_NAMES = [
    "[Group] a.mp4",
    "[k]",
    '["k"]',
    "?",
    "-abc",
    "--abc",
    "null",
    "1e5",
    "{a: b}",
    "a: b",
    "#",
    "é",
    "\t",
    "0x1",
]


@pytest.mark.parametrize("word", UNUSUAL_NAMES)
def test_a_bare_word_is_text_whatever_it_holds(word: str) -> None:
    assert call_from_command_line(heard, ["folder", "--", word], "x") == [word]
    assert call_from_command_line(heard, ["folder", "--", "a", word, "b"], "x") == ["a", word, "b"]
    if not word.startswith("-"):
        assert call_from_command_line(heard, ["folder", word], "x") == [word]
    if not word.endswith("]"):  # a list may be given as one
        assert call_from_command_line(heard, ["folder", f"--keys={word}"], "x") == [word]


def test_the_usage_shows_which_words_need_no_option() -> None:
    assert usage_of(several, "x") == "x DATA KEYS ... [options]"
    assert usage_of(verb, "x") == "x ROOT [options]"
    assert usage_of(lambda: None, "x") == "x [options]"

    def led_by_a_list(results: list[Path], out: Path) -> None: ...

    assert usage_of(led_by_a_list, "x") == "x RESULTS ... --out OUT [options]"
    arguments = expand_option_names(led_by_a_list, ["a", "b", "--out", "c"])
    assert arguments == ["--out", "c", "--results+=a", "--results+=b"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--crf=abc", "crf: must be a whole number, not abc"),
        ("--fps=abc", "fps: must be a number, not abc"),
        ("--fast-decode=abc", "fast_decode: must be true or false, not abc"),
    ],
)
def test_what_kind_a_value_must_be_is_said_in_words(
    capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    assert main(["pack", "--out", "nowhere", option]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"


def test_a_word_that_is_not_utf8_is_named_with_its_bytes():
    def example(videos: list[str]) -> None: ...

    with pytest.raises(ValueError, match=r"b'caf\\xe9.mp4' is not UTF-8; rename the file"):
        call_from_command_line(example, ["good.mp4", "caf\udce9.mp4"], "example")
