"""`python -m pipeline synthesize`: generates the synthetic dataset of the demo and the tests."""

import time
from dataclasses import dataclass
from pathlib import Path

from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.encoding.synthetic_scenes import MOTIONS
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.processes.machine import num_processors


@dataclass(frozen=True)
class SynthesizeOptions(SyntheticDatasetOptions):
    """Options of `synthesize`.

    Attributes:
        root: folder to write to.
        processes: number of processes that draw and encode, which does not change the result; default: one for each
            processor, fewer for few videos.
    """

    root: Path
    processes: int | None = None

    def check(self) -> None:
        """Raises ValueError if there is no process."""
        self.require_at_least(1, "processes")


def synthesize(options: SynthesizeOptions) -> None:
    """Make a Kinetics-style dataset of generated mp4 videos whose eight classes differ by motion alone.

    Writes root/videos/<class>/<id>_<start>_<end>.mp4 and root/{train,val,test}.csv in the official Kinetics format, and
    with `--long` root/long/long_<number>.mp4 and root/long.csv, a list of segments. The
    same options give the same bytes. An earlier output of this command is replaced; a folder with other content is
    refused.

    Args:
        options: folder, number and size of the videos.

    Raises:
        ValueError: the folder has other content.
    """
    began = time.monotonic()
    processes = num_processors() if options.processes is None else options.processes
    total = sum(options.videos_per_class.values()) * len(MOTIONS) + options.long
    with count_progress("synthesize", total, "videos") as count:
        written = make_synthetic_dataset(options.root, options, processes, progress=count)
    splits = ", ".join(f"{split} {count}" for split, count in written.videos.items())
    print_text(
        f"wrote {sum(written.videos.values())} videos ({splits}) of {len(MOTIONS)} classes, "
        f"{written.num_bytes / 1e6:.1f} MB, to {options.root} in {time.monotonic() - began:.0f} s"
    )
