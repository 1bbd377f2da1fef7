"""`python -m pipeline fuse`: late fusion, the weighted mean of the scores of several results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from datamodules.annotations.records import Task
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.plain_text import printable
from pipeline.cli.terminal import print_text
from pipeline.evaluation.evaluate_options import Average
from pipeline.inference.output_paths import refuse_unwritable_folder
from pipeline.inference.provenance import library_versions
from pipeline.metrics.accuracy import print_report
from pipeline.metrics.scored_videos import ScoredVideos, align, read_scored_videos
from pipeline.report.fold_results import fold_folders, write_fold_results
from pipeline.report.write_results import FILES, write_results

_MIN_PROBABILITY = 1e-30  # lower bound of a probability before its logarithm
_MIN_ODDS = 1e-7  # distance of a probability from 0 and 1 before its log-odds, about that of float32 from 1


def fuse(
    results: list[str],
    out: Path,
    weights: list[float] | None = None,
    average: Average = "probabilities",
    common: bool = False,
    data: Path | None = None,
    seed: int = 0,
) -> None:
    """Fuse the scores of several results on the same videos, such as two streams, and report what that gives.

    With several labels a video the report is of mean average precision. Folders of `evaluate --fold all` are fused fold
    by fold, with mean and spread over the folds.

    Written to `out`, as by `evaluate`: predictions.parquet, report.json, per_class.csv and report.html.

    Args:
        results: folders that `evaluate`, `linear` or `fuse` wrote, or their predictions.parquet.
        out: folder for the results.
        weights: one weight for each result; default: equal weights.
        average: probabilities; or logits, the weighted sum of the logarithms, as in I3D's two streams; with several
            labels a video, of the log-odds.
        common: fuse the videos that all results have, and leave out the others.
        data: folder of the packed dataset, for previews of mistakes on the page.
        seed: seed of the bootstrap's samples.

    Raises:
        FileNotFoundError: the predictions do not exist.
        ValueError: fewer than two results, invalid weights, scores of different scales, or different videos, labels,
            classes or folds.
    """
    if len(results) < 2:
        raise ValueError(f"results={results}: give at least two")
    refuse_unwritable_folder(out)
    shares = _normalize_weights(weights, len(results))
    videos = None if data is None else DatasetIndex.open(data)
    names = [str(path) for path in results]
    folds = _common_folds(names)
    if folds:
        parts = {
            fold: _fuse_results([f"{name}/fold-{fold}" for name in names], shares, average, common) for fold in folds
        }
        _write_folds(out, parts, videos, seed)
    else:
        scored, title, notes = _fuse_results(names, shares, average, common)
        report = write_results(out, scored, title, {"notes": notes}, videos, seed)
        print_report(title, report, {}, [out / name for name in FILES])
        if report["missing"]:
            lost = ", ".join(map(printable, report["missing"]))
            print_text(f"without scores in one of them, so counted as wrong: {lost}")
    for share, name in zip(shares, names, strict=True):
        print_text(f"{share:.0%} of {name}")


def _common_folds(results: Sequence[str]) -> list[str]:
    """The folds that each of the results has a folder of; none where one of the results is not of folds.

    Raises:
        ValueError: the results are of different folds.
    """
    folds = [list(fold_folders(Path(path))) for path in results]
    if not all(folds):
        return []
    for name, found in zip(results, folds, strict=True):
        if found != folds[0]:
            raise ValueError(
                f"{results[0]} has the folds {', '.join(folds[0])}, and {name} has {', '.join(found)}: evaluate the "
                "same folds, or give the folder of one fold of each"
            )
    return folds[0]


class _Fused(NamedTuple):
    scored: ScoredVideos
    title: str
    notes: list[str]


def _fuse_results(names: Sequence[str], shares: Sequence[float], average: Average, common: bool) -> _Fused:
    scored_results = align([read_scored_videos(Path(name)) for name in names], names, common)
    scale = _common_scale(scored_results, names, average)
    first = scored_results[0]
    scores = fused_scores(
        [np.asarray(scored.scores) for scored in scored_results],
        shares,
        average if scale == "probability" else None,
        first.task,
    )
    provenance = _provenance(scored_results, names, shares) | {"scores": scale, "average": average}
    scored = ScoredVideos(scores, first.labels, first.class_names, first.keys, first.groups, provenance)
    return _Fused(scored, f"{len(names)} fused on {_subject(first)}", _notes(scored_results, names))


def _subject(scored: ScoredVideos) -> str:
    source = scored.provenance
    return f"{source.get('dataset', 'the same videos')}, {source.get('split', '')}".rstrip(", ")


def _write_folds(out: Path, parts: Mapping[str, _Fused], videos: DatasetIndex | None, seed: int) -> None:
    for fold, part in parts.items():
        write_results(out / f"fold-{fold}", part.scored, part.title, {"notes": part.notes}, videos, seed)
    notes = [f"Fold {fold}: {note}" for fold, part in parts.items() for note in part.notes]
    title = f"{next(iter(parts.values())).title}, {len(parts)} folds"
    write_fold_results(out, {fold: part.scored for fold, part in parts.items()}, title, {"notes": notes}, videos, seed)


def fused_scores(
    scores: Sequence[NDArray[Any]], shares: Sequence[float], average: Average | None, task: Task = "single_label"
) -> NDArray[np.float32]:
    """Computes the weighted mean of scores.

    Args:
        scores: scores of each result, float (M, K), for the same videos; NaN in one result gives NaN.
        shares: weight of each result; they sum to 1.
        average: `probabilities`; `logits` for the softmax of the mean of logarithms, or the sigmoid of the mean of
            log-odds; None for scores of another scale.
        task: `multi_label` for log-odds.

    Returns:
        float32 (M, K).
    """
    if average != "logits":
        return np.asarray(
            sum(share * probabilities for share, probabilities in zip(shares, scores, strict=True)), dtype=np.float32
        )
    if task == "multi_label":
        odds = sum(
            share * logit(np.clip(probabilities.astype(np.float64), _MIN_ODDS, 1 - _MIN_ODDS))
            for share, probabilities in zip(shares, scores, strict=True)
        )
        return np.asarray(expit(odds), dtype=np.float32)
    logits = sum(
        share * np.log(np.maximum(probabilities, _MIN_PROBABILITY))
        for share, probabilities in zip(shares, scores, strict=True)
    )
    powers = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _normalize_weights(weights: list[float] | None, count: int) -> list[float]:
    chosen = [1.0] * count if weights is None else weights
    if len(chosen) != count:
        raise ValueError(f"weights={chosen}: {len(chosen)} for {count} results; give one for each")
    if min(chosen) < 0 or not 0 < sum(chosen) < float("inf"):
        raise ValueError(f"weights={chosen}: must be at least 0, and not all 0")
    return [weight / sum(chosen) for weight in chosen]


def _common_scale(scored_results: Sequence[ScoredVideos], names: Sequence[str], average: Average) -> str:
    scales = [str(scored.provenance.get("scores")) for scored in scored_results]
    if len(set(scales)) > 1:
        described = ", ".join(f"{name} has {scale}" for name, scale in zip(names, scales, strict=True))
        raise ValueError(
            f"scores of different scales cannot be averaged: {described}; use `linear --classifier logistic`"
        )
    if average == "logits" and scales[0] != "probability":
        raise ValueError(f"average='logits': the scores are of the scale {scales[0]!r}, not probabilities")
    return scales[0]


def _provenance(
    scored_results: Sequence[ScoredVideos], names: Sequence[str], shares: Sequence[float]
) -> dict[str, Any]:
    first = scored_results[0].provenance
    shared = {
        name: first.get(name) for name in ("dataset", "dataset_identity", "split", "fold", "split_file", "decoder")
    }
    shared["task"] = scored_results[0].task
    fused = [
        {
            "results": name,
            "share": share,
            **{field: scored.provenance.get(field) for field in ("checkpoint", "checkpoint_sha256", "model")},
        }
        for scored, name, share in zip(scored_results, names, shares, strict=True)
    ]
    overlaps = [scored.provenance["overlap"] for scored in scored_results if scored.provenance.get("overlap")]
    largest_overlap = max(overlaps, key=lambda overlap: (overlap["videos"], overlap["groups"]), default=None)
    added = {
        "fused": fused,
        "overlap": largest_overlap,
        "classes": list(scored_results[0].class_names),
        "versions": library_versions(),
    }
    return shared | added


def _notes(scored_results: Sequence[ScoredVideos], names: Sequence[str]) -> list[str]:
    unknown = [
        name
        for scored, name in zip(scored_results, names, strict=True)
        if not scored.provenance.get("training_videos_known", True)
    ]
    return [f"What was trained on is not known for {', '.join(unknown)}."] if unknown else []
