"""Shards: plain WebDataset tars, written by webdataset's own TarWriter, and indexed from the tar alone.

A video has two members, in this order: `{key}.json` (label, split, group, frames, ...) and `{key}.mp4`; where optical
flow was packed too, `{key}.flow.mp4` comes before both. Times, owners and modes of the members are fixed, so that the
same videos give the same bytes.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations.records import Task, Timeline, as_captions, distinct_labels
from datamodules.dataset.tar_members import FLOW_EXTENSION, iterate_members, split_member_name
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import to_json


class ForeignShardError(ShardFormatError):
    """A complete tar whose videos have no description by this pipeline: another tool wrote it."""


class VideoDescription(NamedTuple):
    """The contents of `{key}.json`, in this order.

    Attributes:
        label: Class name; "" for a video without a label, and for one with several.
        split: Split of the video; `all` in a dataset with folds.
        fold_splits: The video's split in each fold, or empty.
        group: The source video; all videos of a group are in one split.
        num_frames: Number of stored frames.
        fps: Frames per second as stored, the average if the rate is variable.
        width: Width in pixels as stored, after rotation.
        height: Height in pixels as stored, after rotation.
        duration_s: Duration as stored, in seconds.
        content_sha256: Digest of the stored video bytes.
        source: Path of the original, relative to the folder of the videos.
        variable_rate: Whether the stored frames are unevenly spaced; the video file has their times
            (`datamodules.video.decoding.read_frame_times`).
        pixel_aspect: Width of a stored pixel divided by its height; 1.0 is square.
        frame_hashes: Perceptual hashes of evenly spaced frames, 64 bits each, for the search for equal content
            (`datamodules.leakage.perceptual_hash`); () if not computed.
        captions: Sentences that describe the video, without leading, double or trailing blanks; in the json `caption`,
            one or a list, only if there are any.
        labels: Class names of a video in a dataset of several labels; in the json only if `task` is `multi_label`.
        task: What the labels of the dataset are, see `datamodules.annotations.records.Task`; in the json only if
            `multi_label`.
        source_start: Start of the segment in the original, in seconds; None for a whole video. In the json only for
            segments, as `source_end`.
        source_end: End of the segment in the original, in seconds; None for a whole video.
        flow_sha256: Digest of the stored bytes of the optical flow; "" without, and then not in the json.
        timeline: Label, start and end in seconds of each labelled part, in a dataset of labels by time; None in other
            datasets, and then not in the json.
    """

    label: str
    split: str
    fold_splits: tuple[str, ...]
    group: str
    num_frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    content_sha256: str
    source: str
    variable_rate: bool = False
    pixel_aspect: float = 1.0
    frame_hashes: tuple[int, ...] = ()
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    task: Task = "single_label"
    source_start: float | None = None
    source_end: float | None = None
    flow_sha256: str = ""
    timeline: Timeline | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the video: none, one or several."""
        if self.timeline is not None:
            return distinct_labels(self.timeline)
        return self.labels or ((self.label,) if self.label else ())


class ShardRow(NamedTuple):
    """A video in a shard: its key, its description, and the byte ranges of the video and its flow in the tar.

    `flow_size` is 0 where there is no optical flow.
    """

    key: str
    shard: str
    video_offset: int
    video_size: int
    description: VideoDescription
    flow_offset: int = 0
    flow_size: int = 0


class ShardWriter:
    """Writer of videos to a tar, from `open_shard_writer`."""

    def __init__(self, tar_writer: Any):
        self._tar_writer = tar_writer

    def write(self, key: str, video: bytes, description: VideoDescription, flow: bytes = b"") -> None:
        """Appends `{key}.json` and `{key}.mp4`, after `{key}.flow.mp4` if any (webdataset sorts by extension)."""
        fields = description._asdict()
        captions = fields.pop("captions")
        if captions:
            fields["caption"] = captions[0] if len(captions) == 1 else captions
        if description.task == "single_label":
            del fields["labels"], fields["task"]
        for name in ("source_start", "source_end", "timeline"):
            if fields[name] is None:
                del fields[name]
        if not fields["flow_sha256"]:
            del fields["flow_sha256"]
        text = to_json(fields, separators=(",", ":"))
        members = {FLOW_EXTENSION: flow} if flow else {}
        self._tar_writer.write({"__key__": key, "json": text.encode(), "mp4": video, **members})


