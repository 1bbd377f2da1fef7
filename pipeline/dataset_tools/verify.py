"""`python -m pipeline verify`: checks that a packed dataset is complete and consistent."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from datamodules.dataset.foreign_tar import read_range
from datamodules.dataset.index_table import INDEX_NAME, NO_LABEL, read_index_table
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, ShardFile, read_manifest
from datamodules.dataset.quarantine import QUARANTINE_NAME, QuarantineError, one_line, read_quarantine
from datamodules.dataset.shard_tar import ShardRow, index_shard
from datamodules.encoding.transcoding import inspect
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.local_files import file_sha256
from datamodules.storage.plain_text import printable
from datamodules.video.probing import VideoInfo
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.dataset_tools.verify_checks import (
    COPY,
    NO_ROWS,
    DatasetDefect,
    check_files,
    check_members,
    check_table,
    reindex,
    rows_by_shard,
)
from pipeline.dataset_tools.verify_renditions import check_rendition, in_subfolder
from pipeline.processes.killable_pool import KillablePool

SHOWN = 50


def verify(data: str, full: bool = False, processes: int | None = None, timeout: float = 300.0) -> None:
    """Check a packed dataset: dataset.json, index.parquet and the shards, each against the others.

    The fast check reads no video: all shards exist with their sizes; counts, classes, splits, folds and identity agree;
    every byte range of the index is a member of the tar with the video's key. The full check reads everything: sha256
    of every shard and every video, the descriptions in the tars, and every frame, decoded in processes that are killed
    when they hang. Videos in quarantine.csv, which nothing reads, need not decode; their bytes must be right. All
    renditions are checked, and each against the largest: the same videos, labels, splits, frame counts and rates.

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
    findings: list[DatasetDefect] = []
    quarantined = _read_quarantine(data, findings)
    its_findings, table = _check_dataset(data, manifest, full, quarantined, processes, timeout)
    findings += its_findings
    num_shards = len(manifest.shards)
    for rendition in manifest.renditions[1:]:
        folder = data / rendition.folder
        try:
            found = read_manifest(folder)
        except ShardFormatError as error:
            problem = f"there is no whole dataset of this rendition ({str(error).rpartition(';')[0]})"
            findings.append(DatasetDefect(rendition.folder, problem, COPY))
            continue
        its_findings, its_table = _check_dataset(folder, found, full, quarantined, processes, timeout)
        findings += [in_subfolder(folder, finding) for finding in its_findings]
        findings += check_rendition(manifest, table, rendition, found, its_table)
        num_shards += len(found.shards)
    findings = list(dict.fromkeys(findings))
    _print_findings(findings)
    seconds = f"{time.monotonic() - began:.0f} s"
    what = f"{num_shards} shards and {0 if table is None else table.num_rows} videos of {data}"
    if manifest.renditions:
        what += f" in {len(manifest.renditions)} renditions"
    left_out = 0 if table is None else len(quarantined.intersection(table.column("key").to_pylist()))
    if left_out:
        what += f" ({left_out} quarantined)"
    how = "checksums and every frame" if full else "sizes and index; --full adds checksums and every frame"
    if findings:
        count = "1 thing is" if len(findings) == 1 else f"{len(findings)} things are"
        raise ValueError(f"{count} wrong among {what} (checked in {seconds}: {how})")
    print_text(f"all is well with {what} (checked in {seconds}: {how})")


def _check_dataset(
    root: Path, manifest: Manifest, full: bool, quarantined: frozenset[str], processes: int | None, timeout: float
) -> tuple[list[DatasetDefect], pa.Table | None]:
    """The defects of the dataset in a folder, without its renditions, and its index, None where it cannot be read."""
    findings = check_files(root, manifest)
    table = _read_table(root, manifest, findings)
    if table is None:
        return findings, None
    findings += check_table(root, manifest, table)
    with count_progress("verify: byte ranges", table.num_rows, "videos") as done:
        findings += check_members(root, manifest, table, done)
    if full:
        with (
            KillablePool(processes, timeout, by_progress=True) as pool,
            count_progress("verify: frames", table.num_rows, "videos") as done,
        ):
            rows = rows_by_shard(table)
            for shard in manifest.shards:
                mine = table.take(rows.get(shard.name, NO_ROWS)).to_pylist()
                findings += _check_shard(root, manifest, shard, mine, quarantined, pool, done)
    return findings, table


def _read_table(data: Path, manifest: Manifest, findings: list[DatasetDefect]) -> pa.Table | None:
    try:
        return read_index_table(data, manifest)
    except ShardFormatError as error:
        text = str(error).rpartition(";")[0].removeprefix(f"{data / INDEX_NAME}: ").removeprefix(f"{data}: ")
        findings.append(DatasetDefect(INDEX_NAME, text, reindex(data)))
        return None


def _read_quarantine(data: Path, findings: list[DatasetDefect]) -> frozenset[str]:
    try:
        return frozenset(read_quarantine(data))
    except QuarantineError as error:
        findings.append(
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
    done: Callable[[], None],
) -> list[DatasetDefect]:
    """Checks the checksum, the descriptions, and every video of a shard."""
    path = root / shard.name
    if not path.is_file():
        for _ in rows:
            done()
        return []  # `check_files` reports it
    findings = []
    try:
        if path.stat().st_size == shard.bytes and file_sha256(path) != shard.sha256:
            findings.append(DatasetDefect(shard.name, f"its sha256 is not the one in {MANIFEST_NAME}", COPY))
    except OSError as error:
        findings.append(DatasetDefect(shard.name, f"cannot be read ({error.strerror})", COPY))
    if "label_from" not in manifest.encode:  # foreign tars have no descriptions
        findings += _check_descriptions(root, manifest, path, rows)
    jobs = [
        (str(path.absolute()), row["video_offset"], row["video_size"], row["key"] not in quarantined) for row in rows
    ]
    for row, facts in zip(rows, pool.map(decode_range, jobs, done), strict=True):
        problem, fix = _compare(row, facts, root)
        if problem:
            findings.append(DatasetDefect(f"{shard.name}, {row['key']}", problem, fix))
    return findings


