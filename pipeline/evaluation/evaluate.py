"""`python -m pipeline evaluate`: multi-view evaluation of checkpoints on a held-out split, every video exactly once."""

from dataclasses import replace
from pathlib import Path

from pipeline.classify.network_choice import NetworkOptions
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.evaluation.multiple_checkpoints import evaluate_checkpoints, evaluate_folds, folds_to_evaluate
from pipeline.evaluation.score_checkpoint import score_checkpoint
from pipeline.inference.output_paths import default_folder
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.protocols import apply_protocol
from pipeline.inference.split_runner import is_launched_rank
from pipeline.localization.evaluate_timelines import evaluate_timelines
from pipeline.metrics.predictions import PREDICTIONS_NAME

ALL_FOLDS = "all"


def evaluate(options: EvaluateOptions) -> None:
    """Score checkpoints on a held-out split of a packed dataset, several views a video.

    Clip settings are those of training unless options are given. Written to `out`: report.html, a page to read;
    report.json; per_class.csv; and predictions.parquet, one row per video with all its scores. Several checkpoints get
    a folder each, and are compared with the first; the folds of `--fold all` get a folder each, with mean and spread
    over them. A stopped evaluation resumes when the same command is run again, with the same result.

    Args:
        options: checkpoints, videos and views.

    Raises:
        FileNotFoundError: the checkpoint or model does not exist.
        ValueError: the checkpoint, dataset, split, fold or clips do not fit together, or the checkpoint was trained on
            the videos.
        DecodeError: a video cannot be decoded; finished results are kept in OUT/predictions.parquet.parts.
    """
    if options.timeline:
        _evaluate_timelines(options)
        return
    options = replace(options, **apply_protocol(options.protocol, "evaluate", vars(options)))
    fold, split = options.fold, options.split
    checkpoints = options.networks
    if fold == ALL_FOLDS and (folds := folds_to_evaluate(checkpoints, options)):
        folders = evaluate_folds(checkpoints, folds, options)
    elif len(checkpoints) == 1:
        folder = options.out or default_folder(checkpoints[0], split, fold)
        folders = [folder] if score_checkpoint(checkpoints[0], fold, folder, options) else []
    else:
        folders = evaluate_checkpoints(checkpoints, options)
    for folder in folders:  # only at the end, so that a stopped command can resume
        remove_parts(folder / PREDICTIONS_NAME)


def _evaluate_timelines(options: EvaluateOptions) -> None:
    """Scores one network on long videos, on this machine."""
    [network, *others] = options.networks
    if others:
        raise ValueError(f"timeline: one network at a time; leave out {', '.join(map(str, others))}")
    if is_launched_rank():
        raise ValueError("timeline: runs in one process, not as a job; give the command to `python -m pipeline`")
    is_checkpoint = options.model is None
    chosen = NetworkOptions(
        allow=options.allow, checkpoint=network if is_checkpoint else None, model=None if is_checkpoint else network
    )
    folder = options.out or default_folder(network, f"{options.split}-timelines", None)
    evaluate_timelines(chosen, options, options.split, Path(folder), options.decoder, options.seed)
