"""Synthetic long videos: several actions one after the other, with pauses, and the list of their segments.

An action is a scene of `datamodules.encoding.synthetic_scenes`; in a pause nothing moves. All follow from the seed and
the video's number, and each video has its own random generator.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.encoding.synthetic_scenes import MOTIONS, draw_scene, render_scene
from datamodules.video.mp4_writer import encode_frames

LONG_FOLDER, LONG_LIST = "long", "long.csv"
ACTIONS_PER_VIDEO = 6
_ACTION_S, _PAUSE_S = (3, 6), (2, 4)  # shortest and longest, in whole seconds


class SceneStretch(NamedTuple):
    """A part of a long video: its class, "" for a pause, start and end in seconds."""

    label: str
    start_s: int
    end_s: int


def draw_stretches(rng: np.random.Generator) -> list[SceneStretch]:
    """Draws the actions and pauses of a video, a pause first and last."""
    stretches: list[SceneStretch] = []
    for number in range(2 * ACTIONS_PER_VIDEO + 1):
        label = str(rng.choice(list(MOTIONS))) if number % 2 else ""
        shortest, longest = _ACTION_S if label else _PAUSE_S
        start = stretches[-1].end_s if stretches else 0
        stretches.append(SceneStretch(label, start, start + int(rng.integers(shortest, longest + 1))))
    return stretches


def long_video_path(number: int) -> str:
    """The path of a long video, relative to the dataset's folder."""
    return f"{LONG_FOLDER}/long_{number:03d}.mp4"


def write_long_video(path: Path, seed: int, number: int, width: int, height: int, fps: float) -> list[SceneStretch]:
    """Writes a long video, and returns its actions.

    Args:
        path: the file, mp4.
        seed: seed of the dataset.
        number: number of the video.
        width: pixels.
        height: pixels.
        fps: frames per second.
    """
    stretches = draw_stretches(np.random.default_rng([seed, number]))
    path.write_bytes(encode_frames(_frames(stretches, seed, number, width, height, fps), fps))
    return [stretch for stretch in stretches if stretch.label]


def _frames(
    stretches: list[SceneStretch], seed: int, number: int, width: int, height: int, fps: float
) -> Iterator[NDArray[np.uint8]]:
    for position, stretch in enumerate(stretches):
        rng = np.random.default_rng([seed, number, position])
        scene = draw_scene(stretch.label or next(iter(MOTIONS)), rng, aspect=width / height)
        if not stretch.label:
            scene = replace(scene, velocity=np.zeros(4))
        count = round(stretch.end_s * fps) - round(stretch.start_s * fps)
        yield from render_scene(scene, count, width, height)


def write_segment_list(path: Path, videos: dict[str, list[SceneStretch]], splits: Sequence[str]) -> None:
    """Writes the list of the actions of long videos, each with its split: path, label, start, end and split."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "start", "end", "split"])
        for (name, stretches), split in zip(videos.items(), splits, strict=True):
            writer.writerows([name, each.label, each.start_s, each.end_s, split] for each in stretches)
