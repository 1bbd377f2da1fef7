"""Where results go if nobody says."""

from collections.abc import Sequence
from pathlib import Path


def default_folder(checkpoint: Path, split: str, fold: str | None) -> Path:
    """Where results go if nobody says: {stem}-{split}, or {stem}-{split}-fold{fold}, beside the checkpoint."""
    return checkpoint.with_name("-".join([checkpoint.stem, split, *([] if fold is None else [f"fold{fold}"])]))


def folder_of_folds(checkpoint: Path, split: str) -> Path:
    """Where the results of all folds go if nobody says: above the part that names the fold, else beside it."""
    above = [part for part in checkpoint.parents if "{fold}" not in str(part)]
    parent = above[0] if "{fold}" in str(checkpoint) else checkpoint.parent
    return parent / f"{checkpoint.stem.replace('{fold}', '').strip('-_') or 'checkpoint'}-{split}-folds"


def distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """A folder's name for each checkpoint: its stem; with its folder's where those are alike; else numbered."""
    stems = [path.stem for path in checkpoints]
    if len(set(stems)) == len(stems):
        return stems
    longer = [f"{path.absolute().parent.name}-{path.stem}" for path in checkpoints]
    return longer if len(set(longer)) == len(longer) else [f"{n}-{name}" for n, name in enumerate(longer, 1)]
