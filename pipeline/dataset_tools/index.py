"""`python -m pipeline index`: writes index.parquet and dataset.json from tars alone, written by `pack` or by others."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datamodules.annotations.refusals import CRASH, ERROR, HANG, Refusal
from datamodules.dataset.foreign_tar import (
    REASONS,
    TarLayout,
    describe_first_sample,
    make_shard_row,
    probe_range,
    read_foreign_tar,
    share_task,
)
from datamodules.dataset.index_table import INDEX_NAME, write_dataset
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, ShardFile, read_manifest
from datamodules.dataset.quarantine import QUARANTINE_NAME, one_line, read_quarantine, write_quarantine
from datamodules.dataset.shard_tar import ForeignShardError, ShardRow, index_shard
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.local_files import file_sha256
from datamodules.video.decoding import DecodeError
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.dataset_tools.index_sources import (
    TarNotes,
    apply_packed_splits,
    dataset_folder,
    dataset_name,
    find_tars,
    is_unfinished,
    link_tars,
    print_index,
)
from pipeline.packing.class_order import name_classes
from pipeline.packing.output_folder import lock_folder
from pipeline.packing.shard_builder import PARTS_FOLDER
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import ProcessDied, ProcessHung


def index(
    shards: list[str],
    out: Path | None = None,
    label_from: str | None = None,
    group_from: str | None = None,
    split: str | None = None,
    key_prefix: Literal["shard"] | None = None,
    name: str | None = None,
    classes: Path | None = None,
    folds: list[str] | None = None,
    processes: int | None = None,
    timeout: float = 60.0,
) -> None:
    """Make tars a dataset: write index.parquet and dataset.json from their content.

    Shards that `pack` wrote contain all descriptions. For foreign tars, such as video2dataset's, give the place of the
    labels; each video is then probed (frames, rate, size), in a process that is killed when it hangs, and samples that
    cannot be used go to quarantine.csv with the reason. Nothing is decoded in full: `verify --full` does that.

    What tars do not contain (the order of the classes, the names of the folds, the encoding, the other renditions) is
    taken from a dataset.json of the same shards where there is one, and else from the options; the splits of a dataset
    that `pack` divided from splits/packed.csv beside the tars.

    Args:
        shards: tars, a folder of them, or a pattern such as 'data/*.tar'.
        out: folder of the dataset, with links to tars of other folders; default: the folder of the tars.
        label_from: place of the label in foreign tars: json:KEY (json:a.b for nested ones), cls, txt, folder (of the
            key), or none for videos without labels. Where any video has a JSON list there, the dataset is one of
            several labels a video.
        group_from: json:KEY that videos from one source have in common; default: each video is its own group.
        split: split of all videos of foreign tars; default: from each tar's name (train, val, validation or test); of
            videos without labels, `all` where it names none.
        key_prefix: `shard` for foreign tars whose keys begin again in each of them, such as 000000: a key is then
            `{name of the tar}/{key}`. Default: as in the tar.
        name: name of the dataset; default: from the names of the shards that `pack` wrote, or the folder's name.
        classes: text file of class names, one a line, in the order of the labels; numbers in the tars are positions in
            it. Default: alphabetical.
        folds: names of the folds, in order; default: 0, 1, ...
        processes: number of processes that probe foreign videos; default: one for each processor.
        timeout: seconds without progress in probing a video after which it is left out as hanging.

    Raises:
        ShardFormatError: a tar is truncated or damaged, or a key occurs twice.
        ValueError: a label, split or fold cannot be found, or there is no video.
    """
    if label_from is None and (split or group_from or key_prefix):
        raise ValueError("--split, --group-from and --key-prefix are for foreign tars: give --label-from too")
    layout = None if label_from is None else TarLayout(label_from, group_from, split, key_prefix)
    tars = find_tars(shards)
    root = dataset_folder(tars, out)
    notes = TarNotes()
    with lock_folder(root) if (root / PARTS_FOLDER).is_dir() else nullcontext():
        _refuse_unfinished(root)
        earlier = _earlier_manifest(root, tars)
        content = _read_tars(tars, layout, processes, timeout, notes)
        rows = content.rows if layout is None else share_task(content.rows)
        rows, class_list = name_classes(rows, classes, earlier.classes if earlier else [])
        fold_list = _fold_names(rows, folds, earlier.folds if earlier else [])
        link_tars(tars, root)
        rows, fold_list = apply_packed_splits(rows, fold_list, root, tars)
        _update_quarantine(root, tars, rows, content.refused)
        encode, versions = _encoding(layout, earlier)
        manifest = write_dataset(
            root,
            name or (earlier.name if earlier else dataset_name(tars, root)),
            rows,
            content.files,
            class_list,
            fold_list,
            encode,
            versions,
            earlier.renditions if earlier else (),
            earlier.rendition_of if earlier else "",
        )
    print_index(manifest, earlier, rows, content.refused)
    notes.report()
    if content.refused:
        print_text(f"wrote {root / QUARANTINE_NAME}")
    print_text(f"wrote {root / INDEX_NAME} and {root / MANIFEST_NAME}")


class _TarContents(NamedTuple):
    """What was read from all tars: the usable videos, the refused samples, and the files themselves."""

    rows: list[ShardRow]
    refused: list[Refusal]
    files: list[ShardFile]


def _read_tars(
    tars: Sequence[Path], layout: TarLayout | None, processes: int | None, timeout: float, notes: TarNotes
) -> _TarContents:
    """Reads all tars, and probes the videos of foreign ones; raises if a key is in two tars or no video is usable."""
    content = _TarContents([], [], [])
    with (
        KillablePool(processes, timeout, by_progress=True) as pool,
        count_progress("index", len(tars), "shards") as advance,
    ):
        for tar in tars:
            rows, refused = _index_packed_tar(tar) if layout is None else _index_foreign_tar(tar, layout, pool, notes)
            content.rows.extend(rows)
            content.refused.extend(refused)
            content.files.append(_describe_shard(tar, rows))
            advance()
    _refuse_repeated_keys(content.rows, content.refused, layout)
    if not content.rows:
        refused = content.refused
        detail = f"; first {refused[0].path}: {refused[0].reason}, {refused[0].detail}" if refused else ""
        raise ValueError(f"no video in {len(tars)} tars can be used ({len(refused)} left out{detail})")
    return content


def _refuse_unfinished(root: Path) -> None:
    if is_unfinished(root):
        raise ValueError(
            f"out={root}: packing has not finished there; run the same pack command again, it keeps finished "
            f"shards. If it had finished, and only {MANIFEST_NAME} is lost: index into another folder (--out), or "
            "remove .parts first"
        )


def _encoding(layout: TarLayout | None, earlier: Manifest | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Encoder settings and library versions for dataset.json: of the earlier one, or the layout of foreign tars."""
    if layout is None:
        return (earlier.encode, earlier.versions) if earlier else ({}, {})
    encode = {"copy": True, "label_from": layout.label_from}
    return encode | ({} if layout.key_prefix is None else {"key_prefix": layout.key_prefix}), {}


