"""Estimates of a video's size in its shard, made before any video is opened, for shards bounded in bytes.

The estimate uses the size of the file and, where the list has it, the duration of the annotated part: the smaller of
two estimates, times a factor of the encoding profile:

    bytes = min(0.45 * file size, 60,000 * seconds) * detail + 4096
    detail = (short_side / 256) ** 1.3 * min(fps / 30, 1) ** 0.33 * 2 ** ((23 - crf) / 6) * coding
    coding = (1 + 3.2 / key_frame_interval) / 1.2 * (1.12 if fast_decode else 1)

Without a duration only the file size counts; a video's own rate (`fps` null) counts as 30. The constants are fitted to
9 Kinetics clips and 75 of surveillance_fights at short sides 256, 128 and 64: estimated / real size of all together is
1.2 to 1.5 by file size alone, 0.8 to 0.9 with durations; of a single video between 1/3 and 12.
The rule of crf is x264's: raising it by 6 halves the bytes. The factor `coding` was measured on 8 Kinetics clips at 256
and 128 (benchmarks/README.md, "key frames, entropy coding and size"). The 4096 bytes are the description and the blocks
of the tar.
"""

import math
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datamodules.annotations.records import VideoRecord
from datamodules.encoding.transcoding import EncodeProfile
from datamodules.video.image_folder import has_image_suffix

MEMBER_BYTES = 4096
_SHARE_OF_FILE = 0.45
_BYTES_PER_SECOND = 60_000
_FRAMES_PER_SECOND = 25
_FAST_DECODE = 1.12
_FLOW_SHARE = 2.5  # bytes of the flow, in those of the video (docs/datasets/flow.md)
_THREADS = 16  # a network file system serves many requests at once
_BATCH = 500


def estimate_bytes(
    record: VideoRecord, file_bytes: int, profile: EncodeProfile | None, rows: int = 1, flow: bool = False
) -> int:
    """Estimates the bytes of a video in its shard, by the formula in this module's docstring.

    Args:
        record: The video, with start and end time where the list gives them.
        file_bytes: Size of its file in bytes; 0 where there is no file, and then the estimate is 0.
        profile: The encoding profile; None stores the file as it is.
        rows: Number of videos that are cut out of the file; one of unknown duration counts as an equal part of it.
        flow: Whether optical flow is stored with it, which is as large as the video or several times larger.
    """
    if file_bytes == 0:
        return 0
    if profile is None:
        return file_bytes + MEMBER_BYTES
    size = _SHARE_OF_FILE * file_bytes
    seconds = _duration(record)
    size = size / rows if seconds is None else min(size, _BYTES_PER_SECOND * seconds)
    rate = 1.0 if profile.fps is None else math.pow(min(profile.fps / 30, 1.0), 0.33)
    detail = math.pow(profile.short_side / 256, 1.3) * rate * math.pow(2, (23 - profile.crf) / 6)
    coding = (1 + 3.2 / profile.key_frame_interval) / 1.2 * (_FAST_DECODE if profile.fast_decode else 1.0)
    return round(size * detail * coding * (1 + _FLOW_SHARE * flow)) + MEMBER_BYTES


def _duration(record: VideoRecord) -> float | None:
    """Seconds of the annotated part, as far as the list gives them; frame numbers count as those of 25 a second."""
    if record.time_end is not None:
        return max(0.0, record.time_end - (record.time_start or 0.0))
    if record.end_frame is not None:
        return max(0.0, (record.end_frame - (record.start_frame or 0)) / _FRAMES_PER_SECOND)
    return None


def file_sizes(paths: Sequence[str]) -> list[int]:
    """Sizes of files in bytes, 0 for absent files; no file is opened."""
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [size for sizes in pool.map(_sizes, batches) for size in sizes]


def _sizes(paths: Sequence[str]) -> list[int]:
    return [file_size(path) for path in paths]


def file_size(path: str) -> int:
    """Size of a file in bytes, 0 for an absent one; of a folder of images, their number times the size of the first."""
    try:
        found = Path(path).stat()
        return _folder_size(path) if stat.S_ISDIR(found.st_mode) else found.st_size
    except OSError:
        return 0


def _folder_size(path: str) -> int:
    with os.scandir(path) as entries:
        images = [entry for entry in entries if has_image_suffix(entry.name)]
    return len(images) * images[0].stat().st_size if images else 0
