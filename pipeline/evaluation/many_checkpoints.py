"""Several checkpoints on one split, or one a fold on all folds: results of each, and what they say together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.dataset.open_dataset import open_manifest
from lightning_modules.tasks.saved_network import read_checkpoint
from pipeline.cli.terminal import say
from pipeline.evaluation.compare import COMPARISON_NAME, compare_judged, print_comparison, write_comparison
from pipeline.evaluation.score_checkpoint import Scoring, open_checkpoint_and_data, score_checkpoint
from pipeline.inference.output_paths import default_folder, distinct_names, folder_of_folds
from pipeline.metrics.accuracy import write_report
from pipeline.metrics.folds import checkpoint_of_fold, fold_summary_lines, over_folds, print_folds
from pipeline.metrics.predictions import REPORT_NAME
from pipeline.metrics.scored_videos import ScoredVideos, concatenate
from pipeline.report.write_results import FILES, write_results


def evaluate_many(
    checkpoints: Sequence[Path], data: Path, split: str, fold: str | None, out: Path | None, how: Scoring
) -> None:
    """Each in a folder of its own, then all others compared with the first."""
    folders = [default_folder(path, split, fold) for path in checkpoints]
    if out is not None:
        folders = [out / name for name in distinct_names(checkpoints)]
    for path, folder in zip(checkpoints, folders, strict=True):
        open_checkpoint_and_data(
            path, data, split, fold, folder, how
        )  # what is refused is refused before the first is scored
    scored = [
        (path, score_checkpoint(path, data, split, fold, folder, how))
        for path, folder in zip(checkpoints, folders, strict=True)
    ]
    first = scored[0][1]
    for (path, one), folder in zip(scored[1:], folders[1:], strict=True):
        if first is not None and one is not None:
            names = {"first": str(checkpoints[0]), "second": str(path)}
            comparison = names | compare_judged(first.judged, one.judged, how.seed)
            write_comparison(folder / COMPARISON_NAME, comparison)
            say()
            print_comparison(comparison)
            say(f"wrote {folder / COMPARISON_NAME}")


def evaluate_folds(checkpoints: Sequence[Path], data: Path, split: str, out: Path | None, how: Scoring) -> None:
    """Every fold in a folder of its own, then mean and spread; all their videos as one where no two folds share any."""
    folds = open_manifest(data).folds
    trained_in = {path: fold_trained_in(path) for path in checkpoints} if len(checkpoints) > 1 else {}
    chosen = {fold: checkpoint_of_fold(checkpoints, fold, trained_in) for fold in folds}
    folder = out or folder_of_folds(checkpoints[0], split)
    for fold, path in chosen.items():
        open_checkpoint_and_data(path, data, split, fold, folder / f"fold-{fold}", how)  # likewise
    scored = {
        fold: score_checkpoint(path, data, split, fold, folder / f"fold-{fold}", how) for fold, path in chosen.items()
    }
    done = {fold: one for fold, one in scored.items() if one is not None}
    if not done:  # not the first rank
        return
    summary = over_folds({fold: one.report for fold, one in done.items()})
    first = next(iter(done.values()))
    dataset = first.judged.provenance["dataset"]
    pooled = pool_folds({fold: one.judged for fold, one in done.items()})
    if pooled is not None:
        more = {"notes": [fold_summary_lines(summary)], "views": first.report["views"], **summary}
        report = write_results(
            folder, pooled, f"{len(done)} folds on {dataset}, {split}", more, first.videos.index, how.seed
        )
    else:
        report = summary | {"provenance": {name: first.judged.provenance[name] for name in ("dataset", "split")}}
        write_report(folder / REPORT_NAME, report)
    print_folds(f"{dataset}, {split}, all folds", summary)
    for name in FILES if pooled is not None else (REPORT_NAME,):
        say(f"wrote {folder / name}")


def pool_folds(folds: dict[str, ScoredVideos]) -> ScoredVideos | None:
    """The videos of all folds as one result; None where two folds share a video."""
    many = list(folds.values())
    about = many[0].provenance
    total = sum(len(judged.keys) for judged in many)
    checkpoints = {fold: judged.provenance["checkpoint_sha256"] for fold, judged in folds.items()}
    overlaps = [judged.provenance["overlap"] for judged in many if judged.provenance["overlap"]]
    counts = {name: sum(overlap[name] for overlap in overlaps) for name in ("videos", "content", "groups")}
    same = (
        "model", "dataset", "dataset_identity", "rendition", "split", "sampling", "decoder", "scores", "protocol",
        "average", "training_videos_known", "classes", "versions",
    )  # fmt: skip
    provenance: dict[str, Any] = {name: about[name] for name in same}
    provenance |= {"checkpoints_sha256": checkpoints, "overlap": counts | {"of": total} if overlaps else None}
    return concatenate(many, provenance)


def fold_trained_in(path: Path) -> str | None:
    """The fold that a checkpoint was trained in, where it says so."""
    for state in read_checkpoint(path).values():
        if isinstance(state, dict) and isinstance(state.get("dataset"), dict):
            fold: str | None = state["dataset"].get("fold")
            return fold
    return None
