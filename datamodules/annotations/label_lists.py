"""Several labels of a video in a table: a list in one value, or a row for each label."""

import ast
import json
from collections.abc import Hashable, Sequence

from datamodules.annotations.tables import AnnotationRow

# Columns whose values are united, and those that say which video it is; all others must agree.
_UNITED = ("label", "labels", "path", "start", "end", "start_frame", "end_frame")


def labels_of(row: AnnotationRow) -> tuple[str, ...]:
    """The class names in the column `labels`, else in `label`, of a row; without repetitions, in the order of the list.

    The column `labels` is a list in JSON or in Python's form, as pandas writes it to CSV, or names separated by
    semicolons; empty for a video that shows none of the classes. A row with neither column has no class names.

    Raises:
        AnnotationError: the value is a list of other things than names, or `label` is empty.
    """
    if not row.values.keys() & {"label", "labels"}:
        return ()
    if "labels" not in row.values:
        if not row.values["label"].strip():
            raise row.error("label", "is empty; give every video a label, or remove the column to pack without labels")
        return (row.text("label"),)
    value = row.values["labels"].strip()
    if not value:
        return ()
    row.text("labels")  # which raises for control characters
    names = _parse_list(value) if value.startswith("[") else value.split(";")
    if names is None or not all(isinstance(name, str | int) for name in names):
        raise row.error("labels", 'must be a JSON list of class names, ["run", "jump"], or names separated by ;')
    return tuple(dict.fromkeys(name for name in (str(one).strip() for one in names) if name))


def unite_labels(
    rows: Sequence[AnnotationRow], videos: Sequence[Hashable], multi_label: bool
) -> tuple[list[int], list[tuple[str, ...]]]:
    """Unites the rows of each video, in the order of the first.

    Args:
        rows: the rows of a list.
        videos: the video of each row.
        multi_label: whether a video may have several rows.

    Returns:
        The position of each video's first row, and its class names.

    Raises:
        AnnotationError: a value is malformed; rows of one video differ in another column.
    """
    if not multi_label:
        return list(range(len(rows))), [labels_of(row) for row in rows]
    first: dict[Hashable, int] = {}
    labels: dict[Hashable, dict[str, None]] = {}
    for number, (row, video) in enumerate(zip(rows, videos, strict=True)):
        before = rows[first.setdefault(video, number)]
        for column in row.values.keys() - _UNITED:
            if row.values[column].strip() != before.values[column].strip():
                fix = f"the same video has {before.values[column]!r} in line {before.line}; write both alike"
                raise row.error(column, fix)
        labels.setdefault(video, {}).update(dict.fromkeys(labels_of(row)))
    return list(first.values()), [tuple(names) for names in labels.values()]


def _parse_list(value: str) -> list[object] | None:
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None