@contextmanager
def open_shard_writer(path: Path) -> Iterator[ShardWriter]:
    """Context manager that writes a shard under a temporary name; synced and renamed at the end, removed on failure.

    Raises:
        OSError: The disk is full, or the folder is not writable; nothing is left behind.
    """
    from webdataset import TarWriter  # here, because it imports torch, which readers of shards do not need

    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        # PAX, by name: TarWriter does not accept tarfile.PAX_FORMAT, and USTAR limits names to 100 characters.
        tar_writer = TarWriter(
            stream, user="root", group="root", mode=0o644, mtime=0.0, compress=False, encoder=False, format="PAX_FORMAT"
        )
        try:
            yield ShardWriter(tar_writer)
        except BaseException:
            with suppress(OSError):  # closing writes the end, which fails again on a full disk
                tar_writer.close()
            raise
        tar_writer.close()


def index_shard(path: Path) -> list[ShardRow]:
    """Recovers the rows of a shard from the tar alone, without reading the videos.

    Args:
        path: A tar written by `open_shard_writer`.

    Returns:
        One row per video, in the order of the tar.

    Raises:
        ShardFormatError: The file is missing, not a complete tar (truncated, damaged), or has a key twice.
        ForeignShardError: A video has no description or vice versa, or a description lacks a field.
    """
    videos: dict[str, tuple[int, int]] = {}
    flows: dict[str, tuple[int, int]] = {}
    descriptions: dict[str, bytes] = {}
    members_found: dict[str, Mapping[str, Any]] = {"mp4": videos, "json": descriptions, FLOW_EXTENSION: flows}
    for member in iterate_members(path):
        key, extension = split_member_name(member.name) or ("", "")
        if key in members_found.get(extension, {}):
            raise ShardFormatError(f"{path}: {member.name} is there twice; pack the dataset again")
        if extension == "mp4":
            videos[key] = (member.offset, member.size)
        elif extension == FLOW_EXTENSION:
            flows[key] = (member.offset, member.size)
        elif extension == "json":
            descriptions[key] = member.read()
    described = {key: _parse_description(text, path, f"{key}.json") for key, text in descriptions.items()}
    unpaired = sorted(videos.keys() ^ described.keys())
    if unpaired:
        raise ForeignShardError(f"{path}: {unpaired[0]} lacks its .mp4 or its .json; pack the dataset again")
    without = sorted(key for key, video in described.items() if bool(video.flow_sha256) != (key in flows))
    if without:
        raise ShardFormatError(f"{path}: {without[0]} lacks its optical flow or its digest; pack the dataset again")
    return [
        ShardRow(key, path.name, *byte_range, described[key], *flows.get(key, (0, 0)))
        for key, byte_range in videos.items()
    ]


def _parse_description(text: bytes, path: Path, member: str) -> VideoDescription:
    try:
        content = json.loads(text)
        return VideoDescription(
            label=str(content["label"]),
            split=str(content["split"]),
            fold_splits=tuple(str(split) for split in content["fold_splits"]),
            group=str(content["group"]),
            num_frames=int(content["num_frames"]),
            fps=float(content["fps"]),
            width=int(content["width"]),
            height=int(content["height"]),
            duration_s=float(content["duration_s"]),
            content_sha256=str(content["content_sha256"]),
            source=str(content["source"]),
            variable_rate=bool(content["variable_rate"]),
            pixel_aspect=float(content["pixel_aspect"]),
            frame_hashes=tuple(int(value) for value in content["frame_hashes"]),
            captions=as_captions(content.get("caption")),
            labels=tuple(str(label) for label in content.get("labels", ())),
            task="multi_label" if content.get("task") == "multi_label" else "single_label",
            source_start=_seconds(content.get("source_start")),
            source_end=_seconds(content.get("source_end")),
            flow_sha256=str(content.get("flow_sha256", "")),
            timeline=_timeline(content.get("timeline")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ForeignShardError(
            f"{path}: {member} is not a description of a video by this pipeline ({type(error).__name__}: {error}); "
            "pack the dataset again"
        ) from None


def _timeline(value: Any) -> Timeline | None:
    if value is None:
        return None
    return tuple((str(label), float(start), float(end)) for label, start, end in value)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
