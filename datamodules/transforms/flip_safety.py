"""Flip safety: finds classes that depend on left and right by their names, and excludes them from mirroring."""

import re
from collections.abc import Sequence
from typing import Literal

SidedClasses = Literal["refuse", "keep", "mirror"] | list[str]

_SIDES = re.compile(r"left|right|leftwards?|rightwards?|(anti|counter)?clockwise")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def mentions_left_or_right(name: str) -> bool:
    """Whether a class name contains left, right or a sense of rotation as a separate word.

    Examples:
        >>> names = ("turning left", "Right_Hook", "TurnRight", "counter-clockwise", "bright light")
        >>> [mentions_left_or_right(name) for name in names]
        [True, True, True, True, False]
    """
    return any(_SIDES.fullmatch(word.lower()) for word in _WORDS.findall(name))


def unmirrored_labels(class_names: Sequence[str], flip_probability: float, sided: SidedClasses) -> frozenset[int]:
    """Labels of the classes whose clips are never mirrored in training.

    Args:
        class_names: the class names in label order.
        flip_probability: probability that a clip of any other class is mirrored.
        sided: classes that depend on left and right: `refuse` raises if a name mentions left or right; `keep` never
            mirrors those classes; `mirror` mirrors them as all others; a list names the classes never to mirror.

    Raises:
        ValueError: a name mentions left or right and `sided` is `refuse`; or a listed class does not exist.
    """
    if not isinstance(sided, str):
        unknown = [name for name in sided if name not in class_names]
        if unknown:
            raise ValueError(f"sided_classes: the dataset has no class {unknown[0]!r}; `stats` lists those it has")
        return frozenset(class_names.index(name) for name in sided)
    found = [name for name in class_names if mentions_left_or_right(name)]
    if sided == "refuse" and found and flip_probability > 0:
        omitted = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise ValueError(
            f"flip_probability={flip_probability}: mirroring would turn {', '.join(map(repr, found[:5]))}{omitted} "
            "into another class; set data.init_args.flip_probability to 0, or data.init_args.sided_classes to `keep` "
            "(never mirror these), `mirror`, or the list of the classes never to mirror"
        )
    return frozenset(class_names.index(name) for name in found) if sided == "keep" else frozenset()
