"""What is used of argparse's private interfaces exists, and has the effect that it is used for."""

from argparse import ArgumentParser

from pipeline.cli.argparse_internals import move_actions


def test_options_move_to_a_group() -> None:
    parser = ArgumentParser(prog="x")
    parser.add_argument("--width")
    parser.add_argument("--out")
    group = parser.add_argument_group("Size")
    move_actions(parser, group, {"width"})
    _, _, after_title = parser.format_help().partition("Size:")
    assert "--width" in after_title
    assert "--out" not in after_title
    assert vars(parser.parse_args(["--width", "3"])) == {"width": "3", "out": None}
