"""`python -m pipeline verify`: checks that a packed dataset is complete and consistent."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.dataset.index_table import INDEX_NAME, NO_LABEL, read_index_table
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, ShardFile, read_manifest
from datamodules.dataset.quarantine import QUARANTINE_NAME, QuarantineError, one_line, read_quarantine
from datamodules.dataset.shard_tar import ShardRow, index_shard
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.local_files import file_sha256
from datamodules.storage.plain_text import printable
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.dataset_tools.checked_range import CheckedVideo, UndecodableError, decode_range
from pipeline.dataset_tools.verify_checks import (
    COPY_FIX,
    NO_ROWS,
    DatasetDefect,
    check_files,
    check_members,
    check_table,
    named_timeline,
    reindex_fix,
    rows_by_shard,
)
from pipeline.dataset_tools.verify_flow import check_flow
from pipeline.dataset_tools.verify_renditions import check_rendition, in_subfolder
from pipeline.dataset_tools.verify_splits import check_split_files, with_tar_splits
from pipeline.processes.killable_pool import KillablePool

MAX_PRINTED = 50


def verify(data: str, full: bool = False, processes: int | None = None, timeout: float = 300.0) -> None:
    """Check a packed dataset: dataset.json, index.parquet and the shards, each against the others.

    The fast check reads no video: all shards exist with their sizes; counts, classes, splits, folds and identity agree;
    every byte range of the index is a member of the tar with the video's key. The full check reads everything: sha256
    of every shard and every video, the descriptions in the tars, and every frame, of optical flow too, decoded in
    processes that are killed when they hang. Videos in quarantine.csv, which nothing reads, need not decode; their
    bytes must be right. All renditions are checked, and each against the largest: the same videos, labels, splits,
    frame counts and rates. Every split file in the folder splits must give each video a split.

    Args:
        data: folder of the dataset.
        full: read and decode everything.
        processes: number of processes that decode; default: one for each processor.
        timeout: seconds without a frame decoded after which a video counts as hanging.

    Raises:
        ShardFormatError: there is no dataset in the folder.
        ValueError: there are defects, which are printed before with their fixes.
    """
    began = time.monotonic()
    if "://" in str(data):
        raise ValueError(f"data={data}: verify reads folders; run it where the dataset lies, or copy it here")
    _verify(Path(data), full, processes, timeout, began)


def _verify(data: Path, full: bool, processes: int | None, timeout: float, began: float) -> None:
    manifest = read_manifest(data)
    defects: list[DatasetDefect] = []
    quarantined = _read_quarantine(data, defects)
    new_defects, table = _check_dataset(data, manifest, full, quarantined, processes, timeout)
    defects += new_defects
    defects += [] if table is None else check_split_files(data, manifest, table)
    num_shards = len(manifest.shards)
    for rendition in manifest.renditions[1:]:
        folder = data / rendition.folder
        try:
            rendition_manifest = read_manifest(folder)
        except ShardFormatError as error:
            problem = f"there is no whole dataset of this rendition ({str(error).rpartition(';')[0]})"
            defects.append(DatasetDefect(rendition.folder, problem, COPY_FIX))
            continue
        new_defects, rendition_table = _check_dataset(folder, rendition_manifest, full, quarantined, processes, timeout)
        defects += [in_subfolder(folder, defect) for defect in new_defects]
        defects += check_rendition(manifest, table, rendition, rendition_manifest, rendition_table)
        num_shards += len(rendition_manifest.shards)
    defects = list(dict.fromkeys(defects))
    _print_defects(defects)
    seconds = f"{time.monotonic() - began:.0f} s"
    subject = f"{num_shards} shards and {0 if table is None else table.num_rows} videos of {data}"
    if manifest.renditions:
        subject += f" in {len(manifest.renditions)} renditions"
    left_out = 0 if table is None else len(quarantined.intersection(table.column("key").to_pylist()))
    if left_out:
        subject += f" ({left_out} quarantined)"
    scope = "checksums and every frame" if full else "sizes and index; --full adds checksums and every frame"
    if defects:
        count = "1 thing is" if len(defects) == 1 else f"{len(defects)} things are"
        raise ValueError(f"{count} wrong among {subject} (checked in {seconds}: {scope})")
    print_text(f"all is well with {subject} (checked in {seconds}: {scope})")


def _check_dataset(
    root: Path, manifest: Manifest, full: bool, quarantined: frozenset[str], processes: int | None, timeout: float
) -> tuple[list[DatasetDefect], pa.Table | None]:
    """The defects of the dataset in a folder, without its renditions, and its index, None where it cannot be read."""
    defects = check_files(root, manifest)
    table = _read_table(root, manifest, defects)
    if table is None:
        return defects, None
    defects += check_table(root, manifest, table)
    with count_progress("verify: byte ranges", table.num_rows, "videos") as advance:
        defects += check_members(root, manifest, table, advance)
    if full:
        with (
            KillablePool(processes, timeout, by_progress=True) as pool,
            count_progress("verify: frames", table.num_rows, "videos") as advance,
        ):
            rows = rows_by_shard(table)
            described = with_tar_splits(root, table)
            for shard in manifest.shards:
                shard_rows = described.take(rows.get(shard.name, NO_ROWS)).to_pylist()
                defects += _check_shard(root, manifest, shard, shard_rows, quarantined, pool, advance)
    return defects, table


def _read_table(data: Path, manifest: Manifest, defects: list[DatasetDefect]) -> pa.Table | None:
    try:
        return read_index_table(data, manifest)
    except ShardFormatError as error:
        text = str(error).rpartition(";")[0].removeprefix(f"{data / INDEX_NAME}: ").removeprefix(f"{data}: ")
        defects.append(DatasetDefect(INDEX_NAME, text, reindex_fix(data)))
        return None


def _read_quarantine(data: Path, defects: list[DatasetDefect]) -> frozenset[str]:
    try:
        return frozenset(read_quarantine(data))
    except QuarantineError as error:
        defects.append(
            DatasetDefect(QUARANTINE_NAME, str(error).removeprefix(f"{data / QUARANTINE_NAME}"), "correct it")
        )
        return frozenset()


def _check_shard(
    root: Path,
    manifest: Manifest,
    shard: ShardFile,
    rows: Sequence[dict[str, Any]],
    quarantined: frozenset[str],
    pool: KillablePool,
    advance: Callable[[], None],
) -> list[DatasetDefect]:
    """Checks the checksum, the descriptions, and every video of a shard."""
    path = root / shard.name
    if not path.is_file():
        for _ in rows:
            advance()
        return []  # `check_files` reports it
    defects = []
    try:
        if path.stat().st_size == shard.bytes and file_sha256(path) != shard.sha256:
            defects.append(DatasetDefect(shard.name, f"its sha256 is not the one in {MANIFEST_NAME}", COPY_FIX))
    except OSError as error:
        defects.append(DatasetDefect(shard.name, f"cannot be read ({error.strerror})", COPY_FIX))
    if "label_from" not in manifest.encode:  # foreign tars have no descriptions
        defects += _check_descriptions(root, manifest, path, rows)
    jobs = [
        (str(path.absolute()), row["video_offset"], row["video_size"], row["key"] not in quarantined) for row in rows
    ]
    for row, checked in zip(rows, pool.map(decode_range, jobs, advance), strict=True):
        problem, fix = _find_defect(row, checked, root)
        if problem:
            defects.append(DatasetDefect(f"{shard.name}, {row['key']}", problem, fix))
    return defects + check_flow(root, shard.name, rows, pool)


def _check_descriptions(
    root: Path, manifest: Manifest, path: Path, rows: Sequence[dict[str, Any]]
) -> list[DatasetDefect]:
    """Checks that a shard's rows of the index are equal to the descriptions in the tar."""
    try:
        described = {row.key: row for row in index_shard(path)}
    except ShardFormatError as error:
        return [DatasetDefect(path.name, str(error).removeprefix(f"{path}: ").rpartition(";")[0], COPY_FIX)]
    defects = []
    for row in rows:
        description = described.pop(row["key"], None)
        differing = [] if description is None else _differences(row, description, manifest)
        if description is None:
            defects.append(
                DatasetDefect(f"{path.name}, {row['key']}", "is in index.parquet and not in the tar", reindex_fix(root))
            )
        elif differing:
            problem = f"its {', '.join(differing)} in index.parquet is not as in the tar"
            defects.append(DatasetDefect(f"{path.name}, {row['key']}", problem, reindex_fix(root)))
    defects += [
        DatasetDefect(f"{path.name}, {key}", "is in the tar and not in index.parquet", reindex_fix(root))
        for key in described
    ]
    return defects


