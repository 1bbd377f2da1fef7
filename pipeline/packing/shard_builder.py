"""Packing in parts: each part makes one shard and writes a record, by which a later run recognizes it as finished.

With several renditions, a part makes the shard of each: a video is in all of them or in none.

`run_part` runs one part of `shard_plan.plan_parts`, in any process of any machine that can access the folders; parts
share nothing. `pipeline.packing.pack` maps it over processes, `jobs` over a cluster.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.annotations.records import Timeline, VideoRecord
from datamodules.annotations.refusals import CRASH, ERROR, HANG, Refusal
from datamodules.annotations.segments import Segment
from datamodules.annotations.video_files import check_video_file
from datamodules.dataset.dataset_index import ShardRow, VideoDescription, index_shard, open_shard_writer
from datamodules.dataset.manifest import MANIFEST_NAME, ShardFile
from datamodules.dataset.quarantine import one_line
from datamodules.encoding.flow_rendition import encode_with_flow
from datamodules.encoding.image_folders import transcode_images
from datamodules.encoding.segments import transcode_segment
from datamodules.encoding.transcoding import EncodedVideo, inspect, transcode_renditions
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.local_files import file_sha256
from datamodules.video.decoding import ABSENT, TOO_SHORT, UNREADABLE, DecodeError
from datamodules.video.image_folder import is_image_folder
from pipeline.packing.shard_plan import PackSettings, ShardPart, part_fingerprint, source_name
from pipeline.packing.size_estimates import file_size
from pipeline.packing.source_notes import Notes, add_notes, notes_as_json, notes_from_json, video_notes
from pipeline.packing.stored_timeline import stored_timeline
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung, ProcessUnavailable

PARTS_FOLDER = ".parts"
SEEK_TABLES_FOLDER = f"{PARTS_FOLDER}/seek_tables"  # of the files that segments are cut from, for all processes


@dataclass(frozen=True, slots=True)
class RenditionShard:
    """A part's shard in a smaller rendition: the tar, and the rows of the videos in it."""

    shard: ShardFile
    rows: list[ShardRow]


@dataclass(frozen=True, slots=True)
class PartResult:
    """Result of a part.

    Attributes:
        split: The split of the part's videos.
        shard: The tar, or None where every video was refused.
        rows: The index rows of the videos in the tar.
        refused: The part's refused videos, with the reasons.
        source_bytes: Total size of the original files of the stored videos.
        reused: Whether the shard is from an earlier run.
        smaller: The shards of smaller renditions, from larger to smaller; () where every video was refused.
        notes: Peculiarities of the sources of the stored videos, counted.
    """

    split: str
    shard: ShardFile | None
    rows: list[ShardRow]
    refused: list[Refusal]
    source_bytes: int
    reused: bool = False
    smaller: tuple[RenditionShard, ...] = ()
    notes: Notes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PackProgress:
    """Progress report after each video (`videos` = 1), or after a part that is reused (`videos` = all its videos).

    `stored_bytes` are the bytes written for the video, a number for each rendition.
    """

    videos: int
    refused: int
    source_bytes: int
    reused: bool = False
    stored_bytes: tuple[int, ...] = ()


ProgressCallback = Callable[[PackProgress], None]


def run_part(
    part: ShardPart,
    settings: PackSettings,
    report: ProgressCallback | None = None,
    process: KillableProcess | None = None,
) -> PartResult:
    """Make one shard, or reuse the one that an earlier run made from the same videos with the same settings.

    Args:
        part: The shard to make.
        settings: The settings that all parts share.
        report: Called after every video; an exception that it raises ends the part, and its unfinished shard is
            removed.
        process: The process that decodes and encodes; default: a new one, which ends with the part.

    Raises:
        OSError: The shard cannot be written.
        ProcessUnavailable: The decoding process cannot be started, or was stopped.
    """
    report = report or (lambda progress: None)
    reused = _reuse_shards(part, settings)
    if reused is not None:
        report(PackProgress(len(part.records), len(reused.refused), reused.source_bytes, reused=True))
        return reused
    # From here on the folder is no complete dataset, until `finish` writes the manifest again.
    remove_manifests(settings)
    _record_path(part, settings).unlink(missing_ok=True)
    if process is not None:
        result = _make_shards(part, settings, report, process)
    else:
        with KillableProcess() as own:
            result = _make_shards(part, settings, report, own)
    _write_record(part, settings, result)
    return result


