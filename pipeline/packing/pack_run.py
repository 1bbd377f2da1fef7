"""A run of packing, from options to dataset: `prepare_shards`, then all parts in any order, then `finish_dataset`.

`pipeline.packing.pack` runs the parts in processes of this machine, `jobs` on a cluster.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.records import Annotations, VideoRecord
from datamodules.annotations.refusals import Refusal
from datamodules.dataset.dataset_index import Manifest, dataset_identity, write_dataset
from datamodules.dataset.quarantine import QUARANTINE_NAME, read_quarantine, write_quarantine
from datamodules.encoding.transcoding import EncodeProfile
from datamodules.list_formats.read_annotations import read_annotations, read_segments
from datamodules.splits.divided_videos import DividedVideos
from datamodules.splits.division_options import Division
from datamodules.splits.split_file import PACKED
from datamodules.storage.atomic_write import remove_partial_files
from datamodules.timed_lists.timelines import join_timelines
from datamodules.video.image_folder import is_image_folder
from pipeline.packing.class_order import order_classes
from pipeline.packing.division import (
    divide_rows,
    packed_splits_path,
    refuse_other_division,
    regroup_records,
    with_splits_in_results,
    write_division,
)
from pipeline.packing.leakage_report import guard_splits
from pipeline.packing.list_warnings import warn_about_lists
from pipeline.packing.output_folder import (
    LIST_OPTIONS,
    PackError,
    agree_with_earlier_run,
    lock_folder,
    report_full_disk,
)
from pipeline.packing.pack_options import PackOptions, ShardOptions
from pipeline.packing.shard_bounds import ShardSizes, divide_by_size, reuse_division
from pipeline.packing.shard_builder import PARTS_FOLDER, SEEK_TABLES_FOLDER, PartResult, remove_manifests
from pipeline.packing.shard_plan import (
    FOLDED_SPLIT,
    PackSettings,
    ShardPart,
    described_records,
    order_records,
    plain_digest,
    plan_parts,
    source_name,
)
from pipeline.packing.size_estimates import estimate_bytes, file_sizes

_LIST_OPTIONS = [field.name for field in fields(ListOptions)] + ["format", "split", "folds", "group_by"]
_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class PackRun:
    """The plan of a run; plain data that can be pickled.

    Attributes:
        settings: The settings that all parts share.
        name: The name of the dataset.
        classes: Class names in the order of the labels.
        folds: Names of the folds; () where the dataset has fixed splits.
        strict: Make no dataset where the split guard finds leakage.
        options: Everything that determines the dataset, as recorded in .parts/run.json.
        parts: The shards to make, each by `shard_builder.run_part(part, settings)`.
        refused: Videos that are in no part, because the reader of the list refused them.
        division: How the videos are divided into splits or folds; None: as the lists say.
    """

    settings: PackSettings
    name: str
    classes: tuple[str, ...]
    folds: tuple[str, ...]
    strict: bool
    options: dict[str, Any]
    parts: tuple[ShardPart, ...]
    refused: tuple[Refusal, ...] = ()
    division: Division | None = None


@contextmanager
def prepare_shards(options: PackOptions) -> Iterator[PackRun]:
    """Read the lists and assign videos to shards; within the context, `out` is locked against other runs.

    A write within the context that fails on a full disk raises PackError.

    Raises:
        AnnotationError: The lists are missing or malformed.
        PackError: An option is out of range, a label is unknown, `out` has other content, is in use or has no room
            left.
    """
    profiles, division = options.profiles(), options.division(options.seed)
    split = options.split if division is None else FOLDED_SPLIT
    videos_folder = Path(os.path.normpath(options.videos or _default_videos_folder(options.annotations)))
    annotations = _read_lists(options, split, videos_folder)
    if options.copy:
        refuse_copies(annotations.records)
    labels = (label for record in annotations.records for label in record.class_names)
    class_names = order_classes(labels, annotations.classes, options.classes)
    background = options.background if options.timelines and annotations.task == "single_label" else None
    if background is not None and background not in class_names:
        class_names.append(background)
    name, out = _dataset_name(options.out, options.name), options.out
    settings = PackSettings(
        out,
        videos_folder,  # normalized as the videos' paths
        profiles[0] if profiles else None,
        options.min_frames,
        options.timeout,
        options.retry_quarantined,
        tuple(profiles[1:]),
        annotations.task,
        options.flow_method if options.flow else None,
        background,
    )
    if options.group_by is not None:
        if annotations.has_groups:
            raise PackError(
                f"group_by={options.group_by!r}: the list has a column group, which it would replace; leave the option "
                "out, or remove the column"
            )
        paths = [source_name(record, settings) for record in annotations.records]
        annotations = replace(annotations, records=regroup_records(annotations.records, paths, options.group_by))
    recorded = _recorded_options(name, annotations, class_names, settings, options)
    warn_about_lists(annotations)
    with report_full_disk(out), lock_folder(out):
        for folder in (*settings.folders, out / PARTS_FOLDER, out / SEEK_TABLES_FOLDER):
            remove_partial_files(folder)
        agree_with_earlier_run(out, recorded, settings.folders)
        if division is not None:
            refuse_other_division(out, division)
        if options.retry_quarantined:
            (out / QUARANTINE_NAME).unlink(missing_ok=True)  # parts keep their refusals in their records
        split_records = order_records(annotations.records, options.seed)
        shard_sizes = reuse_division(
            out,
            {split: len(records) for split, records in split_records.items()},
            lambda: _divide_records(split_records, settings.profile, options, settings.flow is not None),
        )
        parts = tuple(plan_parts(split_records, name, shard_sizes, read_quarantine(out)))
        yield PackRun(
            settings,
            name,
            tuple(class_names),
            annotations.folds,
            options.strict,
            recorded,
            parts,
            annotations.refused,
            division,
        )


def _read_lists(options: PackOptions, split: str | None, videos_folder: Path) -> Annotations:
    """The videos of the lists: files, segments of files, or with `timelines` files with labels by time."""
    source = (options.format, options.annotations, options.videos, split, options.classes, options)
    return join_timelines(read_segments(*source), videos_folder) if options.timelines else read_annotations(*source)


def refuse_copies(records: Sequence[VideoRecord]) -> None:
    """Raises PackError if the list has videos that `copy` cannot store."""
    for record in records:
        if record.is_segment:
            raise PackError(
                f"copy: {record.key} is a segment of {record.path}, and bytes are copied as whole files: leave --copy "
                "out, or the times"
            )
        if record.frames_per_second is not None and is_image_folder(record.path):
            raise PackError(
                f"copy: {record.path} is a folder of images, and only the bytes of video files are copied: leave "
                "--copy out"
            )


def _divide_records(
    split_records: Mapping[str, Sequence[VideoRecord]], profile: EncodeProfile | None, bounds: ShardOptions, flow: bool
) -> ShardSizes:
    """The number of videos in each shard of each split, from the estimated sizes of the largest rendition."""
    shard_sizes = {}
    for split, records in split_records.items():
        sizes = file_sizes([record.path for record in records])
        rows = Counter(record.path for record in records)
        estimates = [
            estimate_bytes(record, size, profile, rows[record.path], flow)
            for record, size in zip(records, sizes, strict=True)
        ]
        shard_sizes[split] = divide_by_size(estimates, bounds.videos_per_shard, bounds.shard_bytes)
    return shard_sizes


def finish_dataset(run: PackRun, results: Sequence[PartResult]) -> tuple[Manifest, DividedVideos | None]:
    """Make a dataset of the finished parts: quarantine.csv, split_guard.csv, index.parquet, and dataset.json last.

    Where the run has a division, the videos are divided before, and their splits written to splits/packed.csv too. The
    datasets of smaller renditions are written first; the CSV files, which are the same for all renditions, are in `out`
    only.

    Args:
        run: The run, from `prepare_shards`, within its context.
        results: The results of all its parts, in their order.

    Returns:
        The manifest (dataset.json) of the largest rendition, and the division, None where the lists have the splits.

    Raises:
        PackError: Every video was refused, or `run.strict` is set and the split guard found leakage; the CSV files are
            written before, dataset.json is not.
    """
    root = run.settings.root
    refused = sorted([*run.refused, *(refusal for result in results for refusal in result.refused)])
    write_quarantine(root, refused)
    rows = [row for result in results for row in result.rows]
    if not rows:
        remove_manifests(run.settings)
        reasons = ", ".join(sorted({refusal.reason for refusal in refused}))
        raise PackError(
            f"all {len(refused)} videos were refused ({reasons}; first {refused[0].path}: {refused[0].detail}): see "
            f"{root / QUARANTINE_NAME}, correct --videos or the lists, remove the folder, and run again"
        )
    folds: Sequence[str] = run.folds
    divided = None if run.division is None else divide_rows(rows, run.division)
    if divided is not None:
        chosen = divided.as_split_file(PACKED)
        results, folds = with_splits_in_results(results, chosen), chosen.folds
        rows = [row for result in results for row in result.rows]
    guard_splits(root, rows, run.strict)  # a dataset that an earlier run made without `strict` stays as it is
    if divided is not None:
        write_division(packed_splits_path(root), divided, "pack")
    identity = dataset_identity(rows)
    for number, encode in enumerate(run.settings.smaller_encodes):
        rendition_shards = [result.smaller[number] for result in results if result.smaller]
        write_dataset(
            run.settings.folders[number + 1],
            run.name,
            [row for shard in rendition_shards for row in shard.rows],
            [shard.shard for shard in rendition_shards],
            run.classes,
            folds,
            encode,
            run.settings.versions,
            rendition_of=identity,
        )
    shards = [result.shard for result in results if result.shard is not None]
    rmtree(root / SEEK_TABLES_FOLDER, ignore_errors=True)
    manifest = write_dataset(
        root,
        run.name,
        rows,
        shards,
        run.classes,
        folds,
        run.settings.encode,
        run.settings.versions,
        run.settings.renditions,
    )
    return manifest, divided


def _default_videos_folder(annotations: Sequence[Path] | None) -> Path:
    """The default folder of the videos: `annotations` where it is a folder, else the folder of the first list."""
    first = annotations[0] if annotations else Path()
    return first if first.is_dir() else first.parent


def _recorded_options(
    name: str, annotations: Annotations, classes: Sequence[str], settings: PackSettings, pack_options: PackOptions
) -> dict[str, Any]:
    """Everything that determines the dataset, as plain values, to compare with a later run."""
    options: dict[str, Any] = {
        "name": name,
        **settings.encode,
        **{field.name: getattr(pack_options, field.name) for field in fields(ShardOptions)},
        **settings.versions,
        "task": settings.task,
        **({"timelines": True, "background": settings.background} if pack_options.timelines else {}),
        "classes": plain_digest(list(classes)),
        "annotations": plain_digest(described_records(annotations.records, settings)),
        LIST_OPTIONS: {name: getattr(pack_options, name) for name in _LIST_OPTIONS},
    }
    if settings.renditions:
        options["short_side"] = [rendition.short_side for rendition in settings.renditions]
    return options


def _dataset_name(out: Path, name: str | None) -> str:
    if name is not None and not _NAME.fullmatch(name):
        raise PackError(f"name={name!r}: must consist of letters, digits, - and _, because the shards are called so")
    return name or re.sub(r"[^A-Za-z0-9_-]+", "_", out.absolute().name) or "dataset"
