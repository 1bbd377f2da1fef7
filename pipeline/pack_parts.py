"""Packing in parts: one part makes one shard, on its own, and leaves a record by which a later run takes it for done.

`run_part` does one part of `pack_plan.plan_parts`, in any process of any machine that sees the folders; parts share
nothing. `pipeline.pack` maps it over processes, `jobs` over a cluster.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.annotations import VideoRecord
from datamodules.aside import write_aside
from datamodules.decoding import ABSENT, TOO_SHORT, DecodeError
from datamodules.encoding import EncodedVideo, inspect, transcode
from datamodules.manifest import MANIFEST_NAME, ShardFile
from datamodules.quarantine import CRASH, ERROR, HANG, Refusal, one_line
from datamodules.shards import ShardRow, VideoDescription, index_shard, open_shard_writer
from datamodules.tars import file_sha256
from pipeline.killable import KillableProcess, ProcessDied, ProcessHung, ProcessUnavailable
from pipeline.pack_plan import PackSettings, ShardPart, part_fingerprint, source_name

PARTS_FOLDER = ".parts"


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of a part.

    Attributes:
        split: As in the part.
        shard: The tar, or None where every video was refused.
        rows: The videos in it.
        refused: The others.
        source_bytes: Size of the original files of the videos kept.
        reused: The shard was there already, from an earlier run.
    """

    split: str
    shard: ShardFile | None
    rows: list[ShardRow]
    refused: list[Refusal]
    source_bytes: int
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Reported after each video (`videos` = 1), and after a part found done (all of its videos)."""

    videos: int
    refused: int
    source_bytes: int
    reused: bool = False


Report = Callable[[Outcome], None]


def run_part(
    part: ShardPart, settings: PackSettings, report: Report | None = None, process: KillableProcess | None = None
) -> PartResult:
    """Make one shard, or take the one that an earlier run made from the same videos in the same way.

    Args:
        part: The shard to make.
        settings: How.
        report: Called after every video; what it raises ends the part, and nothing of it is left.
        process: Decodes and encodes; by default one of its own.

    Raises:
        OSError: The shard cannot be written.
        ProcessUnavailable: The process that decodes cannot be started, or was stopped.
    """
    report = report or (lambda outcome: None)
    reused = _recover(part, settings)
    if reused is not None:
        report(Outcome(len(part.records), len(reused.refused), reused.source_bytes, reused=True))
        return reused
    # From here on the folder is no whole dataset, until `finish` says so again.
    (settings.root / MANIFEST_NAME).unlink(missing_ok=True)
    _record_path(part, settings).unlink(missing_ok=True)
    if process is not None:
        result = _pack(part, settings, report, process)
    else:
        with KillableProcess() as own:
            result = _pack(part, settings, report, own)
    _write_record(part, settings, result)
    return result


def _pack(part: ShardPart, settings: PackSettings, report: Report, process: KillableProcess) -> PartResult:
    path = settings.root / part.shard
    quarantined = {refusal.key: refusal for refusal in part.quarantined}
    refused: list[Refusal] = []
    source_bytes = kept = 0
    with open_shard_writer(path) as writer:
        for record in part.records:
            result = quarantined.get(record.key) or _encode(record, settings, process)
            if isinstance(result, Refusal):
                refused.append(result)
                report(Outcome(1, 1, 0))
                continue
            writer.write(record.key, result.data, _describe(record, part.split, result, settings))
            size = _file_size(record.path)
            kept, source_bytes = kept + 1, source_bytes + size
            report(Outcome(1, 0, size))
    if not kept:
        path.unlink()
        return PartResult(part.split, None, [], refused, 0)
    shard = ShardFile(part.shard, part.split, kept, path.stat().st_size, file_sha256(path))
    return PartResult(part.split, shard, index_shard(path), refused, source_bytes)


def _encode(record: VideoRecord, settings: PackSettings, process: KillableProcess) -> EncodedVideo | Refusal:
    source = source_name(record, settings)
    try:
        if settings.profile is None:
            video = process.call(inspect, record.path, timeout=settings.timeout)
        else:
            times = (record.time_start, record.time_end)
            video = process.call(transcode, record.path, settings.profile, *times, timeout=settings.timeout)
    except DecodeError as error:
        return Refusal(source, record.key, error.reason, one_line(str(error)))
    except ProcessHung as error:
        return Refusal(source, record.key, HANG, f"{error}; killed")
    except ProcessDied as error:
        return Refusal(source, record.key, CRASH, one_line(str(error)))
    except FileNotFoundError:
        return Refusal(source, record.key, ABSENT, "no such file")
    except (ProcessUnavailable, ImportError):
        raise
    except Exception as error:
        return Refusal(source, record.key, ERROR, one_line(f"{type(error).__name__}: {error}"))
    if video.info.num_frames < settings.min_frames:
        detail = f"{video.info.num_frames} frames, min_frames is {settings.min_frames}"
        return Refusal(source, record.key, TOO_SHORT, detail)
    return video


def _describe(record: VideoRecord, split: str, video: EncodedVideo, settings: PackSettings) -> VideoDescription:
    return VideoDescription(
        label=record.label,
        split=split,
        fold_splits=record.fold_splits,
        group=record.group,
        num_frames=video.info.num_frames,
        fps=video.info.fps,
        width=video.info.width,
        height=video.info.height,
        duration_s=video.info.duration_s,
        content_sha256=hashlib.sha256(video.data).hexdigest(),
        source=source_name(record, settings),
        frame_hashes=video.frame_hashes,
    )


def _file_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _record_path(part: ShardPart, settings: PackSettings) -> Path:
    return settings.root / PARTS_FOLDER / f"{part.shard}.json"


def _write_record(part: ShardPart, settings: PackSettings, result: PartResult) -> None:
    content = {
        "fingerprint": part_fingerprint(part, settings),
        "shard": None if result.shard is None else asdict(result.shard),
        "refused": [refusal._asdict() for refusal in result.refused],
        "source_bytes": result.source_bytes,
    }
    path = _record_path(part, settings)
    path.parent.mkdir(exist_ok=True)
    with write_aside(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _recover(part: ShardPart, settings: PackSettings) -> PartResult | None:
    """The result of an earlier run: only if its record, the tar's size and checksum and its rows all agree."""
    path = settings.root / part.shard
    try:
        content = json.loads(_record_path(part, settings).read_text(encoding="utf-8"))
        shard = None if content["shard"] is None else ShardFile(**content["shard"])
        refused = [Refusal(**refusal) for refusal in content["refused"]]
        if content["fingerprint"] != part_fingerprint(part, settings) or (refused and settings.retry_quarantined):
            return None
        if shard is not None and (path.stat().st_size != shard.bytes or file_sha256(path) != shard.sha256):
            return None
        rows = [] if shard is None else index_shard(path)
        if {row.key for row in rows} & {refusal.key for refusal in part.quarantined}:
            return None
        if {row.key for row in rows} | {refusal.key for refusal in refused} != {record.key for record in part.records}:
            return None  # two runs of this part overlapped, and each left something
        return PartResult(part.split, shard, rows, refused, int(content["source_bytes"]), reused=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None
