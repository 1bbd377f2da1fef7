"""The tars that `index` reads, the folder and name of their dataset, and the summary that it prints."""

import glob
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.refusals import Refusal
from datamodules.dataset.foreign_tar import ForeignTar
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest
from datamodules.dataset.shard_tar import ShardRow
from datamodules.encoding.transcoding import SourceIrregularities
from datamodules.splits.split_file import read_packed_splits
from datamodules.storage.plain_text import describe_trimmed_labels, is_utf8
from datamodules.video.probing import VideoInfo
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.packing.division import packed_splits_path, with_splits
from pipeline.packing.output_folder import RUN_NAME
from pipeline.packing.pack_summary import describe_classes
from pipeline.packing.shard_builder import PARTS_FOLDER
from pipeline.packing.source_notes import Notes, add_notes, describe_columns, describe_notes, video_notes

_COMPRESSED = re.compile(r".*\.(?:tar\.(?:gz|bz2|xz|zst)|tgz|tbz2?|txz)", re.IGNORECASE | re.DOTALL)
_MAX_NAMED = 5
_PACKED_NAME = re.compile(r"([A-Za-z0-9_-]+)-[^-]+-\d{6}\.tar")


def apply_packed_splits(
    rows: Sequence[ShardRow], folds: Sequence[str], root: Path, tars: Sequence[Path]
) -> tuple[list[ShardRow], list[str]]:
    """The rows and names of the folds with the splits that `pack` divided the videos into, where it did.

    They are in splits/packed.csv in the folder of the dataset, or beside the tars, from where the file is copied.
    Without the file, the command that divides the videos is printed.

    Raises:
        ValueError: A video of the tars is not in the file.
    """
    if folds or any(row.description.split != "all" for row in rows):
        return list(rows), list(folds)
    above = [root.parent] if (root.parent / MANIFEST_NAME).exists() else []  # of a rendition
    folders = (root, *(tar.parent for tar in tars), *above)
    folder = next((each for each in folders if packed_splits_path(each).exists()), root)
    chosen = read_packed_splits(folder)
    if chosen is None:
        print_text(
            f"no video has a split: `python -m pipeline split {root} --name NAME --split train=0.8,val=0.1,test=0.1` "
            "divides them"
        )
        return list(rows), list(folds)
    missing = [row.key for row in rows if row.key not in chosen.values]
    if missing:
        raise ValueError(
            f"{chosen.path}: {len(missing)} videos of the tars are not in it, first {missing[0]}; add their lines, or "
            "remove the file"
        )
    if folder not in (root, *above):
        packed_splits_path(root).parent.mkdir(exist_ok=True)
        shutil.copyfile(packed_splits_path(folder), packed_splits_path(root))
    print_text(f"splits from {chosen.path}")
    return with_splits(rows, chosen), chosen.folds


def find_tars(shards: Sequence[str]) -> list[Path]:
    """Finds the tars of files, folders and patterns, sorted by name.

    Raises:
        ValueError: An argument matches no tar, a tar is compressed, a name is not UTF-8, or two tars share a name.
    """
    found: dict[str, Path] = {}
    for text in shards:
        paths = _matching_tars(text)
        compressed = [path for path in paths if _COMPRESSED.fullmatch(path.name)]
        paths = [path for path in paths if path not in compressed]
        if compressed and not (paths and Path(text).is_dir()):
            raise ValueError(
                f"shards={compressed[0]}: is compressed, and videos are read by their place in a plain tar; unpack it "
                "(gunzip, bunzip2, unxz, unzstd) and name the .tar"
            )
        if compressed:
            print_text(
                f"warning: {text}: {len(compressed)} compressed tars are left out, first {compressed[0].name}; unpack "
                "them",
                sys.stderr,
            )
        if not paths:
            raise ValueError(f"shards={text}: there is no tar; name tars, a folder of them, or a pattern in quotes")
        for path in paths:
            if not is_utf8(path.name):
                raise ValueError(f"shards: {os.fsencode(path)!r}: the name is not UTF-8; rename the file")
            other = found.setdefault(path.name, path)
            if other.resolve() != path.resolve():
                raise ValueError(f"shards: {other} and {path} have the same name; rename one")
    return [found[name] for name in sorted(found)]


def _matching_tars(text: str) -> list[Path]:
    """The tars, including compressed ones, of one argument: a folder, a file, or a pattern."""
    if Path(text).is_dir():
        paths = [path for path in Path(text).iterdir() if not path.name.startswith(".")]
        return sorted(path for path in paths if path.suffix == ".tar" or _COMPRESSED.fullmatch(path.name))
    if Path(text).is_file():
        return [Path(text)]
    folder, name = Path(text).parent, Path(text).name
    if folder.is_dir():  # only the file name is a pattern: a folder's name may have brackets
        return [folder / match for match in glob.glob(name, root_dir=folder)]  # noqa: PTH207 - without hidden files
    return [Path(match) for match in glob.glob(text)]  # noqa: PTH207 - the pattern may be absolute


