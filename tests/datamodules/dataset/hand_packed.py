"""A dataset packed by hand: six small videos in two shards."""

import hashlib
from pathlib import Path

import numpy as np

from datamodules.dataset.dataset_index import (
    ShardFile,
    ShardRow,
    VideoDescription,
    index_shard,
    open_shard_writer,
    write_dataset,
)
from datamodules.encoding.transcoding import encode_frames
from datamodules.storage.local_files import file_sha256

CLASSES = ["jump", "run"]
SPLITS = ("test", "train")


def make_video(number: int) -> bytes:
    frames = np.random.default_rng(number).integers(0, 256, (4 + number, 32, 48, 3), dtype=np.uint8)
    return encode_frames(list(frames), fps=8.0)


VIDEOS = {f"video-{number}": make_video(number) for number in range(6)}


def describe(number: int, video: bytes, split: str, fold_splits: tuple[str, ...] = ()) -> VideoDescription:
    return VideoDescription(
        label=CLASSES[number % 2],
        split=split,
        fold_splits=fold_splits,
        group=f"group {number // 2}",
        num_frames=4 + number,
        fps=8.0,
        width=48,
        height=32,
        duration_s=(4 + number) / 8,
        content_sha256=hashlib.sha256(video).hexdigest(),
        source=f"läufe/{number}.mp4",
    )


def pack_by_hand(root: Path, folds: bool = False) -> list[ShardRow]:
    """Two shards of three videos: with splits test and train, or one split `all` and two folds."""
    root.mkdir(parents=True, exist_ok=True)
    rows: list[ShardRow] = []
    shards = []
    for part, split in enumerate(SPLITS):
        path = root / (f"tiny-all-{part:06d}.tar" if folds else f"tiny-{split}-000000.tar")
        with open_shard_writer(path) as writer:
            for number in range(3 * part, 3 * part + 3):
                fold_splits = ("test", "train") if number % 3 else ("train", "test")
                description = (
                    describe(number, VIDEOS[f"video-{number}"], "all", fold_splits)
                    if folds
                    else describe(number, VIDEOS[f"video-{number}"], split)
                )
                writer.write(f"video-{number}", VIDEOS[f"video-{number}"], description)
        shard_rows = index_shard(path)
        rows += shard_rows
        shards.append(
            ShardFile(path.name, "all" if folds else split, len(shard_rows), path.stat().st_size, file_sha256(path))
        )
    write_dataset(root, "tiny", rows, shards, CLASSES, ["0", "1"] if folds else [], {"short_side": 32}, {"av": "0"})
    return rows