def _differences(row: dict[str, Any], described: ShardRow, manifest: Manifest) -> list[str]:
    values = described._asdict() | described.description._asdict() | {"labels": set(described.description.labels)}
    classes = dict(enumerate(manifest.classes))
    indexed = row | {
        "label": "" if row["label"] == NO_LABEL else classes.get(row["label"], row["label"]),
        "labels": {classes.get(label, label) for label in row.get("labels") or ()},
        "fold_splits": tuple(row["fold_splits"]),
        "frame_hashes": tuple(row["frame_hashes"]),
        "captions": tuple(row.get("captions") or ()),
        "timeline": named_timeline(row.get("timeline"), manifest.classes),
    }
    return [name for name, value in indexed.items() if name in values and values[name] != value]


def _find_defect(row: dict[str, Any], checked: CheckedVideo | Exception, root: Path) -> tuple[str, str]:
    """The problem of a video and its fix; two empty strings where there is no problem."""
    leave_out = f"leave them out: python -m pipeline quarantine {root} KEY ..."
    if isinstance(checked, UndecodableError):
        if checked.digest != row["content_sha256"]:
            return f"its bytes are damaged: {one_line(checked.detail)}", COPY_FIX
        return f"does not decode: {one_line(checked.detail)}", leave_out
    if isinstance(checked, ShardFormatError):
        return "its shard ends before it does", COPY_FIX
    if isinstance(checked, Exception):
        return f"cannot be decoded: {one_line(str(checked))}", leave_out
    if checked.content_sha256 != row["content_sha256"]:
        return "its bytes are not those of its content_sha256", COPY_FIX
    info = checked.info
    if info is None:  # quarantined
        return "", ""
    measured, recorded = (info._asdict(), row)
    is_same = all(measured[name] == recorded[name] for name in ("num_frames", "width", "height", "variable_rate"))
    if not is_same or not all(
        math.isclose(measured[name], recorded[name], rel_tol=0.01) for name in ("fps", "pixel_aspect")
    ):
        return f"has {_describe_video(measured)}, index.parquet says {_describe_video(recorded)}", reindex_fix(root)
    return "", ""


def _describe_video(video: Mapping[str, Any]) -> str:
    """Describes a video by the fields of `VideoInfo` or the columns of the index."""
    text = f"{video['num_frames']} frames of {video['width']}x{video['height']} at {video['fps']:g} fps"
    text += " on average" if video["variable_rate"] else ""
    aspect = float(video["pixel_aspect"])
    return text if math.isclose(aspect, 1.0, rel_tol=0.01) else f"{text}, pixel aspect {aspect:.4g}"


def _print_defects(defects: Sequence[DatasetDefect]) -> None:
    """Prints the defects, grouped by fix."""
    fixes = dict.fromkeys(defect.fix for defect in defects)
    for fix in fixes:
        same = [defect for defect in defects if defect.fix == fix]
        for defect in same[:MAX_PRINTED]:
            print_text(printable(f"{defect.location}: {defect.problem}"))
        if len(same) > MAX_PRINTED:
            print_text(f"... and {len(same) - MAX_PRINTED} more")
        print_text(f"  -> {fix}")
