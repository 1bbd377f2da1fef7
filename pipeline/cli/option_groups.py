"""Options as frozen dataclasses: one docstring an option, flat names on the command line, titled groups in the help.

A verb with many options takes them as one frozen dataclass, which is composed of others by inheritance:
`class EvaluateOptions(ViewOverrides, ClipOverrides, LoadingOptions, ComputeOptions)`. Every class is a group of options
that belong together, and is shared by the verbs that have them; a function that needs one group takes that class.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser


def options_class(function: Callable[..., Any]) -> type[Any] | None:
    """The dataclass that holds the options of a function.

    Args:
        function: A verb; or a class, which is one where it is a dataclass, and which has one where an attribute named
            `options` is annotated with it, as `ShardedVideoDataModule` has.

    Returns:
        None where the function's own parameters are its options.
    """
    if dataclasses.is_dataclass(function) and isinstance(function, type):
        return function
    hints = typing.get_type_hints(function)
    names = ["options"] if inspect.isclass(function) else list(inspect.signature(function).parameters)
    hint = hints.get(names[0]) if len(names) == 1 else None
    return hint if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None


def option_groups(options: type[Any]) -> dict[str, list[str]]:
    """The titled groups of a composed dataclass, in the order of its bases: title to names of fields.

    The title is the first line of the docstring of the class that declares the fields, the first to do so: one that
    narrows the type or the default of an option has it in its own group. Fields that the composed class declares itself
    are in no group, as the options of a verb that are no other's.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Size:
    ...     '''Size of the picture.'''
    ...     width: int = 1
    >>> @dataclasses.dataclass(frozen=True)
    ... class Options(Size):
    ...     '''Options of a verb.'''
    ...     out: str = ""
    >>> option_groups(Options)
    {'Size of the picture': ['width']}
    """
    taken = set(inspect.get_annotations(options))
    groups: dict[str, list[str]] = {}
    for base in options.__mro__[1:]:
        if not dataclasses.is_dataclass(base):
            continue
        declared = {name for name in inspect.get_annotations(base) if name not in taken}
        taken |= declared
        title = (inspect.getdoc(base) or base.__name__).splitlines()[0].rstrip(".")
        names = [field.name for field in dataclasses.fields(options) if field.name in declared]
        if names:
            groups.setdefault(title, []).extend(names)
    return groups


class GroupedParser(ArgumentParser):
    """A parser in whose help the options of a class stand in the groups of its dataclasses."""

    def add_class_arguments(
        self, class_type: type, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """As jsonargparse's; then every option that belongs to a group is shown there."""
        added: list[str] = super().add_class_arguments(class_type, nested_key, *args, **kwargs)
        options = options_class(class_type)
        for title, names in option_groups(options).items() if options else ():
            group = self.add_argument_group(title)
            dests = {name if nested_key is None else f"{nested_key}.{name}" for name in names}
            for other in self._action_groups:  # argparse shows a group's options, and parses those of all groups
                moved = [action for action in other._group_actions if action.dest in dests]
                other._group_actions = [action for action in other._group_actions if action not in moved]
                group._group_actions += moved
        return added
