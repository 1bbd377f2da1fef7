"""The order of classes: from a text file of names, the official list, numeric labels or the alphabet."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datamodules.dataset.shard_tar import ShardRow, VideoDescription

_NUMBER = re.compile(r"-?[0-9]+")


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sorts the distinct labels: by value where all are integers, else alphabetically.

    >>> sort_labels(["10", "2", "0"])
    ['0', '2', '10']
    >>> sort_labels(["10", "2", "run"])
    ['10', '2', 'run']
    """
    found = set(labels)
    numbers = all(_NUMBER.fullmatch(label) for label in found)
    return sorted(found, key=(lambda label: (int(label), label)) if numbers else None)


def name_classes(
    rows: Sequence[ShardRow], class_list: Path | None, earlier: Sequence[str]
) -> tuple[list[ShardRow], list[str]]:
    """Determines class names, in the order of the labels, of videos that are already in shards.

    Args:
        rows: The videos; a label that is a number and no name in the list is a position in the list, from 0.
        class_list: Text file of class names, one a line; None: there is no list.
        earlier: Class names of an earlier index; kept where they contain all labels and `class_list` is None.

    Returns:
        The rows, with numbers replaced by names; and the class names: the list, `earlier`, or all labels in the order
        of `sort_labels`.

    Raises:
        ValueError: The list cannot be read, repeats a name, or lacks a label.
    """
    labels = {label for row in rows for label in row.description.class_names}
    if class_list is None:
        if labels <= set(earlier):
            return list(rows), list(earlier)
        return list(rows), sort_labels(labels)
    names = read_class_list(class_list)
    renamed = {label: _resolve_label(label, names, class_list) for label in labels}
    return [row._replace(description=_rename(row.description, renamed)) for row in rows], names


def _rename(description: VideoDescription, renamed: Mapping[str, str]) -> VideoDescription:
    timeline = description.timeline
    return description._replace(
        label=renamed.get(description.label, ""),
        labels=tuple(renamed[label] for label in description.labels),
        timeline=None if timeline is None else tuple((renamed[label], start, end) for label, start, end in timeline),
    )


def _resolve_label(label: str, names: Sequence[str], class_list: Path) -> str:
    if label in names:
        return label
    if label.isascii() and label.isdigit() and int(label) < len(names):
        return names[int(label)]
    raise ValueError(f"label {label!r} of the tars is not among the {len(names)} names in {class_list}; add it")


def order_classes(labels: Iterable[str], official: Sequence[str], class_list: Path | None) -> list[str]:
    """Determines class names, in the order of the labels, of lists of videos.

    Args:
        labels: The labels of the videos, in any order, with repetitions.
        official: All class names in the order of the annotations; empty where they give no order.
        class_list: Text file of class names, one a line, which takes precedence; None: there is none.

    Raises:
        ValueError: The file cannot be read, repeats a name, or lacks a label.
    """
    sorted_labels = sort_labels(labels)
    if class_list is None:
        return list(official) or sorted_labels
    names = read_class_list(class_list)
    if not sorted_labels:
        raise ValueError(f"classes={class_list}: the videos have no labels; leave --classes out")
    listed = set(names)
    unknown = [label for label in sorted_labels if label not in listed]
    if unknown:
        raise ValueError(f"label {unknown[0]!r} of the annotations is not in {class_list}; add it or correct the list")
    return names


def read_class_list(class_list: Path) -> list[str]:
    """Reads class names from a text file, one a line; raises ValueError where it cannot be read or repeats a name."""
    try:
        # Only line feeds end lines: str.splitlines would also split names at other characters, such as U+2028.
        names = [line.strip() for line in class_list.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"classes={class_list}: cannot be read ({error}); name a text file with one class a line"
        ) from None
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"classes={class_list}: {repeated[0]!r} is there twice; keep one")
    return names
