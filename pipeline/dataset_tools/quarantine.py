"""`python -m pipeline quarantine`: take videos of a packed dataset out of use, or back into it, without packing."""

from contextlib import nullcontext
from pathlib import Path

from datamodules.annotations.refusals import BY_HAND, Refusal
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.quarantine import QUARANTINE_NAME, one_line, read_quarantine, write_quarantine
from datamodules.storage.remote_files import split_root
from pipeline.cli.terminal import print_text
from pipeline.packing.output_folder import lock_folder
from pipeline.packing.shard_builder import PARTS_FOLDER

_MAX_NAMED = 5


def quarantine(data: Path, keys: list[str], reason: str = BY_HAND, undo: bool = False) -> None:
    """Leave videos out of training, evaluation and export, by a line each in the dataset's quarantine.csv.

    Shards, index and identity of the dataset do not change: an interrupted run resumes exactly, without these videos.
    Runs that are in progress are not affected. Packing again leaves the videos out of the shards too.

    Args:
        data: folder of the packed dataset.
        keys: keys of the videos, as in index.parquet and in the messages of a run.
        reason: the reason, in a few words.
        undo: take these videos out of quarantine, so that they are read again.

    Raises:
        ShardFormatError: there is no dataset in the folder.
        ValueError: a key is not in the dataset or, with `undo`, not in quarantine; then nothing is changed.
    """
    root = split_root(data)
    if not isinstance(root, Path):
        raise ValueError(f"data={root}: give the folder of the dataset, and copy its {QUARANTINE_NAME} there")
    index = DatasetIndex.open(root)
    with lock_folder(root) if (root / PARTS_FOLDER).is_dir() else nullcontext():
        refusals = read_quarantine(root)
        entries = {entry.key: entry for entry in map(index.entry, index.rows_of(keys).tolist())}
        unknown = [key for key in keys if key not in entries or (undo and key not in refusals)]
        if unknown:
            suffix = ", ..." if len(unknown) > _MAX_NAMED else ""
            location = (
                f"{root / QUARANTINE_NAME}, or left out when packing (pack --retry-quarantined)"
                if undo
                else f"the index of {index.name}"
            )
            raise ValueError(
                f"keys={', '.join(unknown[:_MAX_NAMED])}{suffix}: not in {location}; see the keys in index.parquet"
            )
        for key in keys:
            if undo:
                refusals.pop(key, None)
            else:
                refusals.setdefault(key, Refusal(entries[key].source, key, one_line(reason, 60) or BY_HAND, ""))
        write_quarantine(root, refusals.values())
    left_out = DatasetIndex.open(root).quarantined
    print_text(
        f"{index.name}: {len(left_out)} of {len(index)} videos are quarantined now; wrote {root / QUARANTINE_NAME}"
    )
