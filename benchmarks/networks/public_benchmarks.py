"""Which accuracy do published weights with a linear classifier reach on public benchmarks, under their own protocols?

One command a row of docs/results.md. It packs the data set, exports the features and fits the classifier, for each of
the official splits, or with each person or sequence held out in turn; what is there already from another row is kept. C
is chosen by cross-validation inside the training part of each split. The row `i3d-chosen` chooses layers, normalization
and classifier in the same way, split by split; `i3d-and-frames` averages the probabilities of two rows. `--videos` is
the folder with the folders jhmdb, weizmann and ut_interaction, each with its list and its videos.

    python benchmarks/networks/public_benchmarks.py --row i3d-svm --dataset weizmann --videos DATA --folder /tmp/public
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main as pipeline
from pipeline.metrics.folds import print_folds, summarize_folds
from pipeline.metrics.scored_videos import read_scored_videos


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
    "jhmdb": Benchmark("jhmdb/splits", "jhmdb/videos", "--fps 25 --resize 224 --crop-size 224"),
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
    "i3d-layers-sqrt-svm": Row(
        "i3d-kinetics400-rgb", I3D, "--layer Mixed_4f Mixed_5b Mixed_5c --classifier svm --normalize signed_sqrt"
    ),
    "i3d-layers-sqrt-logistic": Row(
        "i3d-kinetics400-rgb", I3D, "--layer Mixed_4f Mixed_5b Mixed_5c --classifier logistic --normalize signed_sqrt"
    ),
    "i3d-logits-sqrt-svm": Row(
        "i3d-kinetics400-rgb", I3D, "--layer Mixed_4f Mixed_5b Mixed_5c Logits --classifier svm --normalize signed_sqrt"
    ),
}
FUSED = ("i3d-svm", "ten-frames-svm")
FUSION = "i3d-and-frames"  # the rows in FUSED, with equal weights
CHOICE = "i3d-chosen"  # in each split, the row of the I3D with the best cross-validated accuracy of its training part


def measure(row_name: str, dataset: str, videos: Path, folder: Path, precision: str = "32-true") -> Path:
    """Runs the commands of a row; returns the folder of its results.

    Args:
        row_name: key of `ROWS`.
        dataset: key of `BENCHMARKS`.
        videos: folder of the data sets.
        folder: folder for packed videos, features and results.
        precision: precision in which the features of the I3D are computed.
    """
    row, benchmark = ROWS[row_name], BENCHMARKS[dataset]
    shards, out = pack(dataset, videos, folder), folder / "results" / f"{dataset}-{row_name}"
    suffix = "-ten" if row.features is TEN_FRAMES else ""
    exported = folder / f"{dataset}-{row.checkpoint}{suffix}.parquet"
    clips = f"{benchmark.i3d} --precision {precision}" if row.features is I3D else ""
    run(
        "features",
        "",
        f"--checkpoint {row.checkpoint} --data {shards} --split all {row.features} {clips} --out {exported}",
    )
    run("linear", "", f"--features {exported} --data {shards} --fold all --C auto {row.linear} --out {out}")
    return out


def pack(dataset: str, videos: Path, folder: Path) -> Path:
    """Packs a data set as it is, unless an earlier row did; returns its folder."""
    shards, benchmark = folder / dataset, BENCHMARKS[dataset]
    if not (shards / "dataset.json").exists():
        lists, files = videos / benchmark.annotations, videos / benchmark.videos
        run("pack", str(shards), f"--annotations {lists} --videos {files} --copy")
    return shards


def measure_choice(dataset: str, videos: Path, folder: Path, precision: str) -> None:
    """Measures all rows of the I3D; in each split, takes the one that cross-validation of its training part prefers.

    What is held out has no part in the choice. Among equally good rows the first of `ROWS` is taken.

    Args:
        dataset: key of `BENCHMARKS`.
        videos: folder of the data sets.
        folder: folder for packed videos, features and results.
        precision: precision in which the features of the I3D are computed.
    """
    results = {
        name: measure(name, dataset, videos, folder, precision) for name, row in ROWS.items() if row.features is I3D
    }
    folds = DatasetIndex.open(str(folder / dataset)).folds
    chosen = {
        fold: max(results, key=lambda name: cross_validated_accuracy(results[name] / f"fold-{fold}")) for fold in folds
    }
    write_folds(CHOICE, dataset, folder, {fold: results[name] / f"fold-{fold}" for fold, name in chosen.items()})
    for fold, name in chosen.items():
        print(f"fold {fold}: {name}")


def measure_fusion(dataset: str, videos: Path, folder: Path, precision: str) -> None:
    """Measures the rows in `FUSED`, and the mean of their probabilities in each split.

    Args:
        dataset: key of `BENCHMARKS`.
        videos: folder of the data sets.
        folder: folder for packed videos, features and results.
        precision: precision in which the features of the I3D are computed.
    """
    results = [measure(name, dataset, videos, folder, precision) for name in FUSED]
    fused = {}
    for fold in DatasetIndex.open(str(folder / dataset)).folds:
        fused[fold] = folder / "results" / f"{dataset}-{FUSION}" / f"fold-{fold}"
        parts = " ".join(str(result / f"fold-{fold}") for result in results)
        run("fuse", "", f"--results {parts} --out {fused[fold]}")
    write_folds(FUSION, dataset, folder, fused)


def write_folds(row_name: str, dataset: str, folder: Path, results: dict[str, Path]) -> None:
    """Writes and prints mean and standard deviation over splits, from the folder of results of each."""
    report = summarize_folds({fold: read_scored_videos(result) for fold, result in results.items()})
    rows = {fold: result.parent.name for fold, result in results.items()}
    out = folder / "results" / f"{dataset}-{row_name}" / "report.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report | {"rows": rows}))
    print_folds(f"{row_name}, {dataset}", report)


def cross_validated_accuracy(result: Path) -> float:
    """The accuracy of the C that was chosen, in the cross-validation of the training part: in [0, 1]."""
    report = json.loads((result / "report.json").read_text())
    return max(report["cross_validation"].values())


def run(verb: str, place: str, options: str) -> None:
    """Runs a command of the pipeline; ends the program where it fails."""
    words = [verb, *([place] if place else []), *options.split()]
    print("python -m pipeline", *words, flush=True)
    if status := pipeline(words):
        sys.exit(status)


def main() -> None:
    """Measures one row on one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=[*ROWS, CHOICE, FUSION], required=True)
    parser.add_argument("--dataset", choices=BENCHMARKS, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--folder", type=Path, required=True, help="for packed videos, features and results")
    parser.add_argument(
        "--precision", default="32-true", help="of the I3D; bf16-mixed is faster where there are bf16 units"
    )
    options = parser.parse_args()
    began = time.monotonic(), time.process_time()
    if options.row in (CHOICE, FUSION):
        measure_several = measure_choice if options.row == CHOICE else measure_fusion
        measure_several(options.dataset, options.videos, options.folder, options.precision)
    else:
        measure(options.row, options.dataset, options.videos, options.folder, options.precision)
    elapsed, computed = time.monotonic() - began[0], time.process_time() - began[1]
    print(f"{elapsed:.0f} s, {computed:.0f} s of them on the processor, loader processes not counted")


if __name__ == "__main__":
    main()