def _check_descriptions(
    root: Path, manifest: Manifest, path: Path, rows: Sequence[dict[str, Any]]
) -> list[DatasetDefect]:
    """Checks that a shard's rows of the index are equal to the descriptions in the tar."""
    try:
        said = {row.key: row for row in index_shard(path)}
    except ShardFormatError as error:
        return [DatasetDefect(path.name, str(error).removeprefix(f"{path}: ").rpartition(";")[0], COPY)]
    findings = []
    for row in rows:
        found = said.pop(row["key"], None)
        differing = [] if found is None else _differences(row, found, manifest)
        if found is None:
            findings.append(
                DatasetDefect(f"{path.name}, {row['key']}", "is in index.parquet and not in the tar", reindex(root))
            )
        elif differing:
            problem = f"its {', '.join(differing)} in index.parquet is not as in the tar"
            findings.append(DatasetDefect(f"{path.name}, {row['key']}", problem, reindex(root)))
    findings += [
        DatasetDefect(f"{path.name}, {key}", "is in the tar and not in index.parquet", reindex(root)) for key in said
    ]
    return findings


def _differences(row: dict[str, Any], found: ShardRow, manifest: Manifest) -> list[str]:
    values = found._asdict() | found.description._asdict() | {"labels": set(found.description.labels)}
    classes = dict(enumerate(manifest.classes))
    indexed = row | {
        "label": "" if row["label"] == NO_LABEL else classes.get(row["label"], row["label"]),
        "labels": {classes.get(label, label) for label in row.get("labels") or ()},
        "fold_splits": tuple(row["fold_splits"]),
        "frame_hashes": tuple(row["frame_hashes"]),
        "captions": tuple(row.get("captions") or ()),
    }
    return [name for name, value in indexed.items() if name in values and values[name] != value]


class CheckedVideo(NamedTuple):
    """sha256 of a video's bytes, and its properties, None where it was not decoded."""

    content_sha256: str
    info: VideoInfo | None


def decode_range(
    path: str, offset: int, size: int, decode: bool = True, progress: Callable[[int], None] | None = None
) -> CheckedVideo:
    """Hashes a video in a tar and, with `decode`, decodes every frame; runs in a process that can be killed.

    Raises:
        DecodeError: a frame does not decode, or the video is truncated.
    """
    data = read_range(path, offset, size)
    digest = hashlib.sha256(data).hexdigest()
    if not decode:
        return CheckedVideo(digest, None)
    try:
        return CheckedVideo(digest, inspect(data, progress).info)
    except ValueError as error:
        raise UndecodableError(digest, str(error)) from error


class UndecodableError(ValueError):
    """A video that does not decode; `digest` is the sha256 of its bytes."""

    def __init__(self, digest: str, detail: str):
        super().__init__(digest, detail)
        self.digest = digest
        self.detail = detail


def _compare(row: dict[str, Any], facts: CheckedVideo | Exception, root: Path) -> tuple[str, str]:
    """The problem of a video and its fix; two empty strings where there is no problem."""
    leave_out = f"leave them out: python -m pipeline quarantine {root} KEY ..."
    if isinstance(facts, UndecodableError):
        if facts.digest != row["content_sha256"]:
            return f"its bytes are damaged: {one_line(facts.detail)}", COPY
        return f"does not decode: {one_line(facts.detail)}", leave_out
    if isinstance(facts, ShardFormatError):
        return "its shard ends before it does", COPY
    if isinstance(facts, Exception):
        return f"cannot be decoded: {one_line(str(facts))}", leave_out
    if facts.content_sha256 != row["content_sha256"]:
        return "its bytes are not those of its content_sha256", COPY
    info = facts.info
    if info is None:  # quarantined
        return "", ""
    seen, said = (info._asdict(), row)
    same = all(seen[name] == said[name] for name in ("num_frames", "width", "height", "variable_rate"))
    if not same or not all(math.isclose(seen[name], said[name], rel_tol=0.01) for name in ("fps", "pixel_aspect")):
        return f"has {_in_words(seen)}, index.parquet says {_in_words(said)}", reindex(root)
    return "", ""


def _in_words(video: Mapping[str, Any]) -> str:
    """Describes a video by the fields of `VideoInfo` or the columns of the index."""
    text = f"{video['num_frames']} frames of {video['width']}x{video['height']} at {video['fps']:g} fps"
    text += " on average" if video["variable_rate"] else ""
    aspect = float(video["pixel_aspect"])
    return text if math.isclose(aspect, 1.0, rel_tol=0.01) else f"{text}, pixel aspect {aspect:.4g}"


def _print_findings(findings: Sequence[DatasetDefect]) -> None:
    """Prints the findings, grouped by fix."""
    fixes = dict.fromkeys(finding.fix for finding in findings)
    for fix in fixes:
        same = [finding for finding in findings if finding.fix == fix]
        for finding in same[:SHOWN]:
            print_text(printable(f"{finding.place}: {finding.problem}"))
        if len(same) > SHOWN:
            print_text(f"... and {len(same) - SHOWN} more")
        print_text(f"  -> {fix}")
