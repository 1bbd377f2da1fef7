"""Options as frozen dataclasses: one docstring an option, flat names on the command line, titled groups in the help.

A verb with many options takes them as one frozen dataclass, which is composed of others by inheritance:
`class EvaluateOptions(ViewOverrides, ClipOverrides, LoadingOptions, ComputeOptions)`. Every class is a group of related
options, shared by the verbs that have them; a function that needs one group takes that class.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser

from datamodules.options import Options
from pipeline.cli.argparse_internals import move_actions
from pipeline.cli.arguments import hyphenate_options


def options_class(function: Callable[..., Any]) -> type[Any] | None:
    """The dataclass of the options of a function or class.

    Args:
        function: A function; a dataclass; or a class with an attribute `options` that is annotated with a dataclass,
            such as `ShardedVideoDataModule`.

    Returns:
        The annotation of a function's only parameter, the dataclass itself, or the annotation of `options`; None where
        that is no dataclass, and the function's own parameters are its options.
    """
    if dataclasses.is_dataclass(function) and isinstance(function, type):
        return function
    hints = typing.get_type_hints(function)
    names = ["options"] if inspect.isclass(function) else list(inspect.signature(function).parameters)
    hint = hints.get(names[0]) if len(names) == 1 else None
    return hint if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None


class OptionGroup(NamedTuple):
    """A group of options: the first line of a dataclass's docstring, the text after it, and the names of its fields."""

    title: str
    description: str
    names: list[str]


def option_groups(options: type[Any]) -> list[OptionGroup]:
    """The groups of a composed dataclass, in the order of its fields.

    A group is a base class with all its fields. Fields that the composed class declares itself, the options that no
    other verb has, are in no group.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class FrameSize:
    ...     '''Size of a frame.'''
    ...     width: int = 1
    >>> @dataclasses.dataclass(frozen=True)
    ... class Options(FrameSize):
    ...     '''Options of a verb.'''
    ...     out: str = ""
    >>> option_groups(Options)
    [OptionGroup(title='Size of a frame', description='', names=['width'])]
    """
    groups: dict[type[Any], list[str]] = {}
    for field in dataclasses.fields(options):
        groups.setdefault(_group_class(field.name, options), []).append(field.name)
    groups.pop(options, None)
    composed_groups = []
    for group, names in groups.items():
        title, _, rest = (inspect.getdoc(group) or group.__name__).partition("\n\n")
        description = "" if rest.startswith("Attributes:") else rest.partition("\n\nAttributes:")[0]
        composed_groups.append(OptionGroup(title.rstrip("."), description, names))
    return composed_groups


def _group_class(name: str, composed: type[Any]) -> type[Any]:
    """The class that is a field's group: the one that declares it, or has it and does not inherit from several."""
    if name in inspect.get_annotations(composed):
        return composed
    base = next(base for base in composed.__bases__ if name in (field.name for field in dataclasses.fields(base)))
    return _group_class(name, base) if len(base.__bases__) > 1 else base


class GroupedParser(ArgumentParser):
    """Argument parser whose help shows the options of a class in the groups of its dataclasses.

    Attributes:
        appendix: Text at the end of the help, with its own line breaks.
    """

    appendix = ""

    def add_class_arguments(
        self, class_type: type, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Adds the options of a class as jsonargparse does, then moves them to their groups in the help."""
        added: list[str] = super().add_class_arguments(class_type, nested_key, *args, **kwargs)
        options = options_class(class_type)
        for title, description, names in option_groups(options) if options else ():
            group = self.add_argument_group(title, description or None)
            dests = {name if nested_key is None else f"{nested_key}.{name}" for name in names}
            move_actions(self, group, dests)
        return added

    def format_help(self, *args: Any, **options: Any) -> str:
        """The help, with hyphens in the names of options, and the appendix."""
        text = hyphenate_options(super().format_help(*args, **options))
        return f"{text}\n{self.appendix}\n" if self.appendix else text


def parser_with_appendix(options: type[Any] | None, arguments: Sequence[str]) -> type[GroupedParser]:
    """The class of a parser whose help ends in the `help_appendix` of the options for these arguments."""
    appendix = options.help_appendix(arguments) if options is not None and issubclass(options, Options) else ""
    return type("GroupedParser", (GroupedParser,), {"appendix": appendix}) if appendix else GroupedParser
