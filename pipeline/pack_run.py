"""A run of packing from its arguments to its dataset: `prepare`, then every part in any way and order, then `finish`.

`pipeline.pack` does the parts in processes of this machine, `jobs` on a cluster.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.annotations import AnnotationFormat, Annotations, read_annotations
from datamodules.aside import remove_partial_files
from datamodules.encoding import EncodeProfile
from datamodules.manifest import MANIFEST_NAME
from datamodules.quarantine import QUARANTINE_NAME, read_quarantine, write_quarantine
from datamodules.shards import Manifest, write_dataset
from pipeline.pack_folder import PackError, agree_with_earlier_run, lock_folder, report_full_disk
from pipeline.pack_guard import guard_splits
from pipeline.pack_parts import PartResult
from pipeline.pack_plan import (
    PackSettings,
    ShardPart,
    described_records,
    fingerprint,
    library_versions,
    plan_parts,
)

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class PackRun:
    """What a run does; plain data, which may be pickled.

    Attributes:
        settings: What every part has to know.
        name: Of the dataset.
        classes: Class names in the order of the labels.
        folds: Names of the folds; () where the dataset has fixed splits.
        strict: Make no dataset where the split guard finds something.
        options: All that determines the dataset, as written down in .parts/run.json.
        parts: The shards to make; each with `pack_parts.run_part(part, settings)`.
    """

    settings: PackSettings
    name: str
    classes: tuple[str, ...]
    folds: tuple[str, ...]
    strict: bool
    options: dict[str, Any]
    parts: tuple[ShardPart, ...]


@contextmanager
def prepare(
    out: Path,
    annotations: list[Path] | None = None,
    videos: Path | None = None,
    format: AnnotationFormat = "auto",
    split: str | None = None,
    name: str | None = None,
    classes: Path | None = None,
    short_side: int = 256,
    fps: float | None = None,
    copy: bool = False,
    min_frames: int = 1,
    videos_per_shard: int = 128,
    seed: int = 0,
    timeout: float = 300.0,
    retry_quarantined: bool = False,
    strict: bool = False,
) -> Iterator[PackRun]:
    """Read the lists and decide what goes where; while the context lasts, no other run may work in `out`.

    The arguments are those of `pipeline.pack.pack`. A write within the context that fails for lack of room becomes a
    PackError too.

    Raises:
        AnnotationError: The lists are missing or malformed.
        PackError: An argument is out of range, a label is unknown, `out` holds something else, is in use or has no room
            left.
    """
    if not timeout > 0:
        raise PackError(f"timeout={timeout}: must be above 0 seconds")
    profile = None if copy else EncodeProfile(short_side=short_side, fps=fps)
    listed = read_annotations(format, annotations, videos, split, classes)
    class_names = _class_names(listed, classes)
    name = _dataset_name(out, name)
    folder = videos or _folder_of(annotations)
    settings = PackSettings(out, folder, profile, min_frames, timeout, retry_quarantined)
    options = {
        "name": name,
        **settings.encode,
        "videos_per_shard": videos_per_shard,
        "seed": seed,
        **library_versions(),
        "classes": fingerprint(class_names),
        "annotations": fingerprint(described_records(listed.records, settings)),
    }
    with report_full_disk(out), lock_folder(out):
        remove_partial_files(out)
        agree_with_earlier_run(out, options)
        if retry_quarantined:
            (out / QUARANTINE_NAME).unlink(missing_ok=True)  # the parts' records still have them until they are done
        parts = plan_parts(listed.records, name, videos_per_shard, seed, read_quarantine(out))
        yield PackRun(settings, name, tuple(class_names), listed.folds, strict, options, tuple(parts))


def finish(run: PackRun, results: Sequence[PartResult]) -> Manifest:
    """Make a dataset of the finished parts: quarantine.csv, split_guard.csv, index.parquet, and dataset.json last.

    Args:
        run: As `prepare` gives it; its context still lasts.
        results: Of all its parts, in their order.

    Raises:
        PackError: Every video was refused, or `run.strict` and the split guard found something; then there are the two
            CSV files, and no dataset.json.
    """
    root = run.settings.root
    refused = sorted(refusal for result in results for refusal in result.refused)
    write_quarantine(root, refused)
    rows = [row for result in results for row in result.rows]
    if not rows:
        (root / MANIFEST_NAME).unlink(missing_ok=True)
        reasons = ", ".join(sorted({refusal.reason for refusal in refused}))
        raise PackError(
            f"all {len(refused)} videos were refused ({reasons}; first {refused[0].path}: {refused[0].detail}): see "
            f"{root / QUARANTINE_NAME}, correct --videos or the lists, remove the folder, and run again"
        )
    guard_splits(root, rows, run.strict)
    shards = [result.shard for result in results if result.shard is not None]
    return write_dataset(root, run.name, rows, shards, run.classes, run.folds, run.settings.encode, library_versions())


def _folder_of(annotations: Sequence[Path] | None) -> Path:
    """Where the videos are if nobody says: in the folder named as the list, or beside the first list."""
    first = annotations[0] if annotations else Path()
    return first if first.is_dir() else first.parent


def _class_names(listed: Annotations, classes: Path | None) -> list[str]:
    found = sorted({record.label for record in listed.records})
    if classes is None:
        return list(listed.classes) or found
    try:
        names = [line.strip() for line in classes.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise PackError(
            f"classes={classes}: cannot be read ({error}); name a text file with one class a line"
        ) from None
    repeated = sorted({name for name in names if names.count(name) > 1})
    unknown = [label for label in found if label not in names]
    if repeated:
        raise PackError(f"classes={classes}: {repeated[0]!r} is there twice; keep one")
    if unknown:
        raise PackError(f"label {unknown[0]!r} of the annotations is not in {classes}; add it or correct the list")
    return names


def _dataset_name(out: Path, name: str | None) -> str:
    if name is not None and not _NAME.fullmatch(name):
        raise PackError(f"name={name!r}: must consist of letters, digits, - and _, because the shards are called so")
    return name or re.sub(r"[^A-Za-z0-9_-]+", "_", out.absolute().name) or "dataset"
