"""Shards of other tools: finds the video, label, group and split of each sample.

The layout is webdataset's: members with the same key are one sample. video2dataset writes `{key}.mp4`, `{key}.json`
(metadata) and `{key}.txt` (the caption).
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.refusals import Refusal
from datamodules.annotations.tables import SPLIT_NAMES
from datamodules.dataset.sample_texts import (
    BAD_CAPTION,
    UnusableSampleError,
    as_name,
    find_captions,
    find_text,
    json_keys,
    shown,
)
from datamodules.dataset.shard_tar import ShardRow, VideoDescription
from datamodules.dataset.tar_members import TarSample, iterate_samples
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import is_utf8
from datamodules.video.probing import VideoInfo, probe

NO_VIDEO = "no video"  # a sample without a video among its members
TWO_VIDEOS = "two videos"  # a sample with several, such as left.mp4 and right.mp4
NO_LABEL = "no label"  # a sample whose label is not at the given place, or cannot be a name
NO_GROUP = "no group"  # a sample whose group is not at the given place, or cannot be a name
BAD_KEY = "bad key"  # a sample whose members' name is not text
APART = "members apart"  # a key that occurs again later in the tar: several samples, as webdataset reads it
TWICE = "member twice"  # a sample that webdataset refuses
SPARSE = "sparse"  # a video that is stored as a sparse file
REASONS = (NO_VIDEO, TWO_VIDEOS, NO_LABEL, NO_GROUP, BAD_KEY, BAD_CAPTION, APART, TWICE, SPARSE)
_SPLIT_IN_NAME = re.compile(r"(?:^|[^A-Za-z])(train|validation|validate|valid|val|test)(?=[^A-Za-z]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TarLayout:
    """The places of the metadata in tars of other tools.

    Attributes:
        label_from: `json:KEY` (dots for nested objects), `cls`, `txt`, or `folder`: the last folder of the key.
        group_from: `json:KEY` of a value shared by videos of one source; None: every video is its own group.
        split: The split of all videos; None: from the name of the shard (train, val, validation, test).
        key_prefix: `shard`: keys are `{name of the tar without .tar}/{key}`, for tars that each number from 0.
    """

    label_from: str
    group_from: str | None = None
    split: str | None = None
    key_prefix: str | None = None

    def __post_init__(self) -> None:
        if self.label_from not in ("cls", "txt", "folder") and not self.label_from.removeprefix("json:"):
            raise ValueError(f"label_from={self.label_from!r}: name the key, as in json:label")
        if self.label_from not in ("cls", "txt", "folder") and not self.label_from.startswith("json:"):
            raise ValueError(f"label_from={self.label_from!r}: must be json:KEY, cls, txt or folder")
        if self.key_prefix not in (None, "shard"):
            raise ValueError(f"key_prefix={self.key_prefix!r}: must be shard, or left out")
        if self.group_from is not None and not re.fullmatch(r"json:.+", self.group_from):
            raise ValueError(f"group_from={self.group_from!r}: must be json:KEY")


class Sample(NamedTuple):
    """A labelled video in a tar, before it was probed; captions as in `VideoDescription`."""

    key: str
    member: str
    offset: int
    size: int
    label: str
    group: str
    split: str
    captions: tuple[str, ...] = ()


class ReadTar(NamedTuple):
    """The result of `read_samples` for one tar.

    Attributes:
        samples: The labelled videos, in the order of the tar.
        refused: The samples left out, one refusal per key.
        passed_over: Names of the files that belong to no sample in webdataset's reading.
        raw_labels: The labels as written in the tar, with surrounding blanks, without a final line feed.
    """

    samples: list[Sample]
    refused: list[Refusal]
    passed_over: list[str]
    raw_labels: set[str]


class VideoFacts(NamedTuple):
    """The properties of a video, from its bytes."""

    content_sha256: str
    info: VideoInfo


def read_samples(path: Path, layout: TarLayout) -> ReadTar:
    """Reads the samples of a tar that webdataset would find, without reading the videos.

    Raises:
        ShardFormatError: It is not a complete tar.
        ValueError: Neither the layout nor the name of the tar gives the split.
    """
    split = layout.split or split_in_name(path)
    read = ReadTar([], [], [], set())
    found = list(iterate_samples(path, read.passed_over))
    counts = Counter(sample.key for sample in found)
    for key, count in counts.items():
        if count > 1:
            detail = f"its members are in {count} places of the tar, so they are {count} samples; put them together"
            read.refused.append(_refusal(path, layout, key, APART, detail))
    for sample in found:
        if counts[sample.key] > 1:
            continue
        try:
            labelled, raw = _as_sample(sample, layout, path, split)
        except UnusableSampleError as error:
            read.refused.append(_refusal(path, layout, sample.key, error.reason, str(error)))
        else:
            read.samples.append(labelled)
            read.raw_labels.add(raw.strip("\r\n"))
    return read


def key_in_dataset(layout: TarLayout, shard: str, key: str) -> str:
    """The key of a tar's sample in the dataset: the key in the tar, after the prefix if one is requested."""
    return key if layout.key_prefix is None else f"{prefix_of(shard)}{key}"


