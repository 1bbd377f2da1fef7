"""Checks of a packed dataset that read no video: files, counts, byte ranges, member names."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.annotations.records import Timeline
from datamodules.dataset.foreign_tar import key_prefix_of_shard
from datamodules.dataset.index_table import TIMELINE, identifying_labels, identity_of, labels_by_row
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest
from datamodules.dataset.tar_members import is_sample_flow, is_sample_video, is_video_header, iterate_members
from datamodules.storage.errors import ShardFormatError

COPY_FIX = "copy it here again, or run the same pack command again: it packs anew what does not match"
MAX_NAMED = 5  # maximum number of videos named in one finding
_POSITIVE = ("video_size", "num_frames", "fps", "width", "height", "duration_s", "pixel_aspect")
NO_ROWS = pa.array([], pa.int64())


class DatasetDefect(NamedTuple):
    """A defect: its place (a file, and the key of the video where it concerns one), the problem, and the fix."""

    location: str
    problem: str
    fix: str


def reindex_fix(root: Path) -> str:
    """The fix for an index that does not match its shards."""
    return f"rebuild the index: python -m pipeline index --shards {root}"


def check_files(root: Path, manifest: Manifest) -> list[DatasetDefect]:
    """Checks that each shard of dataset.json is listed once and has its size, and that there are no other tars."""
    defects = []
    names = Counter(shard.name for shard in manifest.shards)
    defects += [
        DatasetDefect(MANIFEST_NAME, f"lists {name} {n} times", reindex_fix(root)) for name, n in names.items() if n > 1
    ]
    for shard in manifest.shards:
        path = root / shard.name
        if not path.is_file():
            defects.append(DatasetDefect(shard.name, "is missing", COPY_FIX))
        elif (size := path.stat().st_size) != shard.bytes:
            defects.append(DatasetDefect(shard.name, f"has {size} bytes, {MANIFEST_NAME} says {shard.bytes}", COPY_FIX))
    unlisted = sorted(path.name for path in root.glob("*.tar") if path.name not in names and path.name[0] != ".")
    fix = f"remove it, or take it in: python -m pipeline index --shards {root}"
    defects += [DatasetDefect(name, f"is not in {MANIFEST_NAME}", fix) for name in unlisted]
    return defects


def check_table(root: Path, manifest: Manifest, table: pa.Table) -> list[DatasetDefect]:
    """Checks index.parquet against dataset.json: keys, labels, splits, folds, counts, identity, byte ranges."""
    defects: list[DatasetDefect] = []

    def add_defect(is_wrong: NDArray[np.bool_], problem: str) -> None:
        rows = np.flatnonzero(is_wrong)
        if len(rows):
            keys = table.column("key").take(pa.array(rows[:MAX_NAMED])).to_pylist()
            named = ", ".join(map(str, keys)) + (", ..." if len(rows) > MAX_NAMED else "")
            defects.append(DatasetDefect("index.parquet", f"{len(rows)} videos {problem}: {named}", reindex_fix(root)))

    def expect_equal(quantity: str, found: Any, expected: Any) -> None:
        if found != expected:
            defects.append(
                DatasetDefect(
                    "index.parquet", f"has {found} {quantity}, {MANIFEST_NAME} says {expected}", reindex_fix(root)
                )
            )

    numbers = {name: table.column(name).to_numpy() for name in ("video_offset", *_POSITIVE)}
    keys = table.column("key").to_pylist()
    shards, splits = table.column("shard").to_pylist(), table.column("split").to_pylist()
    folds = table.column("fold_splits").to_pylist()
    shards_by_name = {shard.name: shard for shard in manifest.shards}
    repeated = {key for key, count in Counter(keys).items() if count > 1}
    add_defect(np.array([key in repeated for key in keys], bool), "have a key that another has too")
    add_defect(
        np.array([name not in shards_by_name for name in shards], bool),
        f"are in shards that {MANIFEST_NAME} does not list",
    )
    labels, number_of_classes = labels_by_row(table), len(manifest.classes)
    is_outside = np.array([not all(0 <= label < number_of_classes for label in of_row) for of_row in labels], bool)
    add_defect(is_outside, f"have a label outside of the {len(manifest.classes)} classes")
    shard_splits = [
        shards_by_name[name].split if name in shards_by_name else split
        for name, split in zip(shards, splits, strict=True)
    ]
    mixed = () if manifest.folds else ("all",)  # `index` gives a tar with videos of several splits the split "all"
    is_other_split = [
        shard_split not in (split, *mixed) for shard_split, split in zip(shard_splits, splits, strict=True)
    ]
    add_defect(np.array(is_other_split, bool), "have another split than their shard")
    add_defect(
        np.array([len(fold_splits) != len(manifest.folds) for fold_splits in folds], bool),
        f"do not have {len(manifest.folds)} folds",
    )
    is_positive = [(numbers[name] > 0) & np.isfinite(numbers[name]) for name in _POSITIVE]
    add_defect(~np.logical_and.reduce(is_positive), "have no size, frames, rate, duration or pixel aspect")
    add_defect(
        _bad_ranges(manifest, shards, numbers["video_offset"], numbers["video_size"]),
        "lie outside of their shard or overlap",
    )
    if "flow_size" in table.schema.names:
        offsets, sizes = (table.column(name).to_numpy() for name in ("flow_offset", "flow_size"))
        add_defect((sizes > 0) & _bad_ranges(manifest, shards, offsets, sizes), "have flow outside of their shard")
    in_shard, in_split = Counter(shards), Counter(splits)
    for shard in manifest.shards:
        expect_equal(f"videos in {shard.name}", in_shard[shard.name], shard.videos)
    for split in sorted({*in_split, *manifest.splits}):
        counts = manifest.splits.get(split)
        expect_equal(f"videos in split {split}", in_split[split], counts.videos if counts else 0)
    if not is_outside.any():
        names = [[manifest.classes[label] for label in of_row] for of_row in labels]
        counted = Counter((split, name) for split, of_row in zip(splits, names, strict=True) for name in of_row)
        for split, counts in manifest.splits.items():
            for name in manifest.classes:
                expect_equal(f"videos of {name!r} in split {split}", counted[split, name], counts.classes.get(name, 0))
        if manifest.fold_counts:
            for number, fold in enumerate(manifest.folds):
                of_fold = [of_row[number] if len(of_row) > number else "" for of_row in folds]
                counted = Counter(
                    (split, name) for split, of_row in zip(of_fold, names, strict=True) for name in of_row
                )
                for split, counts in manifest.fold_counts.get(fold, {}).items():
                    for name in manifest.classes:
                        what = f"videos of {name!r} in split {split} of fold {fold}"
                        expect_equal(what, counted[split, name], counts.classes.get(name, 0))
        contents = table.column("content_sha256").to_pylist()
        identified = [
            identifying_labels(of_row, timeline)
            for of_row, timeline in zip(names, _timelines(table, manifest.classes), strict=True)
        ]
        expect_equal(
            "as identity", identity_of(zip(keys, splits, folds, identified, contents, strict=True)), manifest.identity
        )
    return defects


def _timelines(table: pa.Table, classes: list[str]) -> list[Timeline | None]:
    """The labels by time of each video, by class name; None in a dataset without."""
    if TIMELINE.name not in table.schema.names:
        return [None] * table.num_rows
    return [named_timeline(parts, classes) for parts in table.column(TIMELINE.name).to_pylist()]


def named_timeline(parts: list[dict[str, Any]] | None, classes: list[str]) -> Timeline | None:
    """The labels by time in a row of the index, with the names of their classes; None where there are none."""
    if parts is None:
        return None
    names = dict(enumerate(classes))
    return tuple((names.get(part["label"], str(part["label"])), part["start"], part["end"]) for part in parts)


def _bad_ranges(manifest: Manifest, shards: list[str], offsets: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each byte range does not follow a header, exceeds its shard, or overlaps the range before: bool (M,)."""
    bytes_of = {shard.name: shard.bytes for shard in manifest.shards}
    ends = offsets + sizes
    limits = np.array([bytes_of.get(name, 0) for name in shards])
    is_bad: NDArray[np.bool_] = (offsets < 512) | (offsets % 512 != 0) | (ends > limits)
    order = np.lexsort((offsets, np.unique(shards, return_inverse=True)[1])) if shards else np.arange(0)
    is_same_shard = np.array(shards)[order][1:] == np.array(shards)[order][:-1]
    is_bad[order[1:]] |= is_same_shard & (offsets[order][1:] - 512 < ends[order][:-1])
    return is_bad


