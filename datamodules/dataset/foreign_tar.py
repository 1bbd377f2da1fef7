"""Shards of other tools: finds the video, label, group and split of each sample.

The layout is webdataset's: members with the same key are one sample. video2dataset writes `{key}.mp4`, `{key}.json`
(metadata) and `{key}.txt` (the caption).
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.records import ALL_VIDEOS, SPLIT_NAMES
from datamodules.annotations.refusals import Refusal
from datamodules.dataset.sample_texts import (
    BAD_CAPTION,
    UnusableSampleError,
    as_name,
    find_captions,
    find_text,
    find_texts,
    json_keys,
    list_extensions,
)
from datamodules.dataset.shard_tar import ShardRow, VideoDescription
from datamodules.dataset.tar_members import TarSample, iterate_samples
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import is_utf8
from datamodules.video.probing import ProbedVideo, probe

NO_VIDEO = "no video"  # a sample without a video among its members
TWO_VIDEOS = "two videos"  # a sample with several, such as left.mp4 and right.mp4
NO_LABEL = "no label"  # a sample whose label is not at the given place, or cannot be a name
NO_GROUP = "no group"  # a sample whose group is not at the given place, or cannot be a name
BAD_KEY = "bad key"  # a sample whose members' name is not text
MEMBERS_APART = "members apart"  # a key that occurs again later in the tar: several samples, as webdataset reads it
MEMBER_TWICE = "member twice"  # a sample that webdataset refuses
SPARSE_FILE = "sparse"  # a video that is stored as a sparse file
REASONS = (NO_VIDEO, TWO_VIDEOS, NO_LABEL, NO_GROUP, BAD_KEY, BAD_CAPTION, MEMBERS_APART, MEMBER_TWICE, SPARSE_FILE)
WITHOUT_LABELS = "none"
_PLACES = ("cls", "txt", "folder", WITHOUT_LABELS)
_SPLIT_IN_NAME = re.compile(r"(?:^|[^A-Za-z])(train|validation|validate|valid|val|test)(?=[^A-Za-z]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TarLayout:
    """The places of the metadata in tars of other tools.

    Attributes:
        label_from: `json:KEY` (dots for nested objects), `cls`, `txt`, `folder`: the last folder of the key; or `none`:
            the videos have no labels. A list, in json, cls or txt in JSON's form, gives a video several labels.
        group_from: `json:KEY` of a value shared by videos of one source; None: every video is its own group.
        split: The split of all videos; None: from the name of the shard (train, val, validation, test), and of videos
            without labels `all` if it names none.
        key_prefix: `shard`: keys are `{name of the tar without .tar}/{key}`, for tars that each number from 0.
    """

    label_from: str
    group_from: str | None = None
    split: str | None = None
    key_prefix: str | None = None

    def __post_init__(self) -> None:
        if self.label_from not in _PLACES and not self.label_from.removeprefix("json:"):
            raise ValueError(f"label_from={self.label_from!r}: name the key, as in json:label")
        if self.label_from not in _PLACES and not self.label_from.startswith("json:"):
            raise ValueError(f"label_from={self.label_from!r}: must be json:KEY, cls, txt, folder or none")
        if self.key_prefix not in (None, "shard"):
            raise ValueError(f"key_prefix={self.key_prefix!r}: must be shard, or left out")
        if self.group_from is not None and not re.fullmatch(r"json:.+", self.group_from):
            raise ValueError(f"group_from={self.group_from!r}: must be json:KEY")


class ForeignSample(NamedTuple):
    """A video in a tar, before it was probed; captions as in `VideoDescription`.

    `label` is "" for none; `labels` are the names of a list, without repetitions, None for a video with one label.
    """

    key: str
    member: str
    offset: int
    size: int
    label: str
    group: str
    split: str
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None


class ForeignTar(NamedTuple):
    """The result of `read_foreign_tar` for one tar.

    Attributes:
        samples: The labelled videos, in the order of the tar.
        refused: The samples left out, one refusal per key.
        ignored_files: Names of the files that belong to no sample in webdataset's reading.
        raw_labels: The labels as written in the tar, with surrounding blanks, without a final line feed.
    """

    samples: list[ForeignSample]
    refused: list[Refusal]
    ignored_files: list[str]
    raw_labels: set[str]


def read_foreign_tar(path: Path, layout: TarLayout) -> ForeignTar:
    """Reads the samples of a tar that webdataset would find, without reading the videos.

    Raises:
        ShardFormatError: It is not a complete tar.
        ValueError: Neither the layout nor the name of the tar gives the split.
    """
    split = layout.split or _split_of_tar(path, layout)
    tar = ForeignTar([], [], [], set())
    samples = list(iterate_samples(path, tar.ignored_files))
    counts = Counter(sample.key for sample in samples)
    for key, count in counts.items():
        if count > 1:
            detail = f"its members are in {count} places of the tar, so they are {count} samples; put them together"
            tar.refused.append(_refusal(path, layout, key, MEMBERS_APART, detail))
    for sample in samples:
        if counts[sample.key] > 1:
            continue
        try:
            labelled, raw_labels = _label_sample(sample, layout, path, split)
        except UnusableSampleError as error:
            tar.refused.append(_refusal(path, layout, sample.key, error.reason, str(error)))
        else:
            tar.samples.append(labelled)
            tar.raw_labels.update(raw.strip("\r\n") for raw in raw_labels)
    return tar


def key_in_dataset(layout: TarLayout, shard: str, key: str) -> str:
    """The key of a tar's sample in the dataset: the key in the tar, after the prefix if one is requested."""
    return key if layout.key_prefix is None else f"{key_prefix_of_shard(shard)}{key}"