def remove_manifests(settings: PackSettings) -> None:
    """Remove dataset.json of all renditions: without it a folder is no dataset."""
    for folder in settings.folders:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)


def _make_shards(
    part: ShardPart, settings: PackSettings, report: ProgressCallback, process: KillableProcess
) -> PartResult:
    paths = [folder / part.shard for folder in settings.folders]
    quarantined = {refusal.key: refusal for refusal in part.quarantined}
    refused: list[Refusal] = []
    notes: list[Notes] = []
    source_bytes = num_stored = 0
    with ExitStack() as stack:
        for path in paths:
            path.parent.mkdir(exist_ok=True)
        writers = [stack.enter_context(open_shard_writer(path)) for path in paths]
        for record in part.records:
            result = quarantined.get(record.key) or _encode_video(record, settings, process)
            if isinstance(result, Refusal):
                refused.append(result)
                report(PackProgress(1, 1, 0))
                continue
            videos, timeline = result
            for writer, video in zip(writers, videos, strict=True):
                description = _describe(record, part.split, video, settings)._replace(timeline=timeline)
                writer.write(record.key, video.data, description, video.flow)
            notes.append(video_notes(record.key, videos[0].notes))
            source_size = round(file_size(record.path) * videos[0].source_share)
            num_stored, source_bytes = num_stored + 1, source_bytes + source_size
            report(PackProgress(1, 0, source_size, stored_bytes=tuple(len(one.data) + len(one.flow) for one in videos)))
    if not num_stored:
        for path in paths:
            path.unlink()
        return PartResult(part.split, None, [], refused, 0)
    shards = [ShardFile(part.shard, part.split, num_stored, path.stat().st_size, file_sha256(path)) for path in paths]
    rows = [index_shard(path) for path in paths]
    smaller = tuple(RenditionShard(*shard_and_rows) for shard_and_rows in zip(shards[1:], rows[1:], strict=True))
    return PartResult(part.split, shards[0], rows[0], refused, source_bytes, smaller=smaller, notes=add_notes(notes))


def _encode_video(
    record: VideoRecord, settings: PackSettings, process: KillableProcess
) -> tuple[list[EncodedVideo], Timeline | None] | Refusal:
    """Encodes the video in every rendition, with its labels by time; returns a refusal where it is to be in none."""
    source = source_name(record, settings)
    try:
        videos = _call_encoder(record, settings, process)
        timeline = stored_timeline(
            record, videos[0].info.duration_s, settings.background, partial(process.call, timeout=settings.timeout)
        )
    except DecodeError as error:
        return Refusal(source, record.key, error.reason, one_line(str(error)))
    except ProcessHung as error:
        return Refusal(source, record.key, HANG, f"{error} (--timeout); killed")
    except ProcessDied as error:
        return Refusal(source, record.key, CRASH, one_line(str(error)))
    except FileNotFoundError:
        return Refusal(source, record.key, ABSENT, "no such file")
    except (ProcessUnavailable, ImportError):
        raise
    except Exception as error:
        return Refusal(source, record.key, ERROR, one_line(f"{type(error).__name__}: {error}"))
    num_frames = videos[0].info.num_frames
    if num_frames < settings.min_frames:
        return Refusal(source, record.key, TOO_SHORT, f"{num_frames} frames, min_frames is {settings.min_frames}")
    return videos, timeline