def rows_by_shard(table: pa.Table) -> dict[str, pa.Array]:
    """The row numbers of each shard's videos, in the order of the index."""
    shards = table.column("shard").combine_chunks().dictionary_encode()
    codes = shards.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(shards.dictionary)))
    parts = np.split(order, ends[:-1])
    return {name: pa.array(rows) for name, rows in zip(shards.dictionary.to_pylist(), parts, strict=False)}


def check_members(root: Path, manifest: Manifest, table: pa.Table, advance: Callable[[], None]) -> list[DatasetDefect]:
    """Checks that each byte range is a member of that size with the video's key; calls `advance` after each row."""
    defects: list[DatasetDefect] = []
    rows = rows_by_shard(table)
    names = ["key", "video_offset", "video_size"] + ["flow_offset", "flow_size"] * ("flow_size" in table.schema.names)
    for shard in manifest.shards:
        columns = table.select(names).take(rows.get(shard.name, NO_ROWS)).columns
        members = list(zip(*(column.to_pylist() for column in columns), strict=True))
        ranges = [range_[:3] for range_ in members]
        flows = [(range_[0], *range_[3:]) for range_ in members if range_[3:] and range_[4]]
        if manifest.encode.get("key_prefix") is not None:  # the prefix is not in the tar
            ranges = [(key.removeprefix(key_prefix_of_shard(shard.name)), *range_) for key, *range_ in ranges]
        if (root / shard.name).is_file():
            defects += _check_shard_members(root, root / shard.name, ranges)
            defects += _check_shard_members(root, root / shard.name, flows, is_sample_flow)
        for _ in ranges:
            advance()
    return defects


