"""How long linear classifiers take on features of many videos and classes, beside scikit-learn's.

    OMP_NUM_THREADS=2 python -m benchmarks.networks.linear --rows 100000 --classes 400 --sklearn-classes 4

LinearSVC fits its classes one after the other: its time for all is that for `--sklearn-classes` of them, in proportion.
Both are given the same made features, which look like those of a network: not negative, around a center for each class.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import above_zero, not_negative, positive, print_heading
from pipeline.linear.classifiers import ClassifierFitter, normalize_l2
from pipeline.linear.feature_blocks import FeatureRows


def make_features(
    rows: int, dimension: int, classes: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (M, D), normalized, and labels (M,); a nearest-center rule makes mistakes on them."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, dimension)).astype(np.float32)
    labels = generator.integers(0, classes, rows)
    features = np.empty((rows, dimension), np.float32)
    for first in range(0, rows, 10_000):
        here = labels[first : first + 10_000]
        noise = generator.normal(size=(len(here), dimension)).astype(np.float32)
        features[first : first + 10_000] = normalize_l2(np.maximum(0, 0.15 * centers[here] + noise))
    return features, labels


def main() -> None:
    """Prints a line for each classifier."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 100_000), ("dimension", 1024), ("classes", 400), ("sklearn-classes", 4)):
        parser.add_argument(f"--{name}", type=not_negative if name == "sklearn-classes" else positive, default=default)
    parser.add_argument("--C", type=above_zero, default=1.0)
    options = parser.parse_args()
    if options.classes < 2 or options.rows < 10 * options.classes:
        parser.error(f"--rows {options.rows} --classes {options.classes}: must be 10 rows a class, 2 classes or more")
    if options.sklearn_classes > options.classes:
        parser.error(f"--sklearn-classes {options.sklearn_classes}: must be at most --classes {options.classes}")
    print_heading("torch", "numpy", "scikit-learn")
    x, labels = make_features(options.rows, options.dimension, options.classes)
    test, truth = make_features(options.rows // 10, options.dimension, options.classes, seed=1)
    for kind in ("svm", "logistic"):
        began, used = time.perf_counter(), time.process_time()
        fitted = ClassifierFitter(kind, FeatureRows.from_array(x), labels, options.classes).fit(options.C)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        scores = fitted.scores(FeatureRows.from_array(test))
        accuracy, memory = (scores.argmax(1) == truth).mean(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{kind}: {seconds:.1f} s, {processor:.1f} s of processor, {fitted.passes} passes, "
            f"converged {fitted.converged}, top-1 {accuracy:.4f}, {memory:.1f} GB at most",
            flush=True,
        )
        if kind == "svm" and options.sklearn_classes:
            _time_sklearn(x, labels, test, scores, options, processor)


def _time_sklearn(
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    scores: NDArray[np.float32],
    options: argparse.Namespace,
    ours: float,
) -> None:
    from sklearn.svm import LinearSVC

    began = time.process_time()
    wide, worst = x.astype(np.float64), 0.0
    for label in range(options.sklearn_classes):
        model = LinearSVC(C=options.C, dual="auto").fit(wide, labels == label)
        worst = max(worst, float(np.abs(model.decision_function(test) - scores[:, label]).max()))
    seconds = time.process_time() - began
    whole = seconds * options.classes / options.sklearn_classes
    print(
        f"LinearSVC: {seconds:.1f} s of processor for {options.sklearn_classes} of {options.classes} classes, "
        f"{whole:.1f} s in proportion: ours is {whole / ours:.1f} times faster; margins differ by {worst:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
