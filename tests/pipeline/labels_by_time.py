"""Videos whose brightness tells the class of each frame, with the list of their segments."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.encoding.transcoding import encode_frames

LEVELS = {"bright": 220, "gray": 130, "background": 40}
FPS = 10.0
SPLITS = {"train": 6, "val": 2, "test": 2}


def draw_parts(number: int) -> list[tuple[str, float, float]]:
    """Two or three parts with a class, 1 to 2.4 s long, between pauses."""
    rng = np.random.default_rng(number)
    parts, time = [], 0.0
    for place in range(2 + number % 2):
        start = time + rng.integers(8, 16) / 10
        time = start + rng.integers(10, 24) / 10
        parts.append((("bright", "gray")[(place + number) % 2], round(start, 1), round(time, 1)))
    return parts


def gray_video(parts: Sequence[tuple[str, float, float]], duration_s: float) -> bytes:
    """Frames of 32 x 32 pixels in the gray level of the class that each begins in."""
    levels = np.full(round(duration_s * FPS), LEVELS["background"], np.uint8)
    for label, start, end in parts:
        levels[round(start * FPS) : round(end * FPS)] = LEVELS[label]
    return encode_frames([np.full((32, 32, 3), level, np.uint8) for level in levels], fps=FPS)


def write_videos(root: Path) -> Path:
    """The videos, and list.csv with a row a segment."""
    root.mkdir(parents=True, exist_ok=True)
    lines, number = ["path,start,end,label,split"], 0
    for split, count in SPLITS.items():
        for _ in range(count):
            parts = draw_parts(number)
            (root / f"{number}.mp4").write_bytes(gray_video(parts, parts[-1][2] + 1.0))
            lines += [f"{number}.mp4,{start},{end},{label},{split}" for label, start, end in parts]
            number += 1
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root
