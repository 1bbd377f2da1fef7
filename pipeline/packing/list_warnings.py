"""Warnings of videos left out of lists and folders and of likely mistakes in them, printed before hours of packing."""

import difflib
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.records import Annotations, VideoRecord
from datamodules.annotations.skipped_files import join_first_names
from pipeline.cli.terminal import print_text
from pipeline.packing.class_order import sort_labels

USUAL_SPLITS = ("train", "val", "test", "validation")
MAX_NAMED = 5
_MIN_SIMILARITY = 0.75  # difflib's ratio of `tset` and `test`


def warn_about_lists(annotations: Annotations) -> None:
    """Print a warning on standard error for each omission or choice of the reader and each likely mistake."""
    mistakes = (
        *misspelled_splits(annotations.records),
        *untrained_labels(annotations),
        *odd_labels(annotations.records),
        *divided_files(annotations.records),
    )
    for sentence in (*annotations.notes, *mistakes):
        print_text(f"warning: {sentence}", sys.stderr)


def misspelled_splits(records: Sequence[VideoRecord]) -> list[str]:
    """A sentence for each split whose name is a likely misspelling of a usual one, which nothing would read."""
    counts = Counter(record.split for record in records if not record.fold_splits)
    sentences = []
    for split, count in sorted(counts.items()):
        usual = closest_usual_split(split)
        if usual is not None:
            sentences.append(
                f"split {split!r} of {count} {_videos(count)} looks like {usual!r} misspelled: training and evaluation "
                f"look for train, val and test; correct the list if {usual!r} is meant"
            )
    return sentences


def closest_usual_split(split: str) -> str | None:
    """The usual split name that `split` is a likely misspelling of; None if it is usual or similar to none.

    Examples:
        >>> [closest_usual_split(split) for split in ("tset", "Train", "trainval", "test2")]
        ['test', 'train', None, None]
    """
    name = split.lower()
    if split in USUAL_SPLITS or split[-1:].isdigit():
        return None
    close = [usual for usual in USUAL_SPLITS if abs(len(usual) - len(name)) <= 1]
    return next(iter(difflib.get_close_matches(name, close, 1, _MIN_SIMILARITY)), None)


def untrained_labels(annotations: Annotations) -> list[str]:
    """A sentence for the list, or for each fold, that has labels only in held-out splits; none without `train`."""
    folds = annotations.folds or (None,)
    sentences = []
    for number, fold in enumerate(folds):
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for record in annotations.records:
            splits[record.split if fold is None else record.fold_splits[number]].update(record.class_names)
        held_out = {split: count_phrase for split, count_phrase in splits.items() if split not in ("train", "")}
        missing = sort_labels(set().union(*held_out.values()) - splits["train"])
        if not missing or not splits["train"]:
            continue
        held_out_splits = ", ".join(split for split in sorted(held_out) if held_out[split] & set(missing))
        count_phrase = "1 label has" if len(missing) == 1 else f"{len(missing)} labels have"
        sentences.append(
            f"{count_phrase} no training video{'' if fold is None else f' in fold {fold}'}, only videos of "
            f"{held_out_splits}: {_format_labels(missing)}; no model can learn them, check the lists"
        )
    return sentences


def divided_files(records: Sequence[VideoRecord]) -> list[str]:
    """A sentence if segments of one file are in several groups and splits: the split guard sees no common group."""
    groups: defaultdict[str, dict[str, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        if record.is_segment:
            groups[record.path][record.group].add(record.fold_splits or (record.split,))
    divided = [path for path, splits in groups.items() if len(splits) > 1 and len(set().union(*splits.values())) > 1]
    if not divided:
        return []
    files = "1 file has" if len(divided) == 1 else f"{len(divided)} files have"
    names = [Path(path).name for path in divided]
    return [
        f"{files} segments in several splits, under different groups: {join_first_names(names, MAX_NAMED)}; what one "
        "recording shows is alike, so give all its segments one group"
    ]


def odd_labels(records: Sequence[VideoRecord]) -> list[str]:
    """A sentence for labels that differ only in case, blanks or Unicode form, and one for labels such as 3.0."""
    labels = sorted({label for record in records for label in record.class_names})
    sentences = []
    by_normal_form = defaultdict(list)
    for label in labels:
        by_normal_form[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    ambiguous = [
        label for labels_of_form in by_normal_form.values() if len(labels_of_form) > 1 for label in labels_of_form
    ]
    if ambiguous:
        sentences.append(
            f"labels differ in case, blanks or Unicode form alone, and each is a class: {_format_labels(ambiguous)}; "
            "write them alike if they are meant to be one"
        )
    decimals = [label for label in labels if re.fullmatch(r"[0-9]+\.0+", label)]
    if decimals:
        sentences.append(
            f"labels are taken as they are written, so these are names: {_format_labels(decimals)}; for numbers, leave "
            "the point out"
        )
    return sentences


def _format_labels(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:MAX_NAMED])) + (", ..." if len(labels) > MAX_NAMED else "")


def _videos(count: int) -> str:
    return "video" if count == 1 else "videos"
