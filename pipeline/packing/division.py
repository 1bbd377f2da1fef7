"""Division of packed videos into splits or folds: from the descriptions in the shards, into the rows of the index.

Also its closing table: the classes in each split, the groups, and what could not be balanced.

The shards are those of the split `all`, and their descriptions stay so: the division needs the frame hashes of all
videos, which are known when the last shard is written. The splits are in index.parquet, and in splits/packed.csv, from
which `index` takes them where it makes the index anew.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.annotations.records import VideoRecord
from datamodules.dataset.dataset_index import ShardRow
from datamodules.dataset.manifest import MANIFEST_NAME
from datamodules.splits.content_groups import group_in_path
from datamodules.splits.divided_videos import DividedVideos
from datamodules.splits.division_options import Division
from datamodules.splits.split_file import PACKED, SPLITS_FOLDER, SplitFile, write_split_file
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.packing.leakage_report import to_guarded_video
from pipeline.packing.output_folder import PackError
from pipeline.packing.shard_builder import PartResult

_CLASSES_SHOWN = 20  # of more classes, the ten largest and the ten smallest


def divide_rows(rows: Sequence[ShardRow], division: Division) -> DividedVideos:
    """Divides packed videos by their groups, content and classes."""
    return DividedVideos(
        [to_guarded_video(row) for row in rows], [row.description.class_names for row in rows], division
    )


def with_splits(rows: Sequence[ShardRow], chosen: SplitFile) -> list[ShardRow]:
    """The rows with the splits, or folds, of a split file."""
    replaced = []
    for row in rows:
        split, fold_splits = chosen.splits_of(row.key)
        replaced.append(row._replace(description=row.description._replace(split=split, fold_splits=fold_splits)))
    return replaced


def with_splits_in_results(results: Sequence[PartResult], chosen: SplitFile) -> list[PartResult]:
    """The results of the parts with the splits of a split file in the rows of all renditions."""
    return [
        replace(
            result,
            rows=with_splits(result.rows, chosen),
            smaller=tuple(replace(one, rows=with_splits(one.rows, chosen)) for one in result.smaller),
        )
        for result in results
    ]


def packed_splits_path(root: Path) -> Path:
    """Path of the split file of a dataset that was divided when it was packed."""
    return root / SPLITS_FOLDER / f"{PACKED}.csv"


def refuse_other_division(root: Path, division: Division) -> None:
    """Raises PackError if the finished dataset in a folder was divided otherwise."""
    path = packed_splits_path(root).with_suffix(".json")
    if not path.exists() or not (root / MANIFEST_NAME).exists():
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8")).get("division")
    except (OSError, ValueError, AttributeError):
        raise PackError(f"{path}: is damaged; remove it, and pack again") from None
    if earlier != division.description:
        raise PackError(
            f"out={root}: was divided otherwise ({earlier} there, {division.description} now): `python -m pipeline "
            f"split {root} --name NAME ...` divides it anew, under a name"
        )


def write_division(path: Path, divided: DividedVideos, made_by: str) -> None:
    """Writes a division as a split file; the verb `made_by` is recorded beside it, with the options of the division."""
    described = {"made_by": made_by, "division": divided.division.description, **divided.division.as_dict()}
    described["sha256"] = divided.as_split_file("").reference.sha256
    write_split_file(path, divided.division.column, divided.values, divided.groups, described)


def regroup_records(records: Sequence[VideoRecord], paths: Sequence[str], pattern: str) -> list[VideoRecord]:
    """The records with the groups that a regular expression finds in their paths; see `group_in_path`.

    Raises:
        ValueError: It matches no path.
    """
    groups = find_groups([record.key for record in records], paths, pattern)
    return [replace(record, group=group) for record, group in zip(records, groups, strict=True)]


def find_groups(keys: Sequence[str], paths: Sequence[str], pattern: str) -> list[str]:
    """The group of each video in its path; the key of a video whose path does not match.

    Raises:
        ValueError: The expression matches no path.
    """
    groups = [group_in_path(path, pattern) for path in paths]
    if not any(groups):
        raise ValueError(f"group_by={pattern!r}: matches no path, such as {paths[0]!r}; correct the expression")
    return [group or key for group, key in zip(groups, keys, strict=True)]


def print_division(divided: DividedVideos, title: str) -> None:
    """Print a table of the videos and groups in each part by class, and sentences on what could not be balanced."""
    parts = list(divided.division.shares)
    table = TextTable(title=title, title_justify="left")
    table.add_column("class")
    for part in parts:
        table.add_column(divided.part_name(part), justify="right")
    table.add_column("videos", justify="right")
    table.add_column("groups", justify="right")
    names = list(divided.counts)
    if len(names) > _CLASSES_SHOWN:
        half = _CLASSES_SHOWN // 2
        names = [*names[:half], "...", *names[-half:]]
    for name in names:
        counts = divided.counts.get(name)
        if counts is None:
            table.add_row(f"... {len(divided.counts) - _CLASSES_SHOWN} more", *[""] * (len(parts) + 2))
            continue
        cells = [str(counts[part]) for part in parts]
        table.add_row(name or "(no class)", *cells, str(counts.total()), str(divided.groups_of_class[name]))
    totals, groups = Counter(divided.values.values()), Counter(dict(_group_parts(divided)).values())
    total = totals.total()
    table.add_section()
    table.add_row("all", *(str(totals[part]) for part in parts), str(total), str(groups.total()))
    table.add_row("share", *(f"{totals[part] / total:.1%}" for part in parts), "", "")
    table.add_row("groups", *(str(groups[part]) for part in parts), str(groups.total()), "")
    print_table(table)
    if divided.joined_groups:
        print_text(f"{divided.joined_groups} groups show the same as others and are kept together with them")
    for sentence in divided.describe_imbalance():
        print_text(sentence)


def _group_parts(divided: DividedVideos) -> set[tuple[str, str]]:
    """The part of each group."""
    return {(group, divided.values[key]) for key, group in divided.groups.items()}
