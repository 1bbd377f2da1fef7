"""The split file that a checkpoint was trained with, which is taken again on the same dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.dataset.open_dataset import open_manifest
from datamodules.loading.resume import describe_split_file
from datamodules.splits.split_file import SplitFileError, SplitReference, is_split_file_name
from datamodules.storage.remote_files import split_root


def trained_split_file(dataset: Mapping[str, Any], root: Path) -> str | None:
    """Returns the split file of a training on the same dataset; None for the packed splits, or another dataset.

    Args:
        dataset: description of the training data in the checkpoint.
        root: folder or URL of the dataset to read.

    Raises:
        SplitFileError: the training took a file at a path where there is none.
    """
    recorded = dataset.get("split_file")
    if recorded is None or open_manifest(root).family != dataset.get("family"):
        return None
    name = str(recorded["name"])
    path = split_root(name)
    if not is_split_file_name(name) and isinstance(path, Path) and not path.is_file():
        raise SplitFileError(
            f"the checkpoint was trained with split_file={describe_split_file(recorded)}, which is not on this "
            "machine: give --split-file and the path of that file here"
        )
    return name


def with_split_digests(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance with the digests of its split file in place of its name: a job has a copy at another path."""
    recorded = provenance.get("split_file")
    digests = None if recorded is None else [recorded["sha256"], recorded.get("groups_sha256")]
    return {**provenance, "split_file": digests}


def has_split_file(dataset: Mapping[str, Any], reference: SplitReference | None) -> bool:
    """Whether a training had these splits, perhaps under another name; arguments as of `refuse_changed_split_file`."""
    recorded = dataset.get("split_file")
    return (None if recorded is None else recorded["sha256"]) == (None if reference is None else reference.sha256)


def refuse_changed_split_file(checkpoint: Path, dataset: Mapping[str, Any], reference: SplitReference | None) -> None:
    """Raises SplitFileError if the split file of a training has other splits by now.

    Args:
        checkpoint: path of the checkpoint, for the error.
        dataset: description of the training data in the checkpoint.
        reference: the split file as it is now; None for the packed splits.
    """
    recorded = dataset.get("split_file")
    if reference is not None and recorded is not None and not has_split_file(dataset, reference):
        raise SplitFileError(
            f"checkpoint {str(checkpoint)!r} was trained with split_file={describe_split_file(recorded)}, which has "
            f"other splits by now ({reference.sha256[:12]}): restore it, or give --split-file"
        )
