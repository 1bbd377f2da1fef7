"""What packing will do, before any video is opened: who goes into which shard, how, and a fingerprint of each part."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av

from datamodules.annotations import VideoRecord
from datamodules.encoding import EncodeProfile
from datamodules.frame_hashes import HASH_VERSION
from datamodules.quarantine import Refusal

FOLDED_SPLIT = "all"


@dataclass(frozen=True, slots=True)
class PackSettings:
    """What every part has to know; plain data.

    Attributes:
        root: The folder of the dataset to make.
        videos: The folder of the videos, which `source` is relative to.
        profile: How to encode; None stores the original bytes, once all frames were decoded.
        min_frames: A video that would be stored with fewer frames is refused.
        timeout: Seconds that one video may take.
        retry_quarantined: Do parts with refused videos again.
    """

    root: Path
    videos: Path
    profile: EncodeProfile | None
    min_frames: int = 1
    timeout: float = 300.0
    retry_quarantined: bool = False

    @property
    def encode(self) -> dict[str, Any]:
        """How the videos are stored, for dataset.json."""
        stored = {"copy": True} if self.profile is None else {"copy": False, **self.profile.as_dict()}
        return stored | {"min_frames": self.min_frames}


@dataclass(frozen=True, slots=True)
class ShardPart:
    """One shard to make.

    Attributes:
        shard: File name.
        split: Of all its videos; `all` in a dataset with folds.
        records: The videos in the order of the shard.
        quarantined: Those of them that an earlier run refused, or a person.
    """

    shard: str
    split: str
    records: tuple[VideoRecord, ...]
    quarantined: tuple[Refusal, ...] = ()


def library_versions() -> dict[str, str]:
    """Versions of what determines the bytes of a shard."""
    codec = ".".join(str(number) for number in av.library_versions["libavcodec"])
    return {"av": version("av"), "libavcodec": codec, "webdataset": version("webdataset")}


def plan_parts(
    records: Sequence[VideoRecord],
    name: str,
    videos_per_shard: int,
    seed: int = 0,
    quarantined: Mapping[str, Refusal] | None = None,
) -> list[ShardPart]:
    """Decide which video goes into which shard, before any of them is opened.

    A split's videos are put in the order of sha256(seed, key), which scatters classes and groups and does not depend on
    the order of the lists, and cut into shards of sizes that differ by at most one.

    Args:
        records: The videos; with `fold_splits` all of them go to the split `all`.
        name: Of the dataset; shards are called {name}-{split}-{i:06d}.tar.
        videos_per_shard: At most so many in a shard, at least 1.
        seed: Of the order.
        quarantined: Refused before, by key.

    Returns:
        The parts, by split and number.
    """
    if videos_per_shard < 1:
        raise ValueError(f"videos_per_shard={videos_per_shard}: must be at least 1")
    known = quarantined or {}
    by_split: defaultdict[str, list[VideoRecord]] = defaultdict(list)
    for record in records:
        by_split[FOLDED_SPLIT if record.fold_splits else record.split].append(record)
    parts = []
    for split, members in sorted(by_split.items()):
        members.sort(key=lambda record: hashlib.sha256(f"{seed}/{record.key}".encode()).digest())
        count = -(-len(members) // videos_per_shard)
        for i in range(count):
            mine = tuple(members[len(members) * i // count : len(members) * (i + 1) // count])
            refused = tuple(known[record.key] for record in mine if record.key in known)
            parts.append(ShardPart(f"{name}-{split}-{i:06d}.tar", split, mine, refused))
    return parts


def part_fingerprint(part: ShardPart, settings: PackSettings) -> str:
    """Of all that determines a shard: its videos as listed, how they are encoded, by which versions."""
    records = described_records(part.records, settings)
    return fingerprint([part.shard, part.split, records, settings.encode, library_versions(), HASH_VERSION])


def described_records(records: Sequence[VideoRecord], settings: PackSettings) -> list[dict[str, Any]]:
    """The records as plain values, with paths that do not depend on where the videos lie."""
    return [asdict(record) | {"path": source_name(record, settings)} for record in records]


def fingerprint(content: Any) -> str:
    """The first half of the sha256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def source_name(record: VideoRecord, settings: PackSettings) -> str:
    """Path of a video relative to the folder of the videos, with forward slashes; as it is where it lies elsewhere."""
    path = Path(record.path)
    return (path.relative_to(settings.videos) if path.is_relative_to(settings.videos) else path).as_posix()
