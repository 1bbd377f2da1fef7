"""Checks of a packed dataset that read no video: files, counts, byte ranges, member names."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.dataset.foreign_tar import key_prefix_of_shard
from datamodules.dataset.index_table import identity_of, labels_by_row
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest
from datamodules.dataset.tar_members import is_sample_video, is_video_header, iterate_members
from datamodules.storage.errors import ShardFormatError

COPY = "copy it here again, or run the same pack command again: it packs anew what does not match"
MANY = 5  # maximum number of videos named in one finding
_POSITIVE = ("video_size", "num_frames", "fps", "width", "height", "duration_s", "pixel_aspect")
NO_ROWS = pa.array([], pa.int64())


class DatasetDefect(NamedTuple):
    """A defect: its place (a file, and the key of the video where it concerns one), the problem, and the fix."""

    place: str
    problem: str
    fix: str


def reindex(root: Path) -> str:
    """The fix for an index that does not match its shards."""
    return f"rebuild the index: python -m pipeline index --shards {root}"


def check_files(root: Path, manifest: Manifest) -> list[DatasetDefect]:
    """Checks that each shard of dataset.json is listed once and has its size, and that there are no other tars."""
    findings = []
    names = Counter(shard.name for shard in manifest.shards)
    findings += [
        DatasetDefect(MANIFEST_NAME, f"lists {name} {n} times", reindex(root)) for name, n in names.items() if n > 1
    ]
    for shard in manifest.shards:
        path = root / shard.name
        if not path.is_file():
            findings.append(DatasetDefect(shard.name, "is missing", COPY))
        elif (size := path.stat().st_size) != shard.bytes:
            findings.append(DatasetDefect(shard.name, f"has {size} bytes, {MANIFEST_NAME} says {shard.bytes}", COPY))
    strays = sorted(path.name for path in root.glob("*.tar") if path.name not in names and path.name[0] != ".")
    fix = f"remove it, or take it in: python -m pipeline index --shards {root}"
    findings += [DatasetDefect(name, f"is not in {MANIFEST_NAME}", fix) for name in strays]
    return findings


def check_table(root: Path, manifest: Manifest, table: pa.Table) -> list[DatasetDefect]:
    """Checks index.parquet against dataset.json: keys, labels, splits, folds, counts, identity, byte ranges."""
    findings: list[DatasetDefect] = []

    def add(wrong: NDArray[np.bool_], problem: str) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            keys = table.column("key").take(pa.array(rows[:MANY])).to_pylist()
            named = ", ".join(map(str, keys)) + (", ..." if len(rows) > MANY else "")
            findings.append(DatasetDefect("index.parquet", f"{len(rows)} videos {problem}: {named}", reindex(root)))

    def expect(what: str, found: Any, said: Any) -> None:
        if found != said:
            findings.append(
                DatasetDefect("index.parquet", f"has {found} {what}, {MANIFEST_NAME} says {said}", reindex(root))
            )

    numbers = {name: table.column(name).to_numpy() for name in ("video_offset", *_POSITIVE)}
    keys = table.column("key").to_pylist()
    shards, splits = table.column("shard").to_pylist(), table.column("split").to_pylist()
    folds = table.column("fold_splits").to_pylist()
    listed = {shard.name: shard for shard in manifest.shards}
    repeated = {key for key, count in Counter(keys).items() if count > 1}
    add(np.array([key in repeated for key in keys], bool), "have a key that another has too")
    add(np.array([name not in listed for name in shards], bool), f"are in shards that {MANIFEST_NAME} does not list")
    labels, number_of_classes = labels_by_row(table), len(manifest.classes)
    outside = np.array([not all(0 <= label < number_of_classes for label in of_row) for of_row in labels], bool)
    add(outside, f"have a label outside of the {len(manifest.classes)} classes")
    wanted = [listed[name].split if name in listed else split for name, split in zip(shards, splits, strict=True)]
    mixed = () if manifest.folds else ("all",)  # `index` gives a tar with videos of several splits the split "all"
    other = [of_shard not in (split, *mixed) for of_shard, split in zip(wanted, splits, strict=True)]
    add(np.array(other, bool), "have another split than their shard")
    add(np.array([len(of) != len(manifest.folds) for of in folds], bool), f"do not have {len(manifest.folds)} folds")
    positive = [(numbers[name] > 0) & np.isfinite(numbers[name]) for name in _POSITIVE]
    add(~np.logical_and.reduce(positive), "have no size, frames, rate, duration or pixel aspect")
    add(
        _bad_ranges(manifest, shards, numbers["video_offset"], numbers["video_size"]),
        "lie outside of their shard or overlap",
    )
    in_shard, in_split = Counter(shards), Counter(splits)
    for shard in manifest.shards:
        expect(f"videos in {shard.name}", in_shard[shard.name], shard.videos)
    for split in sorted({*in_split, *manifest.splits}):
        said = manifest.splits.get(split)
        expect(f"videos in split {split}", in_split[split], said.videos if said else 0)
    if not outside.any():
        names = [[manifest.classes[label] for label in of_row] for of_row in labels]
        counted = Counter((split, name) for split, of_row in zip(splits, names, strict=True) for name in of_row)
        for split, counts in manifest.splits.items():
            for name in manifest.classes:
                expect(f"videos of {name!r} in split {split}", counted[split, name], counts.classes.get(name, 0))
        if manifest.fold_counts:
            for number, fold in enumerate(manifest.folds):
                of_fold = [of_row[number] if len(of_row) > number else "" for of_row in folds]
                counted = Counter(
                    (split, name) for split, of_row in zip(of_fold, names, strict=True) for name in of_row
                )
                for split, counts in manifest.fold_counts.get(fold, {}).items():
                    for name in manifest.classes:
                        what = f"videos of {name!r} in split {split} of fold {fold}"
                        expect(what, counted[split, name], counts.classes.get(name, 0))
        contents = table.column("content_sha256").to_pylist()
        expect("as identity", identity_of(zip(keys, splits, folds, names, contents, strict=True)), manifest.identity)
    return findings


def _bad_ranges(manifest: Manifest, shards: list[str], offsets: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each byte range does not follow a header, exceeds its shard, or overlaps the range before: bool (M,)."""
    bytes_of = {shard.name: shard.bytes for shard in manifest.shards}
    ends = offsets + sizes
    limits = np.array([bytes_of.get(name, 0) for name in shards])
    bad: NDArray[np.bool_] = (offsets < 512) | (offsets % 512 != 0) | (ends > limits)
    order = np.lexsort((offsets, np.unique(shards, return_inverse=True)[1])) if shards else np.arange(0)
    same = np.array(shards)[order][1:] == np.array(shards)[order][:-1]
    bad[order[1:]] |= same & (offsets[order][1:] - 512 < ends[order][:-1])
    return bad