def _check_shard_members(
    root: Path,
    path: Path,
    ranges: list[tuple[str, int, int]],
    is_member: Callable[[str, str], bool] = is_sample_video,
) -> Iterator[DatasetDefect]:
    try:
        with path.open("rb") as file:
            headers = [os.pread(file.fileno(), 512, max(offset - 512, 0)) for _, offset, _ in ranges]
    except OSError as error:
        yield DatasetDefect(path.name, f"cannot be read ({error.strerror})", COPY_FIX)
        return
    unmatched = [
        range_
        for range_, header in zip(ranges, headers, strict=True)
        if not is_video_header(header, *range_[::2], is_member)
    ]
    if not unmatched:
        return
    try:  # long names and names beyond ASCII are not in the header itself
        members = {member.offset: member for member in iterate_members(path)}
    except ShardFormatError as error:
        yield DatasetDefect(path.name, str(error).removeprefix(f"{path}: ").rpartition(";")[0], COPY_FIX)
        return
    for key, offset, size in unmatched:
        member = members.get(offset)
        if member is None:
            yield DatasetDefect(f"{path.name}, {key}", f"no file begins at byte {offset}", reindex_fix(root))
        elif not is_member(key, member.name) or member.size != size:
            problem = (
                f"at byte {offset} is {member.name} of {member.size} bytes, index.parquet says {size} bytes of {key}"
            )
            yield DatasetDefect(f"{path.name}, {key}", problem, reindex_fix(root))