def _call_encoder(record: VideoRecord, settings: PackSettings, process: KillableProcess) -> list[EncodedVideo]:
    call = partial(process.call, timeout=settings.timeout, by_progress=True)
    segment = None
    if record.is_segment:
        segment = Segment(record.time_start, record.time_end, record.start_frame, record.end_frame)
    is_folder = Path(record.path).is_dir()
    if is_folder and record.frames_per_second is None and is_image_folder(record.path):
        raise DecodeError("is a folder of images without a frame rate; give --frames-per-second", UNREADABLE)
    if not is_folder or record.frames_per_second is None:
        check_video_file(record.path)
    if settings.profile is None:
        return [call(inspect, record.path)]
    profiles = (settings.profile, *settings.smaller)
    if settings.flow is not None:
        call = partial(call, encode_with_flow, settings.flow, settings.profile.key_frame_interval)
    if is_folder:
        return call(transcode_images, record.path, profiles, record.frames_per_second, segment)
    if segment is not None:
        return call(transcode_segment, record.path, profiles, segment, settings.root / SEEK_TABLES_FOLDER)
    return call(transcode_renditions, record.path, profiles, record.time_start, record.time_end)


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
        variable_rate=video.info.variable_rate,
        pixel_aspect=video.info.pixel_aspect,
        frame_hashes=video.frame_hashes,
        captions=record.captions,
        labels=record.labels,
        task=settings.task,
        source_start=video.source_start,
        source_end=video.source_end,
        flow_sha256=hashlib.sha256(video.flow).hexdigest() if video.flow else "",
    )


def _record_path(part: ShardPart, settings: PackSettings) -> Path:
    return settings.root / PARTS_FOLDER / f"{part.shard}.json"


def _write_record(part: ShardPart, settings: PackSettings, result: PartResult) -> None:
    content: dict[str, Any] = {
        "fingerprint": part_fingerprint(part, settings),
        "shard": None if result.shard is None else asdict(result.shard),
        "refused": [refusal._asdict() for refusal in result.refused],
        "source_bytes": result.source_bytes,
        "notes": notes_as_json(result.notes),
    }
    if result.smaller:
        content["smaller"] = [asdict(rendition.shard) for rendition in result.smaller]
    path = _record_path(part, settings)
    path.parent.mkdir(exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _reuse_shards(part: ShardPart, settings: PackSettings) -> PartResult | None:
    """The result of an earlier run, if its record, the tars' sizes and checksums and their rows all agree."""
    try:
        content = json.loads(_record_path(part, settings).read_text(encoding="utf-8"))
        shards = [ShardFile(**shard) for shard in (content["shard"], *content.get("smaller", ())) if shard is not None]
        refused = [Refusal(**refusal) for refusal in content["refused"]]
        source_bytes, notes = int(content["source_bytes"]), notes_from_json(content["notes"])
        if content["fingerprint"] != part_fingerprint(part, settings) or (refused and settings.retry_quarantined):
            return None
        if not shards:
            return PartResult(part.split, None, [], refused, source_bytes, reused=True)
        rows = []
        for folder, shard in zip(settings.folders, shards, strict=True):
            path = folder / part.shard
            if path.stat().st_size != shard.bytes or file_sha256(path) != shard.sha256:
                return None
            rows.append(index_shard(path))
        stored_keys = {row.key for row in rows[0]}
        if stored_keys & {refusal.key for refusal in part.quarantined}:
            return None
        if any([row.key for row in rendition_rows] != [row.key for row in rows[0]] for rendition_rows in rows):
            return None
        if stored_keys | {refusal.key for refusal in refused} != {record.key for record in part.records}:
            return None  # two runs of this part overlapped: shard and record are not of the same run
        smaller = tuple(RenditionShard(*shard_and_rows) for shard_and_rows in zip(shards[1:], rows[1:], strict=True))
        return PartResult(part.split, shards[0], rows[0], refused, source_bytes, True, smaller, notes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