def rows_by_shard(table: pa.Table) -> dict[str, pa.Array]:
    """The row numbers of each shard's videos, in the order of the index."""
    shards = table.column("shard").combine_chunks().dictionary_encode()
    codes = shards.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(shards.dictionary)))
    parts = np.split(order, ends[:-1])
    return {name: pa.array(rows) for name, rows in zip(shards.dictionary.to_pylist(), parts, strict=False)}


def check_members(root: Path, manifest: Manifest, table: pa.Table, done: Callable[[], None]) -> list[DatasetDefect]:
    """Checks that each byte range is a member of that size with the video's key; calls `done` after each row."""
    findings: list[DatasetDefect] = []
    rows = rows_by_shard(table)
    for shard in manifest.shards:
        columns = table.select(["key", "video_offset", "video_size"]).take(rows.get(shard.name, NO_ROWS)).columns
        places = list(zip(*(column.to_pylist() for column in columns), strict=True))
        if manifest.encode.get("key_prefix") is not None:  # the prefix is not in the tar
            places = [(key.removeprefix(key_prefix_of_shard(shard.name)), *place) for key, *place in places]
        if (root / shard.name).is_file():
            findings += _check_shard_members(root, root / shard.name, places)
        for _ in places:
            done()
    return findings


def _check_shard_members(root: Path, path: Path, places: list[tuple[str, int, int]]) -> Iterator[DatasetDefect]:
    try:
        with path.open("rb") as file:
            headers = [os.pread(file.fileno(), 512, max(offset - 512, 0)) for _, offset, _ in places]
    except OSError as error:
        yield DatasetDefect(path.name, f"cannot be read ({error.strerror})", COPY)
        return
    doubtful = [
        place for place, header in zip(places, headers, strict=True) if not is_video_header(header, *place[::2])
    ]
    if not doubtful:
        return
    try:  # long names and names beyond ASCII are not in the header itself
        members = {member.offset: member for member in iterate_members(path)}
    except ShardFormatError as error:
        yield DatasetDefect(path.name, str(error).removeprefix(f"{path}: ").rpartition(";")[0], COPY)
        return
    for key, offset, size in doubtful:
        member = members.get(offset)
        if member is None:
            yield DatasetDefect(f"{path.name}, {key}", f"no file begins at byte {offset}", reindex(root))
        elif not is_sample_video(key, member.name) or member.size != size:
            problem = (
                f"at byte {offset} is {member.name} of {member.size} bytes, index.parquet says {size} bytes of {key}"
            )
            yield DatasetDefect(f"{path.name}, {key}", problem, reindex(root))