def key_prefix_of_shard(shard: str) -> str:
    """The prefix of a tar's keys with `key_prefix: shard`.

    >>> key_prefix_of_shard("kinetics_train_00001.tar")
    'kinetics_train_00001/'
    """
    return f"{shard.removesuffix('.tar')}/"


def _refusal(path: Path, layout: TarLayout, key: str, reason: str, detail: str) -> Refusal:
    return Refusal(f"{path.name}/{key}", key_in_dataset(layout, path.name, key), reason, detail)


def _label_sample(sample: TarSample, layout: TarLayout, path: Path, split: str) -> tuple[ForeignSample, list[str]]:
    """A sample with its labels, group and captions, and the labels as written in the tar."""
    if not is_utf8(sample.key):
        name = os.fsencode(sample.key)
        raise UnusableSampleError(BAD_KEY, f"the key {name!r} is not UTF-8; rename the members")
    if sample.repeated_member:
        raise UnusableSampleError(
            MEMBER_TWICE, f"{sample.repeated_member} is there twice, which webdataset refuses; keep one"
        )
    raw, label, labels = _find_labels(layout.label_from, sample)
    key = key_in_dataset(layout, path.name, sample.key)
    group = key
    if layout.group_from is not None:
        group = as_name(find_text(layout.group_from, sample, NO_GROUP), layout.group_from, NO_GROUP)
    if not sample.videos:
        raise UnusableSampleError(NO_VIDEO, f"only {list_extensions(sample.extensions)}")
    if len(sample.videos) > 1:
        names = " and ".join(member.name for member in sample.videos)
        raise UnusableSampleError(TWO_VIDEOS, f"{names} have one key, which ends at the first dot; keep one")
    [video] = sample.videos
    if not is_utf8(video.name):
        raise UnusableSampleError(BAD_KEY, f"the name {os.fsencode(video.name)!r} is not UTF-8; rename the member")
    if video.sparse:
        raise UnusableSampleError(SPARSE_FILE, f"{video.name} is stored with holes; write the tar without --sparse")
    captions = find_captions(layout.label_from, sample)
    return ForeignSample(key, video.name, video.offset, video.size, label, group, split, captions, labels), raw


def _find_labels(label_from: str, sample: TarSample) -> tuple[list[str], str, tuple[str, ...] | None]:
    """The labels as written in the tar; then the one label, "" for none; and the names of a list, else None."""
    if label_from == WITHOUT_LABELS:
        return [], "", None
    listed = find_texts(label_from, sample, NO_LABEL)
    raw = [find_text(label_from, sample, NO_LABEL)] if listed is None else listed
    names = [as_name(text, label_from, NO_LABEL) for text in raw]
    return (raw, names[0], None) if listed is None else (raw, "", tuple(dict.fromkeys(names)))


def _split_of_tar(path: Path, layout: TarLayout) -> str:
    return split_from_name(path) if layout.label_from != WITHOUT_LABELS or _splits_in_name(path) else ALL_VIDEOS


def _splits_in_name(path: Path) -> set[str]:
    return {SPLIT_NAMES.get(name, name) for name in map(str.lower, _SPLIT_IN_NAME.findall(path.stem))}


def split_from_name(path: Path) -> str:
    """The split in the name of a tar; raises ValueError if it names none or several."""
    found = _splits_in_name(path)
    if len(found) != 1:
        names = " and ".join(sorted(found)) or "no split"
        raise ValueError(f"{path}: its name says {names}; give --split")
    return found.pop()


def describe_first_sample(path: Path) -> str:
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
        while len(data) < size and (chunk := os.pread(file.fileno(), size - len(data), offset + len(data))):
            data += chunk
    if len(data) < size:
        raise ShardFormatError(f"{path}: ends {size - len(data)} bytes early; copy it again")
    return data


def probe_range(path: str, offset: int, size: int, progress: Callable[[int], None] | None = None) -> ProbedVideo:
    """Probes a video in a tar by its packets and its first frame; meant to run in a process that can be killed.

    Raises:
        DecodeError: The video cannot be opened, or has no video stream or no frame.
    """
    data = read_range(path, offset, size)
    return ProbedVideo(hashlib.sha256(data).hexdigest(), probe(data, progress))


def make_shard_row(sample: ForeignSample, probed: ProbedVideo, shard: str) -> ShardRow:
    """The row of the index for a sample whose video was probed."""
    info = probed.info
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
        content_sha256=probed.content_sha256,
        source=f"{shard}/{sample.member}",
        variable_rate=info.variable_rate,
        pixel_aspect=info.pixel_aspect,
        captions=sample.captions,
        labels=sample.labels or (),
        task="single_label" if sample.labels is None else "multi_label",
    )
    return ShardRow(sample.key, shard, sample.offset, sample.size, description)


def share_task(rows: Sequence[ShardRow]) -> list[ShardRow]:
    """The rows of a dataset, all with lists of labels where any has one: a label alone is then a list of one."""
    if all(row.description.task == "single_label" for row in rows):
        return list(rows)
    several = [
        row.description._replace(label="", labels=row.description.class_names, task="multi_label") for row in rows
    ]
    return [row._replace(description=description) for row, description in zip(rows, several, strict=True)]
