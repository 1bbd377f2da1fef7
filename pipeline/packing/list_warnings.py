"""Warnings of videos left out of lists and folders and of likely mistakes in them, printed before hours of packing."""

import difflib
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from datamodules.annotations.records import Annotations, VideoRecord
from pipeline.cli.terminal import print_text
from pipeline.packing.class_order import sort_labels

USUAL_SPLITS = ("train", "val", "test", "validation")
SHOWN = 5
_ALIKE = 0.75  # difflib's ratio of `tset` and `test`


def warn_of_lists(listed: Annotations) -> None:
    """Print a warning on standard error for each omission or choice of the reader and each likely mistake."""
    said = (*misspelled_splits(listed.records), *untrained_labels(listed), *odd_labels(listed.records))
    for sentence in (*listed.notes, *said):
        print_text(f"warning: {sentence}", sys.stderr)


def misspelled_splits(records: Sequence[VideoRecord]) -> list[str]:
    """A sentence for each split whose name is a likely misspelling of a usual one, which nothing would read."""
    counts = Counter(record.split for record in records if not record.fold_splits)
    sentences = []
    for split, count in sorted(counts.items()):
        meant = meant_split(split)
        if meant is not None:
            sentences.append(
                f"split {split!r} of {count} {_videos(count)} looks like {meant!r} misspelled: training and evaluation "
                f"look for train, val and test; correct the list if {meant!r} is meant"
            )
    return sentences


def meant_split(split: str) -> str | None:
    """The usual split name that `split` is a likely misspelling of; None if it is usual or similar to none.

    >>> meant_split("tset"), meant_split("Train"), meant_split("trainval"), meant_split("test2")
    ('test', 'train', None, None)
    """
    name = split.lower()
    if split in USUAL_SPLITS or split[-1:].isdigit():
        return None
    close = [usual for usual in USUAL_SPLITS if abs(len(usual) - len(name)) <= 1]
    return next(iter(difflib.get_close_matches(name, close, 1, _ALIKE)), None)


def untrained_labels(listed: Annotations) -> list[str]:
    """A sentence for the list, or for each fold, that has labels only in held-out splits; none without `train`."""
    folds = listed.folds or (None,)
    sentences = []
    for number, fold in enumerate(folds):
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for record in listed.records:
            splits[record.split if fold is None else record.fold_splits[number]].add(record.label)
        held_out = {split: labels for split, labels in splits.items() if split not in ("train", "")}
        missing = sort_labels(set().union(*held_out.values()) - splits["train"])
        if not missing or not splits["train"]:
            continue
        where = ", ".join(split for split in sorted(held_out) if held_out[split] & set(missing))
        labels = "1 label has" if len(missing) == 1 else f"{len(missing)} labels have"
        sentences.append(
            f"{labels} no training video{'' if fold is None else f' in fold {fold}'}, only videos of {where}: "
            f"{_some(missing)}; no model can learn them, check the lists"
        )
    return sentences


def odd_labels(records: Sequence[VideoRecord]) -> list[str]:
    """A sentence for labels that differ only in case, blanks or Unicode form, and one for labels such as 3.0."""
    labels = sorted({record.label for record in records})
    sentences = []
    alike = defaultdict(list)
    for label in labels:
        alike[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    doubtful = [label for same in alike.values() if len(same) > 1 for label in same]
    if doubtful:
        sentences.append(
            f"labels differ in case, blanks or Unicode form alone, and each is a class: {_some(doubtful)}; write them "
            "alike if they are meant to be one"
        )
    points = [label for label in labels if re.fullmatch(r"[0-9]+\.0+", label)]
    if points:
        sentences.append(
            f"labels are taken as they are written, so these are names: {_some(points)}; for numbers, leave the "
            "point out"
        )
    return sentences


def _some(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")


def _videos(count: int) -> str:
    return "video" if count == 1 else "videos"
