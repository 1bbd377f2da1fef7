"""Data in the form of Jester: official lists and folders of frames, with moving disks in the place of hands."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The 27 classes, in the order of the official list of labels.
LABELS = (
    "Swiping Left",
    "Swiping Right",
    "Swiping Down",
    "Swiping Up",
    "Pulling Hand In",
    "Pushing Hand Away",
    "Sliding Two Fingers Left",
    "Sliding Two Fingers Right",
    "Sliding Two Fingers Down",
    "Sliding Two Fingers Up",
    "Pushing Two Fingers Away",
    "Pulling Two Fingers In",
    "Rolling Hand Forward",
    "Rolling Hand Backward",
    "Turning Hand Clockwise",
    "Turning Hand Counterclockwise",
    "Zooming In With Full Hand",
    "Zooming Out With Full Hand",
    "Zooming In With Two Fingers",
    "Zooming Out With Two Fingers",
    "Thumb Up",
    "Thumb Down",
    "Shaking Hand",
    "Stop Sign",
    "Drumming Fingers",
    "No gesture",
    "Doing other things",
)
DIRECTIONS = {"Swiping Left": (-1, 0), "Swiping Right": (1, 0), "Swiping Down": (0, 1), "Swiping Up": (0, -1)}
DRAWN = (*DIRECTIONS, "No gesture", "Doing other things")  # the classes that have videos
WIDTH, HEIGHT = 64, 48
TRAVEL = 0.3  # of the frame, from its center, to either side
RADIUS = 0.16  # of the frame's height


def draw_gesture(label: str, rng: np.random.Generator, num_frames: int) -> list[NDArray[np.uint8]]:
    """Frames of a gesture, uint8 (48, 64, 3).

    A disk of random color crosses a random background in the direction of the class; with `No gesture` it rests, with
    `Doing other things` it goes from one random place to another and back.

    Args:
        label: a class of `DRAWN`.
        rng: generator of the random draws.
        num_frames: at least 2.
    """
    time = np.linspace(-1, 1, num_frames)
    center = rng.uniform(0.4, 0.6, size=2)
    if label in DIRECTIONS:
        places = center + TRAVEL * time[:, None] * np.array(DIRECTIONS[label])
    elif label == "No gesture":
        places = np.repeat(center[None], num_frames, axis=0)
    else:
        ends = rng.uniform(0.15, 0.85, size=(2, 2))
        places = ends[0] + (1 - np.abs(time))[:, None] * (ends[1] - ends[0])
    columns, rows = np.meshgrid((np.arange(WIDTH) + 0.5) / WIDTH, (np.arange(HEIGHT) + 0.5) / HEIGHT)
    cells = Image.fromarray(rng.integers(0, 150, size=(6, 8, 3), dtype=np.uint8))
    background = np.asarray(cells.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float64)
    color = rng.uniform(200, 250, size=3)
    frames = []
    for x, y in places:
        distance = np.hypot((columns - x) * WIDTH / HEIGHT, rows - y)
        frame = np.where((distance < RADIUS)[..., None], color, background) + rng.normal(0, 3, size=(HEIGHT, WIDTH, 3))
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return frames


def write_jester(root: Path, train: int, validation: int, test: int, num_frames: int = 18, seed: int = 0) -> None:
    """Writes root/labels/*.csv and root/20bn-jester-v1/{id}/00001.jpg and so on, as the archive of Jester has them.

    Args:
        root: folder to make.
        train: training videos of each class of `DRAWN`.
        validation: validation videos of each.
        test: test videos of each; their classes are in test-answers.csv, and not in test.csv.
        num_frames: frames of a video.
        seed: seed of all random draws.
    """
    rng = np.random.default_rng(seed)
    counts = {"train": train, "validation": validation, "test": test}
    labels = [(split, label) for split, count in counts.items() for label in DRAWN for _ in range(count)]
    ids = rng.choice(np.arange(1, 148093), size=len(labels), replace=False).tolist()
    lines: dict[str, list[str]] = {name: [] for name in ("train", "validation", "test", "test-answers")}
    for (split, label), number in zip(labels, ids, strict=True):
        folder = root / "20bn-jester-v1" / str(number)
        folder.mkdir(parents=True)
        for index, frame in enumerate(draw_gesture(label, rng, num_frames), start=1):
            Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=90)
        lines["test-answers" if split == "test" else split].append(f"{number};{label}")
        lines["test"] += [str(number)] if split == "test" else []
    (root / "labels").mkdir()
    for name, text in {**lines, "labels": list(LABELS)}.items():
        (root / "labels" / f"{name}.csv").write_text("".join(f"{line}\n" for line in text))
