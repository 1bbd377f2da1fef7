"""Results of an evaluation of all folds: mean and standard deviation over folds, and the results of pooled videos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.cli.terminal import print_text
from pipeline.metrics.accuracy import write_report
from pipeline.metrics.folds import fold_summary_sentence, pool_folds, print_folds, summarize_folds
from pipeline.metrics.predictions import REPORT_NAME
from pipeline.metrics.scored_videos import ScoredVideos
from pipeline.report.write_results import FILES, write_results


def write_fold_results(
    folder: Path,
    folds: Mapping[str, ScoredVideos],
    title: str,
    extra: Mapping[str, Any],
    videos: DatasetIndex | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes report.json with mean and standard deviation; where no two folds share a video, all files of the pool.

    Args:
        folder: folder of the files.
        folds: the scores of the videos that each fold holds out, by the fold's name.
        title: title of the page and of the printed table.
        extra: plain data to add to report.json; `notes` are sentences on top of the page, `provenance` is merged with
            the entries that are equal in the provenance of all folds, which take precedence.
        videos: the dataset, for previews of mistakes; None: they are shown without pictures.
        seed: seed of the bootstrap of confidence intervals.

    Returns:
        The content of report.json.
    """
    report: dict[str, Any] = {**summarize_folds(folds), **extra}
    pooled = pool_folds(folds)
    if pooled is None:
        write_report(folder / REPORT_NAME, report)
    else:
        pooled = pooled._replace(provenance={**extra.get("provenance", {}), **pooled.provenance})
        notes = [fold_summary_sentence(report), *extra.get("notes", ())]
        report = write_results(folder, pooled, title, report | {"notes": notes}, videos, seed)
    print_folds(title, report)
    for name in (REPORT_NAME,) if pooled is None else FILES:
        print_text(f"wrote {folder / name}")
    return report


def fold_folders(folder: Path) -> dict[str, Path]:
    """The folders with the results of single folds, by the fold's name, numbers by value; none where there are none."""
    found = [path for path in folder.glob("fold-*") if path.is_dir()]
    return {
        path.name.removeprefix("fold-"): path for path in sorted(found, key=lambda path: (len(path.name), path.name))
    }
