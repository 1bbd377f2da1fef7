"""The sides that `benchmarks/loading/loader.py` compares: this project's loader, its peers, and the goals.

Each side runs in a process of its own (`SideProcess`), which is given a job as JSON.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.loading.loader_data import repeated
from datamodules.datamodule import ShardedVideoDataModule

CLIPS = {"64 x 224": (64, 224, 256), "16 x 112": (16, 112, 128)}  # frames, side, stored short side
CLIP_FACTORS = {"64 x 224": 1, "16 x 112": 4}  # turns of about the same length
OWN = ("ours, rgb", "ours, i420", "ours, rgb, 4 clips a video", "ours, i420, 4 clips a video")
OWN_VARIANTS = ("ours, rgb, packed at 256", "ours, rgb, original files")
BARE = "FFmpeg's bare decoding (ratio: our share of it)"
GOALS = {  # the least ratio to `ours, rgb`, in seconds of the processor
    "(a) mmaction2, original files": {"64 x 224": 8.0, "16 x 112": 20.0},
    "(b) mmaction2, packed videos": dict.fromkeys(CLIPS, 3.0),
    "(c) webdataset + decord": dict.fromkeys(CLIPS, 1.3),
    "(d) torchcodec's sampler": dict.fromkeys(CLIPS, 1.3),
    BARE: dict.fromkeys(CLIPS, 0.6),
}
NAMES = (*OWN, *OWN_VARIANTS, *GOALS)


class Side(NamedTuple):
    """A loader to measure: its name in the table, and what its process is told."""

    name: str
    job: dict[str, Any]


def own_data(job: dict[str, Any]) -> ShardedVideoDataModule:
    """This project's side, which reads in the process that asks it."""
    return ShardedVideoDataModule(
        job["root"],
        batch_size=job["batch"] // job["clips_per_video"],
        clips_per_video=job["clips_per_video"],
        num_frames=job["frames"],
        crop_size=job["size"],
        resize=job["short_side"],
        train_split=job["split"],
        val_split=None,
        decoder="pyav",
        pixels=job["pixels"],
        num_workers=0,
        **job["options"],
    )


def own_batches(job: dict[str, Any]) -> Iterator[int]:
    """Batches of this project, the epochs one after the other."""
    data = own_data(job)
    device, loader = torch.device(job["device"]), data.train_dataloader()
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            if device.type == "cuda":
                moved = batch._replace(clips=batch.clips.to(device, non_blocking=True))
                data.on_after_batch_transfer(moved, 0)
                torch.cuda.synchronize()
            assert batch.pixel_format == job["pixels"], "such videos travel in RGB, and are not what is measured"
            yield len(batch.clips)


def time_conversion(job: dict[str, Any]) -> float:
    """Seconds of the processor that turning a clip's planes into RGB takes on one core, the best of a few times."""
    data, seconds = own_data(job), []
    batch = next(iter(data.train_dataloader()))
    for _ in range(5):
        began = time.process_time()
        data.on_after_batch_transfer(batch, 0)
        seconds.append((time.process_time() - began) / len(batch.clips))
    return min(seconds)


def sides(options: argparse.Namespace, folder: Path, name: str, originals: list[str]) -> Iterator[Side]:
    """What is compared for one size of clips of one dataset."""
    frames, size, short_side = CLIPS[options.clip]
    root = repeated(folder, name, options.copies, short_side)
    (tar, *_), split = sorted(root.glob("*.tar")), "val" if name == "kinetics" else "train"
    same = {
        "frames": frames, "size": size, "short_side": short_side, "batch": 8, "tar": str(tar), "split": split,
        "videos": [str(path) for path in sorted((root / "videos").glob("*.mp4"))],
        "root": str(root), "device": options.device, "options": {"sided_classes": "keep"}, "clips_per_video": 1,
    }  # fmt: skip
    for own in OWN:
        several = {"clips_per_video": 4} if "4 clips" in own else {}
        yield Side(own, same | {"side": "ours", "pixels": "i420" if "i420" in own else "rgb", **several})
    ours = same | {"side": "ours", "pixels": "rgb"}
    if short_side == 128:
        yield Side(OWN_VARIANTS[0], ours | {"root": str(repeated(folder, name, options.copies, 256))})
    yield Side(OWN_VARIANTS[1], ours | {"root": str(folder / f"{name}-copied")})
    others = ("mmaction2", "mmaction2", "webdataset", "torchcodec", "bare")
    for name_of_side, other in zip(GOALS, others, strict=True):
        files = {"videos": originals} if "original" in name_of_side else {}
        yield Side(name_of_side, same | {"side": other, **files})


def goal(side: str, clip: str, ratio: float) -> str:
    """What was to be reached, and whether it was; empty where there is no goal."""
    if side not in GOALS:
        return ""
    return f"{GOALS[side][clip]:g}, {'met' if ratio >= GOALS[side][clip] else 'missed'}"
