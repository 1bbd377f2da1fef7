"""Which accuracy do published weights with a linear classifier reach on public benchmarks, under their own protocols?

One command a row of docs/results.md. It packs the data set, exports the features and fits the classifier, for each of
the official splits, or with each person or sequence held out in turn; what is there already from another row is kept. C
is chosen by cross-validation inside the training part of each split. `--videos` is the folder with the folders jhmdb,
weizmann and ut_interaction, each with its list and its videos.

    python benchmarks/networks/public_benchmarks.py --row i3d-svm --dataset weizmann --videos DATA --folder /tmp/public
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from pipeline.__main__ import main as pipeline


class Benchmark(NamedTuple):
    """A data set: its list or folder of lists, the folder that their paths start from, and how the I3D reads it."""

    annotations: str
    videos: str
    i3d: str


class Row(NamedTuple):
    """A row of the table: the published weights with their options of `features`, and the options of `linear`."""

    checkpoint: str
    features: str
    linear: str


I3D = "--layer Mixed_4f Mixed_5b Mixed_5c Logits --pool mean_max --whole --num-frames 16"
FRAMES = "--num-clips 3 --num-frames 1"
TEN_FRAMES = "--num-clips 10 --num-frames 1"
BENCHMARKS = {
    "jhmdb": Benchmark("jhmdb/splits", "jhmdb/videos", "--fps 25 --resize 160 --crop-size 160"),
    "weizmann": Benchmark("weizmann/annotations.csv", "weizmann", "--fps 25 --resize 224 --crop-size 224"),
    "ut1": Benchmark(
        "ut_interaction/annotations_set1.csv", "ut_interaction", "--fps 12.5 --resize 224 --crop-size 224"
    ),
    "ut2": Benchmark(
        "ut_interaction/annotations_set2.csv", "ut_interaction", "--fps 12.5 --resize 224 --crop-size 224"
    ),
}
ROWS = {
    "frames-svm": Row("mobilenetv2-imagenet", FRAMES, "--classifier svm"),
    "frames-logistic": Row("mobilenetv2-imagenet", FRAMES, "--classifier logistic"),
    "ten-frames-svm": Row("mobilenetv2-imagenet", TEN_FRAMES, "--classifier svm"),
    "i3d-svm": Row("i3d-kinetics400-rgb", I3D, "--layer Mixed_5c --classifier svm"),
    "i3d-logistic": Row("i3d-kinetics400-rgb", I3D, "--layer Mixed_5c --classifier logistic"),
    "i3d-layers-svm": Row("i3d-kinetics400-rgb", I3D, "--layer Mixed_4f Mixed_5b Mixed_5c --classifier svm"),
}


def measure(row_name: str, dataset: str, videos: Path, folder: Path) -> dict[str, object]:
    """Runs the commands of a row; returns the report of `linear` over all folds.

    Args:
        row_name: key of `ROWS`.
        dataset: key of `BENCHMARKS`.
        videos: folder of the data sets.
        folder: folder for packed videos, features and results.
    """
    row, benchmark = ROWS[row_name], BENCHMARKS[dataset]
    shards, out = folder / dataset, folder / "results" / f"{dataset}-{row_name}"
    suffix = "-ten" if row.features is TEN_FRAMES else ""
    exported = folder / f"{dataset}-{row.checkpoint}{suffix}.parquet"
    if not (shards / "dataset.json").exists():
        lists, files = videos / benchmark.annotations, videos / benchmark.videos
        run("pack", str(shards), f"--annotations {lists} --videos {files} --copy")
    clips = benchmark.i3d if row.features is I3D else ""
    run(
        "features",
        "",
        f"--checkpoint {row.checkpoint} --data {shards} --split all {row.features} {clips} --out {exported}",
    )
    run("linear", "", f"--features {exported} --data {shards} --fold all --C auto {row.linear} --out {out}")
    report: dict[str, object] = json.loads((out / "report.json").read_text())
    return report


def run(verb: str, place: str, options: str) -> None:
    """Runs a command of the pipeline; ends the program where it fails."""
    words = [verb, *([place] if place else []), *options.split()]
    print("python -m pipeline", *words, flush=True)
    if status := pipeline(words):
        sys.exit(status)


def main() -> None:
    """Measures one row on one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, required=True)
    parser.add_argument("--dataset", choices=BENCHMARKS, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--folder", type=Path, required=True, help="for packed videos, features and results")
    options = parser.parse_args()
    began = time.monotonic(), time.process_time()
    measure(options.row, options.dataset, options.videos, options.folder)
    elapsed, computed = time.monotonic() - began[0], time.process_time() - began[1]
    print(f"{elapsed:.0f} s, {computed:.0f} s of them on the processor, loader processes not counted")


if __name__ == "__main__":
    main()
