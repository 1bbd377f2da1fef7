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

from datamodules.encoding.synthetic_scenes import MOTIONS, draw_scene, render_scene
from datamodules.video.mp4_writer import encode_frames

SPLITS = ("train", "val", "test")
MARKER = "synthetic.json"  # marks a folder as output of `synthesize`, and records its settings


class Clip(NamedTuple):
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


class Settings(NamedTuple):
    """The settings that determine the pixels, apart from a clip's own class, split and number."""

    seed: int
    num_frames: int
    width: int
    height: int
    fps: float


@dataclass(frozen=True, slots=True)
class Synthesized:
    """The output of `synthesize`.

    Attributes:
        root: the dataset's folder.
        videos: split -> number of videos.
        num_bytes: total size of the video files.
    """

    root: Path
    videos: dict[str, int]
    num_bytes: int


def generator(seed: int, label: str, split: str, number: int) -> np.random.Generator:
    """The random generator of one video; it depends on these four values only."""
    digest = hashlib.sha256(f"{seed}/{label}/{split}/{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def plan_clips(settings: Settings, counts: dict[str, int]) -> list[Clip]:
    """Lists the clips to make in the order of the lists: by split, then by number, then by class.

    Args:
        settings: seed, number of frames and frame rate.
        counts: split -> videos per class.
    """
    duration = math.ceil(settings.num_frames / settings.fps)
    clips = []
    for split, count in counts.items():
        for number in range(count):
            for label in MOTIONS:
                digest = hashlib.sha256(f"id/{settings.seed}/{label}/{split}/{number}".encode()).digest()
                youtube_id = base64.urlsafe_b64encode(digest).decode()[:11]
                start = 5 * (digest[-1] % 50)
                clips.append(Clip(label, split, number, youtube_id, start, start + duration))
    return clips


def make_synthetic_dataset(
    root: str | os.PathLike[str],
    seed: int = 0,
    train: int = 30,
    val: int = 5,
    test: int = 10,
    num_frames: int = 36,
    width: int = 128,
    height: int = 96,
    fps: float = 25.0,
    processes: int = 1,
    progress: Callable[[], object] | None = None,
) -> Synthesized:
    """Write root/videos/<class>/<id>_<start>_<end>.mp4 and root/{train,val,test}.csv, in the official Kinetics form.

    All arguments but `processes` and `progress` determine the files. These are written to a temporary folder beside the
    root and renamed at the end; earlier output of this function is replaced, any other content of the root is refused.

    Args:
        root: folder to make.
        seed: seed of all random draws.
        train: videos per class in train.csv; a split of 0 videos gets no list.
        val: videos per class in val.csv.
        test: videos per class in test.csv.
        num_frames: frames of a video, at least 2.
        width: pixels, even, at least 32.
        height: pixels, even, at least 32.
        fps: frames per second.
        processes: the most processes that draw and encode; few videos take fewer.
        progress: called in this process after each video.

    Returns:
        The folder, the number of videos by split, and the size of the files.

    Raises:
        ValueError: an argument is out of its range, or the root holds anything but earlier output of this function.
    """
    settings = Settings(seed, num_frames, width, height, fps)
    counts = {split: count for split, count in zip(SPLITS, (train, val, test), strict=True) if count != 0}
    _check(settings, counts, processes)
    target = Path(root).resolve()
    _check_replaceable(target)
    clips = plan_clips(settings, counts)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        for label in MOTIONS:
            (partial / "videos" / label).mkdir(parents=True)
        num_bytes = _write_videos(partial, clips, settings, processes, progress)
        for split in counts:
            _write_list(partial / f"{split}.csv", [clip for clip in clips if clip.split == split])
        marker = {"made_by": "action-recognition-pipeline synthesize", **settings._asdict(), "videos_per_class": counts}
        (partial / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        _check_replaceable(target)  # again, because drawing may have taken minutes
        if target.is_dir():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Synthesized(Path(root), {split: count * len(MOTIONS) for split, count in counts.items()}, num_bytes)


def _check(settings: Settings, counts: dict[str, int], processes: int) -> None:
    for name, value in counts.items():
        if value < 0:
            raise ValueError(f"{name}={value}: give the number of videos per class, 0 or more")
    if not counts:
        raise ValueError("train=0, val=0, test=0: there would be no video; give at least one split 1 or more")
    for name in ("width", "height"):
        value = getattr(settings, name)
        if value < 32 or value % 2:
            raise ValueError(f"{name}={value}: must be even and at least 32 pixels")
    if settings.width < settings.height:
        raise ValueError(f"width={settings.width}, height={settings.height}: must not be higher than wide")
    if settings.num_frames < 2:
        raise ValueError(f"num_frames={settings.num_frames}: must be at least 2, or nothing moves")
    if not (math.isfinite(settings.fps) and settings.fps > 0):
        raise ValueError(f"fps={settings.fps}: must be a positive number of frames per second")
    if processes < 1:
        raise ValueError(f"processes={processes}: must be at least 1")


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
        settings = Settings(**{name: marker[name] for name in Settings._fields})
        counts = marker["videos_per_class"]
        clips = plan_clips(settings, counts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return set()
    return {MARKER, *(f"{split}.csv" for split in counts), *(clip.path for clip in clips)}


def _write_videos(
    folder: Path,
    clips: list[Clip],
    settings: Settings,
    processes: int,
    progress: Callable[[], object] | None,
) -> int:
    """Writes all videos and returns their total size in bytes; the number of processes does not affect the output."""
    processes = min(processes, 1 + len(clips) // 32)  # starting a process costs as much as a few videos
    num_bytes = 0
    if processes == 1:
        for clip in clips:
            num_bytes += _write_video(folder, clip, settings)
            if progress is not None:
                progress()
        return num_bytes
    spawn: Any = multiprocessing.get_context("spawn")  # fork is unsafe once a library has started threads
    quiet = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; this one stops the others
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=signal.signal, initargs=quiet) as pool:
        futures = [pool.submit(_write_video, folder, clip, settings) for clip in clips]
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


def _write_video(folder: Path, clip: Clip, settings: Settings) -> int:
    rng = generator(settings.seed, clip.label, clip.split, clip.number)
    scene = draw_scene(clip.label, rng, aspect=settings.width / settings.height)
    frames = render_scene(scene, settings.num_frames, settings.width, settings.height)
    return (folder / clip.path).write_bytes(encode_frames(frames, settings.fps))


def _write_list(path: Path, clips: list[Clip]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
        writer.writerows([clip.label, clip.youtube_id, clip.time_start, clip.time_end, clip.split] for clip in clips)
