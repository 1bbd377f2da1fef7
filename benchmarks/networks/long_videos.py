"""What classifying a long video costs, by its length: seconds of processor, and memory at the peak.

Each row is `classify` in a process of its own, on a made video; with --timeline a clip is looked at around each second.

    python benchmarks/networks/long_videos.py --checkpoint demo/runs/demo/last.ckpt --folder /tmp/long-videos
"""

import argparse
import os
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading

REPOSITORY = Path(__file__).resolve().parents[2]
_RATE = 25
# Container, encoder and size: of AVI no frame can be found without reading from the start.
_KINDS = {"avi": ("mpeg4", 320, 240), "mp4": ("libx264", 1280, 720)}


def make(path: Path, seconds: int) -> None:
    """A video of moving ramps, 25 frames a second."""
    codec, width, height = _KINDS[path.suffix[1:]]
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=_RATE, options={"preset": "ultrafast"} if codec == "libx264" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(_RATE * seconds):
            picture = np.stack([(x + 4 * number) % 256, (y + number) % 256, (x + y) % 256], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def measure(path: Path, checkpoint: Path, timeline: bool) -> tuple[float, float]:
    """Seconds of processor and GB of memory at the peak of one call of `classify`."""
    words = ["classify", str(path), "--checkpoint", str(checkpoint), *(["--timeline"] if timeline else [])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        assert process.stderr is not None
        raise SystemExit(process.stderr.read().decode(errors="replace").strip().splitlines()[-1])
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def main() -> None:
    """Prints a table with a row a length, container and kind of call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="file that `fit` wrote")
    parser.add_argument("--folder", type=Path, required=True, help="where the videos are made, and kept")
    parser.add_argument("--seconds", type=positive, nargs="+", default=[60, 120, 240], help="lengths of the videos")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print_heading("torch", "av")
    print("| container | call | video, s | processor, s | peak, GB |\n| --- | --- | --- | --- | --- |")
    for suffix, timeline, seconds in product(_KINDS, (False, True), arguments.seconds):
        path = arguments.folder / f"{seconds}.{suffix}"
        if not path.exists():
            make(path, seconds)
        processor, peak = measure(path, arguments.checkpoint, timeline)
        call = "--timeline" if timeline else "10 clips"
        print(f"| {suffix} | {call} | {seconds} | {processor:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
