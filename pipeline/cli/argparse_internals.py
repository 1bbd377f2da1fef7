"""Use of argparse's private interfaces, the same in Python 3.11 to 3.14; a test checks it."""

from argparse import ArgumentParser, _ArgumentGroup
from collections.abc import Collection


def move_actions(parser: ArgumentParser, group: _ArgumentGroup, dests: Collection[str]) -> None:
    """Move options to another group of a parser; only the help depends on it, parsing does not.

    Args:
        parser: The parser of the options.
        group: The new group of the options, made by `parser.add_argument_group`.
        dests: The attributes in which the options are stored.
    """
    for other in parser._action_groups:
        moved = [action for action in other._group_actions if action.dest in dests]
        other._group_actions = [action for action in other._group_actions if action not in moved]
        group._group_actions += moved
