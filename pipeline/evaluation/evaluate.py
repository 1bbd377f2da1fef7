"""`python -m pipeline evaluate`: checkpoints on a split they have not seen, several views a video, every video once."""

from dataclasses import replace
from pathlib import Path

from datamodules.dataset.open_dataset import open_manifest
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.evaluation.many_checkpoints import evaluate_folds, evaluate_many
from pipeline.evaluation.score_checkpoint import score_checkpoint
from pipeline.inference.output_paths import default_folder
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.protocols import with_protocol
from pipeline.metrics.predictions import PREDICTIONS_NAME

ALL_FOLDS = "all"


def evaluate(options: EvaluateOptions) -> None:
    """Score checkpoints on a held-out split of a packed dataset, several views a video.

    Clips are like those of the training unless options say otherwise. Written to `out`: report.html, a page to read;
    report.json; per_class.csv; and predictions.parquet, a row a video with all its scores. Several checkpoints get a
    folder each, and are compared with the first; so do the folds of `--fold all`, with mean and spread over them. An
    evaluation that was stopped goes on where it stood when the same command is run again, with the same result.

    Args:
        options: which checkpoints on which videos, and how.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint, dataset, split, fold or clips do not go together, or the checkpoint has seen the
            videos.
        DecodeError: a video cannot be decoded; what is done is kept in OUT/predictions.parquet.parts.
    """
    options = replace(options, **with_protocol(options.protocol, "evaluate", vars(options)))
    fold, split = options.fold, options.split
    checkpoints = [options.checkpoint] if isinstance(options.checkpoint, Path) else options.checkpoint
    if fold == ALL_FOLDS and open_manifest(options.data).folds:
        folders = evaluate_folds(checkpoints, options)
    elif len(checkpoints) == 1:
        folder = options.out or default_folder(checkpoints[0], split, fold)
        folders = [folder] if score_checkpoint(checkpoints[0], fold, folder, options) else []
    else:
        folders = evaluate_many(checkpoints, options)
    for folder in folders:  # not before the whole command is done, which would else begin anew
        remove_parts(folder / PREDICTIONS_NAME)
