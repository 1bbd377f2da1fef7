"""Choice of a rendition: a packed dataset may have the same videos at several sizes, packed in one run.

Every rendition is a complete dataset in its own folder, with its own identity, because its videos have other bytes; all
share the identity of the largest, their `Manifest.family`. So a run resumes only on the rendition that it was trained
on (`identity`), while the videos that a checkpoint has seen are recognized in all of them (`family`): their rows are
the same videos, row for row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import Manifest, Rendition
from datamodules.dataset.open_dataset import open_manifest
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.remote_options import RemoteOptions

RenditionChoice = Literal["auto"] | int


def choose_rendition(
    manifest: Manifest, choice: RenditionChoice, resize: int | Sequence[int] | None, dataset: str
) -> Rendition:
    """The rendition to read.

    Args:
        manifest: Manifest of the largest rendition, or of a dataset with only one.
        choice: `auto`, or the short side in pixels.
        resize: Size of frames before cropping, the short side or (height, width). `auto` takes the smallest rendition
            at least as large as the smaller of the two; the largest if none is, or if `resize` is None and frames are
            cropped at their stored size.
        dataset: The dataset, for errors.

    Raises:
        ValueError: `choice` is neither `auto` nor the short side of a rendition; the message lists the known ones.
    """
    own_rendition = Rendition(int(manifest.encode.get("short_side") or 0), ".")
    renditions = manifest.renditions or [own_rendition]
    if choice == "auto":
        min_side = None if resize is None else resize if isinstance(resize, int) else min(resize)
        large_enough = [
            rendition for rendition in renditions if min_side is not None and rendition.short_side >= min_side
        ]
        return min(large_enough or [max(renditions)])
    for rendition in renditions:
        if rendition.short_side == choice:
            return rendition
    sides = ", ".join(str(rendition.short_side) for rendition in renditions if rendition.short_side)
    if not sides:
        raise ValueError(f"rendition={choice}: {dataset} holds its videos as they came, in one size; set auto")
    raise ValueError(f"rendition={choice}: {dataset} has {sides}; name one of these, or auto")


def open_rendition(
    root: Path | str,
    choice: RenditionChoice,
    resize: int | Sequence[int] | None,
    remote: RemoteOptions = RemoteOptions(),  # noqa: B008 # immutable
    split_file: str | None = None,
) -> DatasetIndex:
    """Opens the rendition to read, see `choose_rendition`; no other rendition's index is read.

    Args:
        root: Folder or URL of the dataset.
        choice: `auto`, or the short side in pixels.
        resize: Size of frames before cropping, the short side or (height, width), or None.
        remote: How it is read where `root` is a URL.
        split_file: Split file of the dataset, see `DatasetIndex.open`.

    Raises:
        SplitFileError: There is no such split file, or it does not fit the dataset.
        ValueError: There is no such rendition.
        ShardFormatError: The dataset is incomplete, or the rendition is missing or has other videos.
    """
    manifest = open_manifest(root)
    folder = choose_rendition(manifest, choice, resize, str(root)).folder
    if folder == ".":
        return DatasetIndex.open(root, remote=remote, split_file=split_file)
    location = root / folder if isinstance(root, Path) else f"{root}/{folder}"
    index = DatasetIndex.open(location, quarantine_root=root, remote=remote, split_file=split_file)
    if index.manifest.family != manifest.family:
        raise ShardFormatError(
            f"{index.root}: is no rendition of the dataset in {root}; run the same pack command again"
        )
    return index