def dataset_folder(tars: Sequence[Path], out: Path | None) -> Path:
    """The folder of the dataset, which is created if absent."""
    folders = {tar.parent for tar in tars}
    if out is None:
        if len(folders) > 1:
            raise ValueError(f"the tars are in {len(folders)} folders: say with --out where to make the dataset")
        return folders.pop()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"out={out}: is not a folder; choose another name") from None
    unlisted = sorted({path.name for path in out.glob("*.tar")} - {tar.name for tar in tars})
    if unlisted:
        raise ValueError(f"out={out}: holds {unlisted[0]} too, which is not among the tars; choose another folder")
    return out


def is_unfinished(root: Path) -> bool:
    """Whether `pack` started in a folder and has not finished."""
    return (root / PARTS_FOLDER / RUN_NAME).exists() and not (root / MANIFEST_NAME).exists()


def link_tars(tars: Sequence[Path], root: Path) -> None:
    """Creates links to tars outside the dataset's folder; raises ValueError where the name is taken."""
    for tar in tars:
        link = root / tar.name
        if not link.exists():
            link.unlink(missing_ok=True)  # a dangling link
            link.symlink_to(tar.resolve())
        elif link.resolve() != tar.resolve():
            raise ValueError(f"out={root}: has another {tar.name}; choose another folder")


def dataset_name(tars: Sequence[Path], root: Path) -> str:
    """The dataset's name in the names of shards that `pack` wrote, else the folder's name."""
    names = {found[1] for tar in tars if (found := _PACKED_NAME.fullmatch(tar.name))}
    if len(names) == 1:
        return names.pop()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", root.absolute().name) or "dataset"


def print_index(
    manifest: Manifest, earlier: Manifest | None, rows: Sequence[ShardRow], refused: Sequence[Refusal]
) -> None:
    """Prints the indexed videos by split, the refusals by reason, and whether the identity is that of `earlier`."""
    table = TextTable(title=f"{manifest.name}: {describe_classes(manifest)}", title_justify="left")
    for heading in ("split", "videos", "classes", "hours"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counts in manifest.splits.items():
        hours = sum(row.description.duration_s for row in rows if row.description.split == split) / 3600
        num_classes = sum(count > 0 for count in counts.classes.values())
        table.add_row(split, str(counts.videos), str(num_classes), f"{hours:.2f}")
    print_table(table)
    descriptions = [row.description for row in rows]
    for line in describe_columns(
        (description.variable_rate for description in descriptions),
        (description.pixel_aspect for description in descriptions),
    ):
        print_text(line)
    if refused:
        reasons = Counter(refusal.reason for refusal in refused).most_common()
        print_text(f"left out: {', '.join(f'{reason} {count}' for reason, count in reasons)}")
    if earlier is not None:
        is_same = earlier.identity == manifest.identity
        print_text(
            f"the videos and labels are {'the same as' if is_same else 'not those that'} {MANIFEST_NAME} had before"
        )


class TarNotes:
    """Notes on foreign tars: files in no sample, trimmed labels and odd sources, none of which is refused."""

    def __init__(self) -> None:
        self._passed_over: list[str] = []
        self._raw_labels: set[str] = set()
        self._sources: Notes = {}

    def add(self, tar: Path, content: ForeignTar) -> None:
        """Adds the files in no sample and the labels of a tar."""
        self._passed_over += [f"{tar.name}/{name}" for name in content.ignored_files]
        self._raw_labels |= content.raw_labels

    def add_video(self, key: str, info: VideoInfo) -> None:
        """Adds the peculiarities of a video that are in no column of the index."""
        source = SourceIrregularities(clock_jumps=info.clock_jumps, other_streams=info.other_streams)
        self._sources = add_notes([self._sources, video_notes(key, source)])

    def report(self) -> None:
        """Prints a line each on odd sources, files that belong to no sample, and labels that became one."""
        for line in describe_notes(self._sources, {"copy": True}):
            print_text(line)
        if self._passed_over:
            count = "1 file is" if len(self._passed_over) == 1 else f"{len(self._passed_over)} files are"
            names = _format_first_names(self._passed_over)
            print_text(f"{count} in the tars and in no sample, as webdataset reads them: {names}")
        if trimmed := describe_trimmed_labels(self._raw_labels):
            print_text(trimmed)


def _format_first_names(names: Sequence[str]) -> str:
    suffix = ", ..." if len(names) > _MAX_NAMED else ""
    return ", ".join(map(repr, names[:_MAX_NAMED])) + suffix