def _update_quarantine(root: Path, tars: Sequence[Path], rows: Sequence[ShardRow], refused: Sequence[Refusal]) -> None:
    earlier = read_quarantine(root)
    merged = _merge_quarantine(earlier, tars, rows, refused)
    if merged != earlier:
        write_quarantine(root, merged.values())


def _index_packed_tar(tar: Path) -> tuple[list[ShardRow], list[Refusal]]:
    try:
        return index_shard(tar), []
    except ForeignShardError as error:
        raise ValueError(
            f"{str(error).rpartition(';')[0]}; for a foreign tar, name where the labels are with --label-from "
            f"json:KEY, cls, txt or folder (none for no labels): its first sample has {describe_first_sample(tar)}"
        ) from None


def _index_foreign_tar(
    tar: Path, layout: TarLayout, pool: KillablePool, notes: TarNotes
) -> tuple[list[ShardRow], list[Refusal]]:
    read = read_foreign_tar(tar, layout)
    notes.add(tar, read)
    refused = read.refused
    jobs = [(str(tar.absolute()), sample.offset, sample.size) for sample in read.samples]
    rows = []
    for sample, facts in zip(read.samples, pool.map(probe_range, jobs, lambda: None), strict=True):
        if isinstance(facts, Exception):
            refused.append(
                Refusal(f"{tar.name}/{sample.member}", sample.key, _refusal_reason(facts), one_line(str(facts)))
            )
        else:
            rows.append(make_shard_row(sample, facts, tar.name))
            notes.add_video(sample.key, facts.info)
    return rows, refused


