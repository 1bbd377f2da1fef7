"""The plan of packing, made before any video is opened: the videos of each shard, settings, and part fingerprints."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av

from datamodules.annotations.records import Task, VideoRecord
from datamodules.annotations.refusals import Refusal
from datamodules.dataset.manifest import Rendition
from datamodules.encoding.transcoding import EncodeProfile
from datamodules.leakage.perceptual_hash import HASH_VERSION
from datamodules.optical_flow.flow_estimation import FlowMethod, flow_library

FOLDED_SPLIT = "all"


@dataclass(frozen=True, slots=True)
class PackSettings:
    """Settings that all parts of a run share; plain data.

    Attributes:
        root: The folder of the dataset to make.
        videos: The folder of the videos, which the column `source` of the index is relative to.
        profile: The encoding profile of the dataset; None stores the original bytes, after decoding all frames.
        min_frames: A video that would be stored with fewer frames is refused.
        timeout: Seconds without progress after which a video is refused as hanging.
        retry_quarantined: Run parts with refused videos again.
        smaller: The encoding profiles of the smaller renditions, from larger to smaller.
        task: What the labels of the dataset are.
        flow: How the optical flow of the videos is estimated, which is stored beside them; None: no flow.
        background: Class of the time without a label, in a dataset of labels by time; None leaves it without.
    """

    root: Path
    videos: Path
    profile: EncodeProfile | None
    min_frames: int = 1
    timeout: float = 300.0
    retry_quarantined: bool = False
    smaller: tuple[EncodeProfile, ...] = ()
    task: Task = "single_label"
    flow: FlowMethod | None = None
    background: str | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that determine the bytes of a shard."""
        return encoder_versions(self.flow)

    @property
    def encode(self) -> dict[str, Any]:
        """The encoding of the videos in `root`, for dataset.json."""
        return self._describe(self.profile)

    @property
    def smaller_encodes(self) -> list[dict[str, Any]]:
        """The encoding of each smaller rendition, for its dataset.json."""
        return [self._describe(profile) for profile in self.smaller]

    @property
    def renditions(self) -> list[Rendition]:
        """All renditions with their folders, as dataset.json lists them; empty where there is only one."""
        if self.profile is None or not self.smaller:
            return []
        sides = [profile.short_side for profile in self.smaller]
        return [Rendition(self.profile.short_side, "."), *(Rendition(side, f"short{side}") for side in sides)]

    @property
    def folders(self) -> list[Path]:
        """The folder of each rendition; the first is `root`."""
        return [self.root, *(self.root / rendition.folder for rendition in self.renditions[1:])]

    def _describe(self, profile: EncodeProfile | None) -> dict[str, Any]:
        stored = {"copy": True} if profile is None else {"copy": False, **profile.as_dict()}
        flow = {} if self.flow is None else {"flow": self.flow}
        return stored | {"min_frames": self.min_frames} | flow


@dataclass(frozen=True, slots=True)
class ShardPart:
    """One shard to make.

    Attributes:
        shard: The file name of the shard.
        split: The split of all its videos; `all` in a dataset with folds.
        records: The videos, in the order of the shard.
        quarantined: The refusals of its videos that are in the quarantine list, by an earlier run or by hand.
    """

    shard: str
    split: str
    records: tuple[VideoRecord, ...]
    quarantined: tuple[Refusal, ...] = ()


def encoder_versions(flow: FlowMethod | None = None) -> dict[str, str]:
    """Versions of the libraries that determine the bytes of a shard, with the one that estimates the flow.

    Raises:
        FlowUnavailableError: the library of the flow does not import, or lacks the method.
    """
    codec = ".".join(str(number) for number in av.library_versions["libavcodec"])
    versions = {"av": version("av"), "libavcodec": codec, "webdataset": version("webdataset")}
    return versions if flow is None else versions | flow_library(flow)


def order_records(records: Sequence[VideoRecord], seed: int = 0) -> dict[str, list[VideoRecord]]:
    """The videos of each split, sorted by split name, in the order in which they fill the shards.

    A split's videos are sorted by sha256(seed, key), which scatters classes and groups and does not depend on the order
    of the lists. Videos with `fold_splits` are all in the split `all`.
    """
    by_split: defaultdict[str, list[VideoRecord]] = defaultdict(list)
    for record in records:
        by_split[FOLDED_SPLIT if record.fold_splits else record.split].append(record)
    for members in by_split.values():
        members.sort(key=lambda record: hashlib.sha256(f"{seed}/{record.key}".encode()).digest())
    return dict(sorted(by_split.items()))


def plan_parts(
    split_records: Mapping[str, Sequence[VideoRecord]],
    name: str,
    shard_sizes: Mapping[str, Sequence[int]],
    quarantined: Mapping[str, Refusal] | None = None,
) -> list[ShardPart]:
    """Assigns videos to shards, before any video is opened.

    Args:
        split_records: The videos of each split, from `order_records`.
        name: The name of the dataset; shards are called {name}-{split}-{i:06d}.tar.
        shard_sizes: The number of videos in each shard of each split (`pipeline.packing.shard_bounds`).
        quarantined: The quarantine list, by video key; default: empty.

    Returns:
        The parts, sorted by split and number.
    """
    refusals = quarantined or {}
    parts = []
    for split, records in split_records.items():
        start = 0
        for i, count in enumerate(shard_sizes[split]):
            part_records = tuple(records[start : start + count])
            refused = tuple(refusals[record.key] for record in part_records if record.key in refusals)
            parts.append(ShardPart(f"{name}-{split}-{i:06d}.tar", split, part_records, refused))
            start += count
    return parts


def part_fingerprint(part: ShardPart, settings: PackSettings) -> str:
    """Digest of everything that determines a shard: its records, the encoding settings and the library versions."""
    records = described_records(part.records, settings)
    content = [part.shard, part.split, records, settings.encode, settings.versions, HASH_VERSION]
    return plain_digest([*content, *settings.smaller_encodes, settings.background])


def described_records(records: Sequence[VideoRecord], settings: PackSettings) -> list[dict[str, Any]]:
    """The records as plain values, with paths relative to the folder of the videos."""
    return [asdict(record) | {"path": source_name(record, settings)} for record in records]


def plain_digest(content: Any) -> str:
    """The first half of the sha256 of plain values as JSON: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def source_name(record: VideoRecord, settings: PackSettings) -> str:
    """Path of a video with forward slashes: relative to the folder of the videos where it is in it, else unchanged."""
    path = Path(record.path)
    return (path.relative_to(settings.videos) if path.is_relative_to(settings.videos) else path).as_posix()
