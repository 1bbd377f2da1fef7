"""Videos of several labels: which of three parts of the picture flicker, over a texture of each video's own."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.encoding.transcoding import encode_frames

CLASSES = ("left", "right", "top")  # in the order of the alphabet, which is that of the labels
SPLITS = {"train": 16, "val": 7, "test": 9}


def labels_of(number: int) -> tuple[str, ...]:
    """The labels of video n: each of the eight subsets of the classes in turn."""
    return tuple(name for place, name in enumerate(CLASSES) if number >> place & 1)


def flickering_video(labels: Sequence[str], seed: int) -> bytes:
    """Ten frames of 48x32 pixels, in which the parts named by the labels are bright in every other frame."""
    blocks = np.random.default_rng(seed).integers(20, 110, (4, 6, 3), dtype=np.uint8)
    frames = []
    for number in range(10):
        frame = blocks.repeat(8, axis=0).repeat(8, axis=1)
        for name, part in (("left", np.s_[10:, :20]), ("right", np.s_[10:, 28:]), ("top", np.s_[:8])):
            if name in labels and number % 2:
                frame[part] = 250
        frames.append(frame)
    return encode_frames(frames, fps=10.0)


def write_videos(root: Path) -> Path:
    """The videos, and list.csv with a column `labels`, half of its lists in JSON; some videos have no label."""
    root.mkdir(parents=True, exist_ok=True)
    lines, number = ["path,labels,split,group"], 0
    for split, count in SPLITS.items():
        for place in range(count):
            labels = labels_of(place)
            (root / f"{number}.mp4").write_bytes(flickering_video(labels, number))
            cell = json.dumps(labels).replace('"', '""') if number % 2 else ";".join(labels)
            lines.append(f'{number}.mp4,"{cell}",{split},{f"t{number // 2}" if split == "test" else f"g{number}"}')
            number += 1
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root
