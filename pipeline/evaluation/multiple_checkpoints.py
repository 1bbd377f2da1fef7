"""Evaluation of several checkpoints on one split, or of one checkpoint per fold on all folds."""

from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from datamodules.dataset.open_dataset import open_manifest
from datamodules.splits.split_file import read_split_file
from lightning_modules.weights.checkpoint_file import read_checkpoint, training_dataset
from pipeline.cli.terminal import print_text
from pipeline.evaluation.compare import COMPARISON_NAME, compare_results, print_comparison, write_comparison
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.evaluation.score_checkpoint import open_checkpoint_and_data, score_checkpoint
from pipeline.exported_models.open_model import dataset_of_model, is_model_folder
from pipeline.inference.output_paths import default_folder, default_folds_folder, distinct_names
from pipeline.inference.trained_split_file import trained_split_file
from pipeline.report.fold_results import write_fold_results


def evaluate_checkpoints(checkpoints: Sequence[Path], options: EvaluateOptions) -> list[Path]:
    """Evaluates each checkpoint into its own folder and compares all others with the first.

    Returns:
        The folders on rank 0; empty on others.
    """
    folders = [default_folder(path, options.split, options.fold) for path in checkpoints]
    if options.out is not None:
        folders = [options.out / name for name in distinct_names(checkpoints)]
    for path, folder in zip(checkpoints, folders, strict=True):  # what is refused is refused before the first is scored
        open_checkpoint_and_data(path, options.fold, folder, options)
    pairs = zip(checkpoints, folders, strict=True)
    scored = [score_checkpoint(path, options.fold, folder, options) for path, folder in pairs]
    first, *others = scored
    for path, other, folder in zip(checkpoints[1:], others, folders[1:], strict=True):
        if first is None or other is None:  # not the first rank
            return []
        names = {"first": str(checkpoints[0]), "second": str(path)}
        comparison = names | compare_results(first.scored, other.scored, options.seed)
        write_comparison(folder / COMPARISON_NAME, comparison)
        print_text()
        print_comparison(comparison)
        print_text(f"wrote {folder / COMPARISON_NAME}")
    return folders


def folds_to_evaluate(checkpoints: Sequence[Path], options: EvaluateOptions) -> list[str]:
    """The folds of the split file that is given, or that the first checkpoint was trained with, or of the dataset."""
    name = options.split_file
    for path in checkpoints if name is None else ():
        matching = glob(str(path).replace("{fold}", "*"))  # noqa: PTH207 - the path may be absolute
        found = [path] if path.exists() else sorted(map(Path, matching))
        name = name or next((trained_split_file(training_data(each), options.dataset) for each in found), None)
    split_file = None if name is None else read_split_file(name, options.dataset)
    return open_manifest(options.dataset).folds if split_file is None else split_file.folds


def evaluate_folds(checkpoints: Sequence[Path], folds: Sequence[str], options: EvaluateOptions) -> list[Path]:
    """Evaluates each fold into its own folder; reports mean and spread, and pooled results if folds share no videos.

    Returns:
        The folders of the folds on rank 0; empty on others.
    """
    split = options.split
    trained_folds = {path: training_fold(path) for path in checkpoints} if len(checkpoints) > 1 else {}
    chosen = {fold: checkpoint_of_fold(checkpoints, fold, trained_folds) for fold in folds}
    folder = options.out or default_folds_folder(checkpoints[0], split)
    folders = {fold: folder / f"fold-{fold}" for fold in folds}
    for fold, path in chosen.items():  # what is refused is refused before the first is scored
        open_checkpoint_and_data(path, fold, folders[fold], options)
    fold_results = {fold: score_checkpoint(path, fold, folders[fold], options) for fold, path in chosen.items()}
    results = {fold: result for fold, result in fold_results.items() if result is not None}
    if not results:  # not the first rank
        return []
    first = next(iter(results.values()))
    dataset = first.scored.provenance["dataset"]
    extra = {"views": first.report["views"], "provenance": {"dataset": dataset, "split": split}}
    title = f"{dataset}, {split}, {len(results)} folds"
    by_fold = {fold: result.scored for fold, result in results.items()}
    write_fold_results(folder, by_fold, title, extra, first.videos.index, options.seed)
    return list(folders.values())


def checkpoint_of_fold(checkpoints: Sequence[Path], fold: str, trained_folds: Mapping[Path, str | None]) -> Path:
    """Chooses the checkpoint to score on a fold.

    Args:
        checkpoints: one path, perhaps with `{fold}` in it; or several, one per fold.
        fold: name of the fold.
        trained_folds: the fold that each checkpoint was trained in; None if unknown.

    Raises:
        ValueError: no checkpoint, or more than one, was trained in this fold.
    """
    if len(checkpoints) == 1:
        return Path(str(checkpoints[0]).replace("{fold}", fold))
    matching = [path for path in checkpoints if trained_folds[path] == fold]
    if len(matching) != 1:
        described = ", ".join(f"{path} ({trained_folds[path]})" for path in checkpoints)
        raise ValueError(
            f"fold=all: {len(matching)} checkpoints were trained in fold {fold}, of {described}: give one a "
            "fold, or one path with {fold} in it"
        )
    return matching[0]


def training_fold(path: Path) -> str | None:
    """Returns the fold that a checkpoint was trained in; None if it does not record one."""
    fold: str | None = training_data(path).get("fold")
    return fold


def training_data(path: Path) -> dict[str, Any]:
    """Returns the description of the training data in a checkpoint or model; empty if it has none."""
    if is_model_folder(path):
        return dict(dataset_of_model(path))
    return training_dataset(read_checkpoint(path))
