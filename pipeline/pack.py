"""`python -m pipeline pack`: labelled videos to shards, index and manifest; refused ones to a quarantine list."""

import os
import queue
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from datamodules.annotations import AnnotationFormat, Annotations, read_annotations
from datamodules.aside import remove_partial_files
from datamodules.encoding import EncodeProfile
from datamodules.manifest import MANIFEST_NAME
from datamodules.quarantine import QUARANTINE_NAME, read_quarantine, write_quarantine
from datamodules.shards import Manifest, write_dataset
from pipeline.killable import KillableProcess, ProcessUnavailable
from pipeline.pack_folder import PackError, agree_with_earlier_run, lock_folder, report_full_disk
from pipeline.pack_guard import guard_splits
from pipeline.pack_parts import Outcome, PartResult, run_part
from pipeline.pack_plan import (
    PackSettings,
    ShardPart,
    described_records,
    fingerprint,
    library_versions,
    plan_parts,
)
from pipeline.pack_progress import print_summary, show_progress

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def pack(
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
    processes: int | None = None,
    timeout: float = 300.0,
    retry_quarantined: bool = False,
    strict: bool = False,
) -> None:
    """Turn labelled videos into WebDataset shards with an index, for training.

    Every frame of every video is decoded; a video that cannot be is left out and listed with the reason in
    out/quarantine.csv. The rest is encoded for training: smaller, with a key frame every 16 frames, without sound. The
    same input and options give the same bytes whatever the number of processes. Run again after an interruption, it
    goes on where it was.

    Args:
        out: folder to make: shards, index.parquet, dataset.json, quarantine.csv.
        annotations: file or files of the list, or the folder of the official lists of UCF101 or HMDB51; leave it out
            for folders named after classes.
        videos: folder of the videos; default: the folder of the first list.
        format: of the lists: kinetics (label, youtube_id, time_start, time_end, split), ucf101 (classInd, trainlist and
            testlist), hmdb51 ({class}_test_split{1,2,3}.txt), mmaction (lines of path and number of the class), csv
            (CSV or Parquet: path, label, group, and fold or split), folders (split/class/video), or auto: by the
            columns or names.
        split: split of all videos, in place of what the lists say.
        name: of the dataset, beginning of the shards' names; default: the name of the folder `out`.
        classes: text file of class names, one a line, in the order of the labels; default: as the official list numbers
            them, or alphabetical. For mmaction this is the label map; without one, the folders are the classes.
        short_side: pixels of the shorter side; smaller videos keep their size.
        fps: frames per second; default: each video's own.
        copy: store the original bytes, once every frame was decoded, instead of encoding them.
        min_frames: videos with fewer frames are refused.
        videos_per_shard: at most so many videos in a shard.
        seed: of the order of the videos in the shards.
        processes: that decode and encode; default: one for each processor.
        timeout: seconds that one video may take before it is refused as hanging.
        retry_quarantined: try the videos that an earlier run refused again.
        strict: make no dataset of videos that the split guard reports: a group, the same bytes, or nearly the same
            content on both sides of a split. They are warned of and listed in out/split_guard.csv in any case.

    Raises:
        AnnotationError: the lists are missing or malformed.
        PackError: `out` holds something else, is in use, or has no room left; a label is unknown; every video was
            refused; `strict`, and something is on both sides of a split.
    """
    began = time.monotonic()
    if processes is not None and processes < 1:
        raise PackError(f"processes={processes}: must be at least 1")
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
        results = _run_parts(parts, settings, processes or _processors())
        manifest = finish(settings, name, class_names, listed.folds, results, strict)
    print_summary(manifest, results, out, time.monotonic() - began)


def finish(
    settings: PackSettings,
    name: str,
    classes: Sequence[str],
    folds: Sequence[str],
    results: Sequence[PartResult],
    strict: bool = False,
) -> Manifest:
    """Make a dataset of the finished parts: quarantine.csv, split_guard.csv, index.parquet, and dataset.json last.

    Raises:
        PackError: Every video was refused, or `strict` and the split guard found something; then there are the two CSV
            files, and no dataset.json.
    """
    refused = sorted(refusal for result in results for refusal in result.refused)
    write_quarantine(settings.root, refused)
    rows = [row for result in results for row in result.rows]
    if not rows:
        (settings.root / MANIFEST_NAME).unlink(missing_ok=True)
        reasons = ", ".join(sorted({refusal.reason for refusal in refused}))
        raise PackError(
            f"all {len(refused)} videos were refused ({reasons}; first {refused[0].path}: {refused[0].detail}): see "
            f"{settings.root / QUARANTINE_NAME}, correct --videos or the lists, remove the folder, and run again"
        )
    guard_splits(settings.root, rows, strict)
    shards = [result.shard for result in results if result.shard is not None]
    return write_dataset(settings.root, name, rows, shards, classes, folds, settings.encode, library_versions())


def _run_parts(parts: Sequence[ShardPart], settings: PackSettings, processes: int) -> list[PartResult]:
    """All parts, each in the thread of one long-lived decoding process; in the order of the parts."""
    free: queue.SimpleQueue[KillableProcess] = queue.SimpleQueue()
    children = [KillableProcess() for _ in range(min(processes, len(parts)))]
    for child in children:
        free.put(child)

    with show_progress(sum(len(part.records) for part in parts)) as meter:

        def report(outcome: Outcome) -> None:
            meter.add(outcome)

        def run(part: ShardPart) -> PartResult:
            child = free.get()
            try:
                return run_part(part, settings, report, child)
            finally:
                free.put(child)

        with ThreadPoolExecutor(len(children)) as pool:
            futures = [pool.submit(run, part) for part in parts]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                for child in children:
                    child.stop()
                if isinstance(error, ProcessUnavailable):
                    raise PackError(f"decoding processes do not run: {error}") from None
                raise
            finally:
                pool.shutdown(wait=True)
                for child in children:
                    child.close()
        return [future.result() for future in futures]


def _folder_of(annotations: Sequence[Path] | None) -> Path:
    """Where the videos are if nobody says: in the folder named as the list, or beside the first list."""
    first = annotations[0] if annotations else Path()
    return first if first.is_dir() else first.parent


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
