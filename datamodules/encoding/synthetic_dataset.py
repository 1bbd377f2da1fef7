"""Synthetic dataset in the official form of Kinetics: real video files whose class is the motion that they show.

`datamodules.encoding.synthetic_scenes` draws the videos, and explains why a single frame does not reveal the class.
Each video has its own random generator, keyed by (seed, class, split, number): more videos of one split or class leave
all others unchanged.
"""

import base64
import csv
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.encoding.synthetic_long_videos import (
    LONG_FOLDER,
    LONG_LIST,
    long_video_path,
    write_long_video,
    write_segment_list,
)
from datamodules.encoding.synthetic_scenes import MOTIONS, draw_scene, render_scene
from datamodules.options import Options
from datamodules.video.mp4_writer import encode_frames

SPLITS = ("train", "val", "test")
MARKER = "synthetic.json"  # marks a folder as output of `synthesize`, and records its options
_RECORDED = ("seed", "num_frames", "width", "height", "fps")  # in the marker, beside the videos per class


@dataclass(frozen=True, kw_only=True)
class SyntheticDatasetOptions(Options):
    """Number, size and seed of synthetic videos, which determine their files.

    Attributes:
        seed: seed of the random generator.
        train: training videos per class; a split of 0 videos gets no list.
        val: validation videos per class.
        test: test videos per class.
        num_frames: frames of a video, at least 2.
        width: width of a video in pixels, even, at least 32 and at least the height.
        height: height of a video in pixels, even, at least 32.
        fps: frames per second.
        long: number of long videos besides, each of six actions with pauses in which nothing moves; their list of
            segments is long.csv.
        long_train: number of the long videos that are of the split train, and not test.
        long_val: number of those that are of the split val.
    """

    seed: int = 0
    train: int = 30
    val: int = 5
    test: int = 10
    num_frames: int = 36
    width: int = 128
    height: int = 96
    fps: float = 25.0
    long: int = 0
    long_train: int = 0
    long_val: int = 0

    @property
    def videos_per_class(self) -> dict[str, int]:
        """Split -> videos per class, of the splits that have any."""
        counts = {split: int(getattr(self, split)) for split in SPLITS}
        return {split: count for split, count in counts.items() if count}

    def check(self) -> None:
        """Raises ValueError for a value out of range, or if there would be no video."""
        for name in SPLITS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: give the number of videos per class, 0 or more")
        if not self.videos_per_class:
            raise ValueError("train=0, val=0, test=0: there would be no video; give at least one split 1 or more")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value < 32 or value % 2:
                raise ValueError(f"{name}={value}: must be even and at least 32 pixels")
        if self.width < self.height:
            raise ValueError(f"width={self.width}, height={self.height}: must not be higher than wide")
        if self.num_frames < 2:
            raise ValueError(f"num_frames={self.num_frames}: must be at least 2, or nothing moves")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps={self.fps}: must be a positive number of frames per second")
        self.require_at_least(0, "long", "long_train", "long_val")
        if self.long_train + self.long_val > self.long:
            raise ValueError(
                f"long_train={self.long_train}, long_val={self.long_val}: are parts of long={self.long}, and more than "
                "that; give fewer"
            )


class SyntheticVideo(NamedTuple):
    """One row of an annotation list: a video with an invented YouTube id, and its start and end in seconds."""

    label: str
    split: str
    number: int
    youtube_id: str
    time_start: int
    time_end: int

    @property
    def path(self) -> str:
        """The path of the file, relative to the dataset's folder."""
        return f"videos/{self.label}/{self.youtube_id}_{self.time_start:06d}_{self.time_end:06d}.mp4"


@dataclass(frozen=True, slots=True)
class SyntheticDataset:
    """A synthetic dataset that was written.

    Attributes:
        root: the dataset's folder.
        videos: split -> number of videos; `long` for the long ones, if there are any.
        num_bytes: total size of the video files.
    """

    root: Path
    videos: dict[str, int]
    num_bytes: int


