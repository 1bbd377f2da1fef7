"""Which tars `index` is about, in which folder their dataset is made, and what it says at the end."""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datamodules.manifest import MANIFEST_NAME, Manifest
from datamodules.quarantine import Refusal
from datamodules.tars import ShardRow
from pipeline.pack_folder import RUN_NAME
from pipeline.pack_notes import describe_columns
from pipeline.pack_parts import PARTS_FOLDER

_OUR_NAME = re.compile(r"([A-Za-z0-9_-]+)-[^-]+-\d{6}\.tar")


def find_tars(shards: Sequence[str]) -> list[Path]:
    """The tars that files, folders and patterns name, by name.

    Raises:
        ValueError: One of them names nothing, or two tars have the same name.
    """
    found: dict[str, Path] = {}
    for text in shards:
        if Path(text).is_dir():
            paths = [path for path in Path(text).glob("*.tar") if not path.name.startswith(".")]
        elif Path(text).is_file():
            paths = [Path(text)]
        else:
            paths = [Path(match) for match in glob.glob(text)]  # noqa: PTH207 - the pattern may be absolute
        if not paths:
            raise ValueError(f"shards={text}: there is no tar; name tars, a folder of them, or a pattern in quotes")
        for path in paths:
            other = found.setdefault(path.name, path)
            if other.resolve() != path.resolve():
                raise ValueError(f"shards: {other} and {path} have the same name; rename one")
    return [found[name] for name in sorted(found)]


def folder_of(tars: Sequence[Path], out: Path | None) -> Path:
    """The folder to make the dataset in; it is there afterwards."""
    folders = {tar.parent for tar in tars}
    if out is None:
        if len(folders) > 1:
            raise ValueError(f"the tars are in {len(folders)} folders: say with --out where to make the dataset")
        return folders.pop()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"out={out}: is not a folder; choose another name") from None
    strange = sorted({path.name for path in out.glob("*.tar")} - {tar.name for tar in tars})
    if strange:
        raise ValueError(f"out={out}: holds {strange[0]} too, which is not among the tars; choose another folder")
    return out


def unfinished(root: Path) -> bool:
    """Whether `pack` began in a folder and has not come to its end."""
    return (root / PARTS_FOLDER / RUN_NAME).exists() and not (root / MANIFEST_NAME).exists()


def link_tars(tars: Sequence[Path], root: Path) -> None:
    """Link to the tars that are not in the folder of the dataset; raises ValueError where the name is taken."""
    for tar in tars:
        link = root / tar.name
        if not link.exists():
            link.unlink(missing_ok=True)  # a link to what is no more
            link.symlink_to(tar.resolve())
        elif link.resolve() != tar.resolve():
            raise ValueError(f"out={root}: has another {tar.name}; choose another folder")


def dataset_name(tars: Sequence[Path], root: Path) -> str:
    """The name that our shards bear, or the folder's."""
    names = {found[1] for tar in tars if (found := _OUR_NAME.fullmatch(tar.name))}
    if len(names) == 1:
        return names.pop()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", root.absolute().name) or "dataset"


def print_index(
    manifest: Manifest, earlier: Manifest | None, rows: Sequence[ShardRow], refused: Sequence[Refusal]
) -> None:
    """A table of what was indexed, what was left out and why, and whether it is what was there before."""
    table = Table(title=f"{manifest.name}: {len(manifest.classes)} classes", title_justify="left")
    for heading in ("split", "videos", "classes", "hours"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counts in manifest.splits.items():
        hours = sum(row.description.duration_s for row in rows if row.description.split == split) / 3600
        filled = sum(count > 0 for count in counts.classes.values())
        table.add_row(split, str(counts.videos), str(filled), f"{hours:.2f}")
    Console().print(table)
    said = [row.description for row in rows]
    for line in describe_columns((one.variable_rate for one in said), (one.pixel_aspect for one in said)):
        print(line)
    if refused:
        reasons = Counter(refusal.reason for refusal in refused).most_common()
        print(f"left out: {', '.join(f'{reason} {count}' for reason, count in reasons)}")
    if earlier is not None:
        same = earlier.identity == manifest.identity
        print(f"the videos and labels are {'the same as' if same else 'not those that'} {MANIFEST_NAME} had before")