def prefix_of(shard: str) -> str:
    """The prefix of a tar's keys with `key_prefix: shard`.

    >>> prefix_of("kinetics_train_00001.tar")
    'kinetics_train_00001/'
    """
    return f"{shard.removesuffix('.tar')}/"


def _refusal(path: Path, layout: TarLayout, key: str, reason: str, detail: str) -> Refusal:
    return Refusal(f"{path.name}/{key}", key_in_dataset(layout, path.name, key), reason, detail)


def _as_sample(sample: TarSample, layout: TarLayout, path: Path, split: str) -> tuple[Sample, str]:
    """A sample with its label, group and captions, and the label as written in the tar."""
    if not is_utf8(sample.key):
        name = os.fsencode(sample.key)
        raise UnusableSampleError(BAD_KEY, f"the key {name!r} is not UTF-8; rename the members")
    if sample.twice:
        raise UnusableSampleError(TWICE, f"{sample.twice} is there twice, which webdataset refuses; keep one")
    raw = find_text(layout.label_from, sample, NO_LABEL)
    label = as_name(raw, layout.label_from, NO_LABEL)
    key = key_in_dataset(layout, path.name, sample.key)
    group = key
    if layout.group_from is not None:
        group = as_name(find_text(layout.group_from, sample, NO_GROUP), layout.group_from, NO_GROUP)
    if not sample.videos:
        raise UnusableSampleError(NO_VIDEO, f"only {shown(sample.extensions)}")
    if len(sample.videos) > 1:
        names = " and ".join(member.name for member in sample.videos)
        raise UnusableSampleError(TWO_VIDEOS, f"{names} have one key, which ends at the first dot; keep one")
    [video] = sample.videos
    if not is_utf8(video.name):
        raise UnusableSampleError(BAD_KEY, f"the name {os.fsencode(video.name)!r} is not UTF-8; rename the member")
    if video.sparse:
        raise UnusableSampleError(SPARSE, f"{video.name} is stored with holes; write the tar without --sparse")
    captions = find_captions(layout.label_from, sample)
    return Sample(key, video.name, video.offset, video.size, label, group, split, captions), raw


def split_in_name(path: Path) -> str:
    """The split in the name of a tar; raises ValueError if it names none or several."""
    found = {SPLIT_NAMES.get(name, name) for name in map(str.lower, _SPLIT_IN_NAME.findall(path.stem))}
    if len(found) != 1:
        said = " and ".join(sorted(found)) or "no split"
        raise ValueError(f"{path}: its name says {said}; give --split")
    return found.pop()


def first_sample(path: Path) -> str:
    """Describes the members of the first sample, for a message: `.json (keys caption, url), .mp4, .txt`."""
    sample = next(iterate_samples(path, []), None)
    if sample is None:
        return "nothing"
    keys = ", ".join(json_keys(sample))
    return ", ".join(
        f".{extension} (keys {keys})" if keys and extension == "json" else f".{extension}"
        for extension in sample.extensions
    )


def read_range(path: str, offset: int, size: int) -> bytes:
    """Bytes [offset, offset + size) of a file; raises ShardFormatError if the file is shorter."""
    with Path(path).open("rb") as file:
        data = os.pread(file.fileno(), size, offset)
        while len(data) < size and (more := os.pread(file.fileno(), size - len(data), offset + len(data))):
            data += more
    if len(data) < size:
        raise ShardFormatError(f"{path}: ends {size - len(data)} bytes early; copy it again")
    return data


def probe_range(path: str, offset: int, size: int, progress: Callable[[int], None] | None = None) -> VideoFacts:
    """Probes a video in a tar by its packets and its first frame; meant to run in a process that can be killed.

    Raises:
        DecodeError: The video cannot be opened, or has no video stream or no frame.
    """
    data = read_range(path, offset, size)
    return VideoFacts(hashlib.sha256(data).hexdigest(), probe(data, progress))


def as_row(sample: Sample, facts: VideoFacts, shard: str) -> ShardRow:
    """The row of the index for a sample whose video was probed."""
    info = facts.info
    description = VideoDescription(
        label=sample.label,
        split=sample.split,
        fold_splits=(),
        group=sample.group,
        num_frames=info.num_frames,
        fps=info.fps,
        width=info.width,
        height=info.height,
        duration_s=info.duration_s,
        content_sha256=facts.content_sha256,
        source=f"{shard}/{sample.member}",
        variable_rate=info.variable_rate,
        pixel_aspect=info.pixel_aspect,
        captions=sample.captions,
    )
    return ShardRow(sample.key, shard, sample.offset, sample.size, description)