def generator(seed: int, label: str, split: str, number: int) -> np.random.Generator:
    """The random generator of one video; it depends on these four values only."""
    digest = hashlib.sha256(f"{seed}/{label}/{split}/{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def list_videos(options: SyntheticDatasetOptions) -> list[SyntheticVideo]:
    """The videos to make in the order of the lists: by split, then by number, then by class."""
    duration = math.ceil(options.num_frames / options.fps)
    videos = []
    for split, count in options.videos_per_class.items():
        for number in range(count):
            for label in MOTIONS:
                digest = hashlib.sha256(f"id/{options.seed}/{label}/{split}/{number}".encode()).digest()
                youtube_id = base64.urlsafe_b64encode(digest).decode()[:11]
                start = 5 * (digest[-1] % 50)
                videos.append(SyntheticVideo(label, split, number, youtube_id, start, start + duration))
    return videos


def make_synthetic_dataset(
    root: str | os.PathLike[str],
    options: SyntheticDatasetOptions,
    processes: int = 1,
    progress: Callable[[], object] | None = None,
) -> SyntheticDataset:
    """Write root/videos/<class>/<id>_<start>_<end>.mp4 and root/{train,val,test}.csv, in the official Kinetics form.

    The options determine the files. These are written to a temporary folder beside the root and renamed at the end;
    earlier output of this function is replaced, any other content of the root is refused.

    Args:
        root: folder to make.
        options: number, size and seed of the videos.
        processes: the most processes that draw and encode; few videos take fewer.
        progress: called in this process after each video.

    Returns:
        The folder, the number of videos by split, and the size of the files.

    Raises:
        ValueError: `processes` is below 1, or the root holds anything but earlier output of this function.
    """
    if processes < 1:
        raise ValueError(f"processes={processes}: must be at least 1")
    target = Path(root).resolve()
    _check_replaceable(target)
    videos = list_videos(options)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        for label in MOTIONS:
            (partial / "videos" / label).mkdir(parents=True)
        num_bytes = _write_videos(partial, videos, options, processes, progress)
        for split in options.videos_per_class:
            _write_list(partial / f"{split}.csv", [video for video in videos if video.split == split])
        num_bytes += _write_long_videos(partial, options, progress)
        (partial / MARKER).write_text(_marker_text(options), encoding="utf-8")
        _check_replaceable(target)  # again, because drawing may have taken minutes
        if target.is_dir():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    counts = {split: count * len(MOTIONS) for split, count in options.videos_per_class.items()}
    counts |= {LONG_FOLDER: options.long} if options.long else {}
    return SyntheticDataset(Path(root), counts, num_bytes)


def _marker_text(options: SyntheticDatasetOptions) -> str:
    recorded = {name: getattr(options, name) for name in _RECORDED} | ({"long": options.long} if options.long else {})
    marker = {"made_by": "action-recognition-pipeline synthesize", **recorded}
    return json.dumps(marker | {"videos_per_class": options.videos_per_class}, indent=2) + "\n"


def _check_replaceable(target: Path) -> None:
    """Raises unless the target is absent, an empty folder, or holds earlier output of `synthesize` and nothing else."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"root={target}: is a file; name a new folder")
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    foreign = sorted(found - _own_files(target))
    if foreign:
        raise ValueError(
            f"root={target}: holds {foreign[0]!r}, which synthesize did not write there; name a new or empty folder"
        )


def _own_files(target: Path) -> set[str]:
    """The files of earlier output in the target, relative to it; empty if there is none."""
    try:
        marker = json.loads((target / MARKER).read_text(encoding="utf-8"))
        counts = dict.fromkeys(SPLITS, 0) | marker["videos_per_class"]
        options = SyntheticDatasetOptions(
            **{name: marker[name] for name in _RECORDED}, **counts, long=marker.get("long", 0)
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return set()
    videos = {video.path for video in list_videos(options)}
    if options.long:
        videos |= {LONG_LIST, *map(long_video_path, range(options.long))}
    return {MARKER, *(f"{split}.csv" for split in options.videos_per_class), *videos}


def _write_videos(
    folder: Path,
    videos: list[SyntheticVideo],
    options: SyntheticDatasetOptions,
    processes: int,
    progress: Callable[[], object] | None,
) -> int:
    """Writes all videos and returns their total size in bytes; the number of processes does not affect the output."""
    processes = min(processes, 1 + len(videos) // 32)  # starting a process costs as much as a few videos
    num_bytes = 0
    if processes == 1:
        for video in videos:
            num_bytes += _write_video(folder, video, options)
            if progress is not None:
                progress()
        return num_bytes
    spawn: Any = multiprocessing.get_context("spawn")  # fork is unsafe once a library has started threads
    quiet = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; this one stops the others
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=signal.signal, initargs=quiet) as pool:
        futures = [pool.submit(_write_video, folder, video, options) for video in videos]
        try:
            for future in as_completed(futures):
                num_bytes += future.result()
                if progress is not None:
                    progress()
        except BrokenProcessPool:
            raise OSError("a process that makes videos was killed; is there memory enough? try processes=1") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return num_bytes


def _write_long_videos(folder: Path, options: SyntheticDatasetOptions, progress: Callable[[], object] | None) -> int:
    """Writes the long videos and their list, if there are any, and returns the size of the videos in bytes."""
    if not options.long:
        return 0
    (folder / LONG_FOLDER).mkdir()
    videos = {}
    for number in range(options.long):
        path = long_video_path(number)
        size = options.width, options.height, options.fps
        videos[path] = write_long_video(folder / path, options.seed, number, *size)
        if progress is not None:
            progress()
    num_trained, num_validated = options.long_train, options.long_val
    splits = ["train"] * num_trained + ["val"] * num_validated + ["test"] * (options.long - num_trained - num_validated)
    write_segment_list(folder / LONG_LIST, videos, splits)
    return sum((folder / path).stat().st_size for path in videos)


def _write_video(folder: Path, video: SyntheticVideo, options: SyntheticDatasetOptions) -> int:
    rng = generator(options.seed, video.label, video.split, video.number)
    scene = draw_scene(video.label, rng, aspect=options.width / options.height)
    frames = render_scene(scene, options.num_frames, options.width, options.height)
    return (folder / video.path).write_bytes(encode_frames(frames, options.fps))


def _write_list(path: Path, videos: list[SyntheticVideo]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
        writer.writerows(
            [video.label, video.youtube_id, video.time_start, video.time_end, video.split] for video in videos
        )
