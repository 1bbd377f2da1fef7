"""`open_video_files`: a dataset index of plain video files, which are read where they are, without packing.

The rows are those of a dataset that `pack --format files --copy` would make of the files, in the order of their paths:
keys, groups, frames and digests are the same, the split is `all`, and there are no labels. A list of refused files
stands beside the output, in the form of a dataset's quarantine.csv.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from datamodules.annotations.records import ALL_VIDEOS, infer_group
from datamodules.annotations.refusals import BAD_NAME, CRASH, ERROR, HANG, Refusal
from datamodules.annotations.skipped_files import describe_skipped_files
from datamodules.annotations.video_files import is_text, make_keys, scan_folder
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex, Manifest
from datamodules.dataset.index_table import INDEX_SCHEMA, NO_LABEL, identity_of
from datamodules.dataset.manifest import SplitCounts
from datamodules.dataset.mapped_index import MappedIndex, table_without_hashes
from datamodules.dataset.quarantine import quarantined_rows, read_quarantine_file, write_quarantine_file
from datamodules.options import Options
from datamodules.storage.local_files import WholeFiles
from datamodules.storage.remote_options import RemoteOptions
from datamodules.video.image_folder import has_image_suffix
from datamodules.video.video_container import REASONS
from pipeline.cli.terminal import print_text
from pipeline.inference.file_inspection import InspectedFile, inspect_files
from pipeline.inference.inference_options import InferenceOptions
from pipeline.inference.split_runner import explain_unshared_files
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, data_settings

_FOUND_REASONS = frozenset({*REASONS, HANG, CRASH, ERROR, BAD_NAME})  # those that no person wrote


@dataclass(frozen=True, kw_only=True)
class VideoFileOptions(Options):
    """Video files.

    Attributes:
        videos: instead of a packed dataset: video files, or folders of them, which are read where they are. A file that
            cannot be read, or takes down the worker that reads it, is listed in OUT.quarantine.csv and left out.
    """

    videos: list[str] | None = None


@dataclass(frozen=True)
class VideoFileIndex:
    """An index of video files, and the list of those that are left out.

    Attributes:
        index: the index; files that are quarantined by hand are in it, and not read.
        refused: the files that are left out, by key.
        quarantine: path of the list.
    """

    index: DatasetIndex
    refused: dict[str, Refusal]
    quarantine: Path

    def data_module(self, trained: TrainedCheckpoint, options: InferenceOptions) -> ShardedVideoDataModule:
        """Creates the data module that reads all files with the clip settings of a checkpoint's training.

        Raises:
            ValueError: the checkpoint has no clip settings and they are not given.
        """
        settings = data_settings(trained, options)
        # Flow is computed as that of the training: by the same method, of frames of the same size.
        recorded = {"flow": trained.dataset.get("flow"), "short_side": trained.dataset.get("rendition")}
        if settings.get("stream", "rgb") != "rgb":
            self.index.manifest = replace(self.index.manifest, encode={"copy": True, **recorded})
        splits = {"test_split": ALL_VIDEOS, "predict_split": ALL_VIDEOS}
        return ShardedVideoDataModule.from_index(self.index, **settings, **splits, allow_missing=True)

    def write_quarantine(self, failures: Sequence[tuple[int, str, str]]) -> list[str]:
        """Writes the list, if there is anything to list or one is there already.

        Args:
            failures: row, reason and description of the videos that could not be decoded.

        Returns:
            The keys of the files that are left out, in order.
        """
        decoded = {}
        for row, reason, detail in failures:
            entry = self.index.entry(row)
            decoded[entry.key] = Refusal(entry.source, entry.key, reason, detail)
        refused = self.refused | decoded
        if refused or self.quarantine.exists():
            write_quarantine_file(self.quarantine, refused.values())
        return sorted(refused)


def quarantine_path(out: Path) -> Path:
    """Path of the list of the files that an export to `out` leaves out."""
    return out.with_name(f"{out.name}.quarantine.csv")


def open_video_files(videos: Sequence[str], out: Path, retry: bool = False) -> VideoFileIndex:
    """Finds and inspects video files, and makes an index of those that can be read.

    Args:
        videos: files, or folders of them; keys are made from the paths relative to the folder that has them all.
        out: the file of results, beside which the list of refused files is read and written.
        retry: whether to try files again that an earlier run refused; those that a person has listed stay left out.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: none of the files can be read.
    """
    root = common_folder(videos)
    with explain_unshared_files():
        paths = dict.fromkeys(os.path.relpath(os.path.abspath(path), root) for path in find_videos(videos))  # noqa: PTH100
    names = sorted(path.replace(os.sep, "/") for path in paths)
    keys = dict(zip(names, make_keys(names), strict=True))
    listed = read_quarantine_file(quarantine_path(out))
    if retry:
        listed = {key: refusal for key, refusal in listed.items() if refusal.reason not in _FOUND_REASONS}
    refused = dict(listed)
    for name in names:
        if not is_text(name):
            refused[keys[name]] = Refusal(
                name, keys[name], BAD_NAME, "the name is not UTF-8; rename the file or folder"
            )
    names = [name for name in names if is_text(name)]
    files = dict(zip(names, inspect_files(root, names, retry), strict=True))
    for name, file in files.items():
        if file.reason:
            refused[keys[name]] = Refusal(name, keys[name], file.reason, file.detail)
    readable = {name: file for name, file in files.items() if file.probed is not None}
    if not readable:
        first = next(iter(refused.values()))
        raise ValueError(f"videos={root}: none of {len(keys)} files can be read, first {first.path}: {first.detail}")
    index = _make_index(root, readable, keys, listed)
    index.quarantine_file = str(quarantine_path(out))
    return VideoFileIndex(index, refused, quarantine_path(out))


def _make_index(
    root: Path, files: dict[str, InspectedFile], keys: dict[str, str], listed: dict[str, Refusal]
) -> DatasetIndex:
    columns: dict[str, list[object]] = {name: [] for name in INDEX_SCHEMA.names}
    videos = []
    for name, file in files.items():
        assert file.probed is not None
        sha256, info = file.probed
        values = {
            "key": keys[name],
            "split": ALL_VIDEOS,
            "fold_splits": [],
            "group": infer_group(name, keys[name]),
            "label": NO_LABEL,
            "shard": name,
            "video_offset": 0,
            "video_size": file.size,
            "content_sha256": sha256,
            "source": name,
        }
        for column, cells in columns.items():
            cells.append(values.get(column, getattr(info, column, None)))
        videos.append((keys[name], ALL_VIDEOS, (), (), sha256))
    table = table_without_hashes(pa.table(columns, schema=INDEX_SCHEMA))
    manifest = Manifest(
        name=root.name or "videos",
        classes=[],
        folds=[],
        splits={ALL_VIDEOS: SplitCounts(len(videos), {})},
        shards=[],
        encode={"copy": True},
        versions={},
        identity=identity_of(videos),
    )
    mapped = MappedIndex(table, None)
    quarantined = quarantined_rows(mapped, listed) if listed else np.empty(0, dtype=np.int64)
    return DatasetIndex(root, manifest, mapped, WholeFiles(root), RemoteOptions(), quarantined)


def find_videos(videos: Sequence[str]) -> Iterator[Path]:
    """Yields the given files, and the videos of the given folders, without opening them: they may be broken links.

    A folder that cannot be read or has no video is yielded itself; files of a folder that are no videos are reported on
    standard error.

    Raises:
        FileNotFoundError: none of the files and folders exists, the only one is a folder without a video, or a folder
            has images alone.
    """
    if not any(map(os.path.exists, videos)):
        raise FileNotFoundError(f"videos={videos[0] if videos else ''}: there is no such file or folder")
    for path in map(Path, videos):
        if not os.path.isdir(path):  # noqa: PTH112 - False, not an error, without permission
            yield path
            continue
        files = scan_folder(path)
        left_out = describe_skipped_files(files)
        found = [path / name for name in (*files.videos, *files.unreadable_folders)]
        if not found and any(map(has_image_suffix, files.others)):
            raise FileNotFoundError(
                f"videos={path}: no video in this folder, but images; pack such folders first (`python -m pipeline "
                f"pack --format files --videos {path} --frames-per-second RATE --out SHARDS`), and give the dataset"
            )
        if not found and len(videos) == 1:
            raise FileNotFoundError(f"videos={path}: no video in this folder{f' ({left_out})' if left_out else ''}")
        if left_out:
            print_text(f"warning: {path}: {left_out}", sys.stderr)
        yield from found or [path]


def common_folder(videos: Sequence[str]) -> Path:
    """The deepest folder that has all the given files and folders in it, or is the only one of them."""
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in map(os.path.abspath, videos)]  # noqa: PTH112, PTH120
    return Path(os.path.commonpath(folders))
