"""Shards that others wrote: which member is the video, and where the label, the group and the split stand.

The layout is webdataset's: members with the same key are one sample. video2dataset writes `{key}.mp4`, `{key}.json`
(what it knows of the video) and `{key}.txt` (the caption).
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotation_tables import SPLIT_NAMES
from datamodules.captions import as_captions
from datamodules.manifest import ShardFormatError
from datamodules.probing import VideoInfo, probe
from datamodules.quarantine import Refusal
from datamodules.tars import (
    ShardRow,
    TarMember,
    VideoDescription,
    is_video_of,
    iterate_members,
    split_member_name,
)

NO_VIDEO = "no video"  # a sample without a video among its members
NO_LABEL = "no label"  # a sample whose label is not where it was said to be
_SPLIT_IN_NAME = re.compile(r"(?:^|[^A-Za-z])(train|validation|validate|valid|val|test)(?=[^A-Za-z]|$)", re.IGNORECASE)
_TEXTS = ("json", "cls", "txt")


@dataclass(frozen=True, slots=True)
class TarLayout:
    """Where others' tars say what this pipeline has to know.

    Attributes:
        label_from: `json:KEY` (dots go into nested objects), `cls`, `txt`, or `folder`: the last folder of the key.
        group_from: `json:KEY` of what videos of one source have in common; None: every video is its own group.
        split: Of all videos; None: as the name of the shard says (train, val, validation, test).
    """

    label_from: str
    group_from: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if self.label_from not in ("cls", "txt", "folder") and not self.label_from.removeprefix("json:"):
            raise ValueError(f"label_from={self.label_from!r}: name the key, as in json:label")
        if self.label_from not in ("cls", "txt", "folder") and not self.label_from.startswith("json:"):
            raise ValueError(f"label_from={self.label_from!r}: must be json:KEY, cls, txt or folder")
        if self.group_from is not None and not re.fullmatch(r"json:.+", self.group_from):
            raise ValueError(f"group_from={self.group_from!r}: must be json:KEY")


class Sample(NamedTuple):
    """A labelled video in a tar, before it was looked into; captions as in `VideoDescription`."""

    key: str
    member: str
    offset: int
    size: int
    label: str
    group: str
    split: str
    captions: tuple[str, ...] = ()


class VideoFacts(NamedTuple):
    """What the bytes of a video say."""

    content_sha256: str
    info: VideoInfo


def read_samples(path: Path, layout: TarLayout) -> tuple[list[Sample], list[Refusal]]:
    """Walk through a tar; its videos stay unread.

    Returns:
        The videos in the order of the tar, and the samples left out: those without a video or without a label.

    Raises:
        ShardFormatError: It is not a whole tar, or a sample has two videos.
        ValueError: Neither the layout nor the name of the tar says the split.
    """
    split = layout.split or split_in_name(path)
    videos: dict[str, TarMember] = {}
    texts: dict[str, dict[str, bytes]] = {}
    for member in iterate_members(path):
        key, extension = split_member_name(member.name) or ("", "")
        if not key or key.startswith("__"):  # webdataset's notes about the tar itself
            continue
        content = texts.setdefault(key, {})
        if is_video_of(key, member.name):
            if key in videos:
                raise ShardFormatError(
                    f"{path}: sample {key} has two videos, {videos[key].name} and {member.name}; keep one"
                )
            videos[key] = member
        elif extension in _TEXTS:
            content[extension] = member.read()
    samples, refused = [], []
    for key, content in texts.items():
        try:
            label = _find(layout.label_from, key, content)
            group = key if layout.group_from is None else _find(layout.group_from, key, content)
        except ValueError as error:
            refused.append(Refusal(f"{path.name}/{key}", key, NO_LABEL, str(error)))
            continue
        if key not in videos:
            refused.append(
                Refusal(f"{path.name}/{key}", key, NO_VIDEO, f"only {', '.join(content) or 'other'} members")
            )
            continue
        member = videos[key]
        captions = _captions(layout, content)
        samples.append(Sample(key, member.name, member.offset, member.size, label, group, split, captions))
    return samples, refused


def split_in_name(path: Path) -> str:
    """The split that the name of a tar says; raises ValueError where it says none or several."""
    found = {SPLIT_NAMES.get(name, name) for name in map(str.lower, _SPLIT_IN_NAME.findall(path.stem))}
    if len(found) != 1:
        said = " and ".join(sorted(found)) or "no split"
        raise ValueError(f"{path}: its name says {said}; give --split")
    return found.pop()


def first_sample(path: Path) -> str:
    """What the first sample of a tar has, for a message: `.json (keys caption, url), .mp4, .txt`."""
    first, words = "", []
    for member in iterate_members(path):
        key, extension = split_member_name(member.name) or ("", "")
        first = first or key
        if not key or key != first:
            break
        words.append(f".{extension}")
        if extension == "json":
            words[-1] += f" (keys {', '.join(_parse(member.read()))})"
    return ", ".join(words) or "nothing"


def read_range(path: str, offset: int, size: int) -> bytes:
    """Bytes [offset, offset + size) of a file; raises ShardFormatError where it ends before."""
    with Path(path).open("rb") as file:
        data = os.pread(file.fileno(), size, offset)
        while len(data) < size and (more := os.pread(file.fileno(), size - len(data), offset + len(data))):
            data += more
    if len(data) < size:
        raise ShardFormatError(f"{path}: ends {size - len(data)} bytes early; copy it again")
    return data


def probe_range(path: str, offset: int, size: int) -> VideoFacts:
    """What a video in a tar is, by its packets and its first frame; for a process that can be killed.

    Raises:
        DecodeError: It cannot be opened, has no video stream or no frame.
    """
    data = read_range(path, offset, size)
    return VideoFacts(hashlib.sha256(data).hexdigest(), probe(data))


def as_row(sample: Sample, facts: VideoFacts, shard: str) -> ShardRow:
    """The row of the index for a sample whose video was looked into."""
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


def _captions(layout: TarLayout, content: Mapping[str, bytes]) -> tuple[str, ...]:
    """What video2dataset says of a video: `caption` in its json, else its txt; () where that is the label."""
    if layout.label_from != "json:caption" and (found := as_captions(_parse(content.get("json", b"")).get("caption"))):
        return found
    if layout.label_from in ("txt", "json:caption"):
        return ()
    return as_captions(content.get("txt", b"").decode(errors="replace"))


def _find(place: str, key: str, content: Mapping[str, bytes]) -> str:
    """The text at a place of a sample; ValueError says what is there instead."""
    if place == "folder":
        folders = key.split("/")[:-1]
        if not folders:
            raise ValueError(f"{key} is in no folder of the tar")
        return folders[-1]
    kind, _, name = place.partition(":")
    if kind not in content:
        raise ValueError(f"there is no .{kind} member")
    if kind != "json":
        value: Any = content[kind].decode(errors="replace").strip()
    else:
        value = _parse(content["json"])
        for step in name.split("."):
            if not isinstance(value, dict) or step not in value:
                keys = ", ".join(value) if isinstance(value, dict) else repr(value)
                raise ValueError(f"its json has no {name!r}, only {keys}")
            value = value[step]
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise ValueError(f"{place} is {value!r}, not a name or a number")
    return str(value).strip()


def _parse(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