def _refusal_reason(error: Exception) -> str:
    if isinstance(error, DecodeError):
        return error.reason
    return HANG if isinstance(error, ProcessHung) else CRASH if isinstance(error, ProcessDied) else ERROR


def _describe_shard(tar: Path, rows: Sequence[ShardRow]) -> ShardFile:
    splits = {row.description.split for row in rows}
    split = splits.pop() if len(splits) == 1 else "all"
    return ShardFile(tar.name, split, len(rows), tar.stat().st_size, file_sha256(tar))


def _earlier_manifest(root: Path, tars: Sequence[Path]) -> Manifest | None:
    """The existing dataset.json of the folder; None where it is absent, damaged or of other shards."""
    try:
        manifest = read_manifest(root)
    except ShardFormatError:
        return None
    same = {shard.name for shard in manifest.shards} == {tar.name for tar in tars}
    return manifest if same else None


def _merge_quarantine(
    earlier: Mapping[str, Refusal], tars: Sequence[Path], rows: Sequence[ShardRow], refused: Sequence[Refusal]
) -> dict[str, Refusal]:
    """Merges quarantine lists: the folder's, those beside the tars for videos of the new index, and the new refusals.

    A video that an earlier `index` refused, perhaps with another `label_from`, and this one accepts is removed.
    """
    keys = {row.key for row in rows}
    merged = dict(earlier)
    for folder in sorted({tar.parent for tar in tars}):
        merged |= {key: refusal for key, refusal in read_quarantine(folder).items() if key in keys}
    kept = {key: refusal for key, refusal in merged.items() if key not in keys or refusal.reason not in REASONS}
    return kept | {refusal.key: refusal for refusal in refused}


def _refuse_repeated_keys(rows: Sequence[ShardRow], refused: Sequence[Refusal], layout: TarLayout | None) -> None:
    """Refuses a key that is in two tars, used or refused: a line in quarantine.csv would also hide the other video."""
    restart = "where they begin again in each tar, index with --key-prefix shard; else " if layout else ""
    places: dict[str, str] = {}
    named = [(row.key, row.shard) for row in rows] + [(one.key, one.path.partition("/")[0]) for one in refused]
    for key, shard in named:
        other = places.setdefault(key, shard)
        if other != shard:
            raise ShardFormatError(
                f"key {key!r} is in {other} and in {shard}: keys must be unique in a dataset; {restart}rename the "
                "members, or leave one of the tars out"
            )


def _fold_names(rows: Sequence[ShardRow], folds: Sequence[str] | None, earlier: Sequence[str]) -> list[str]:
    counts = sorted({len(row.description.fold_splits) for row in rows})
    if len(counts) > 1:
        raise ShardFormatError(f"videos with {counts[0]} and with {counts[1]} folds: these tars are of two datasets")
    if folds is None and not counts[0]:  # a dataset that `pack` divided has folds in splits/packed.csv alone
        return []
    names = list(folds if folds is not None else earlier)
    if folds is None and len(names) != counts[0]:
        numbers = [str(number) for number in range(counts[0])]
        print_text(
            f"warning: tars do not say how their {counts[0]} folds are called, so they are {', '.join(numbers)} here; "
            "those of UCF101 and HMDB51 begin with 1: give --folds 1 2 3 to keep such names",
            sys.stderr,
        )
        return numbers
    if len(names) != counts[0] or len(set(names)) != len(names):
        raise ValueError(f"folds={names}: the tars have {counts[0]} folds; give as many different names")
    return names
