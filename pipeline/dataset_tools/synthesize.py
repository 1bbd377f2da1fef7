"""`python -m pipeline synthesize`: generates the synthetic dataset of the demo and the tests."""

import time
from pathlib import Path

from datamodules.encoding import synthetic_dataset
from datamodules.encoding.synthetic_scenes import MOTIONS
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.processes.machine import num_processors


def synthesize(
    root: Path,
    seed: int = 0,
    train: int = 30,
    val: int = 5,
    test: int = 10,
    num_frames: int = 36,
    width: int = 128,
    height: int = 96,
    fps: float = 25.0,
    processes: int | None = None,
) -> None:
    """Make a Kinetics-style dataset of generated mp4 videos whose eight classes differ by motion alone.

    Writes root/videos/<class>/<id>_<start>_<end>.mp4 and root/{train,val,test}.csv in the official Kinetics format. The
    same arguments give the same bytes. An earlier output of this command is replaced; a folder with other content is
    refused.

    Args:
        root: folder to write to.
        seed: seed of the random generator.
        train: training videos per class.
        val: validation videos per class.
        test: test videos per class.
        num_frames: frames of a video.
        width: width of a video in pixels, even.
        height: height of a video in pixels, even.
        fps: frames per second.
        processes: number of processes that draw and encode, which does not change the result; default: one for each
            processor, fewer for few videos.
    """
    began = time.monotonic()
    processes = num_processors() if processes is None else processes
    with count_progress("synthesize", (train + val + test) * len(MOTIONS), "videos") as count:
        written = synthetic_dataset.make_synthetic_dataset(
            root, seed, train, val, test, num_frames, width, height, fps, processes=processes, progress=count
        )
    splits = ", ".join(f"{split} {count}" for split, count in written.videos.items())
    print_text(
        f"wrote {sum(written.videos.values())} videos ({splits}) of {len(MOTIONS)} classes, "
        f"{written.num_bytes / 1e6:.1f} MB, to {root} in {time.monotonic() - began:.0f} s"
    )
