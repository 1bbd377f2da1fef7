"""`python -m pipeline split`: divides a packed dataset into splits or folds, under a name, without packing again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.splits.divided_videos import DividedVideos
from datamodules.splits.division_options import DivisionOptions
from datamodules.splits.split_file import PACKED, SPLITS_FOLDER, is_split_file_name, read_split_file
from pipeline.cli.terminal import print_text
from pipeline.inference.output_paths import refuse_unwritable_file
from pipeline.packing.division import find_groups, print_division, write_division
from pipeline.packing.leakage_report import guarded_videos


@dataclass(frozen=True)
class SplitFileOptions(DivisionOptions):
    """Options of `split`.

    Attributes:
        data: folder or URL of the packed dataset.
        name: name of the division, by which `split_file` chooses it: it is written to DATA/splits/NAME.csv.
        out: CSV file to write instead, for a dataset at a URL.
        seed: seed of the division.
        overwrite: replace a file with other splits.
    """

    data: str
    name: str | None = None
    out: Path | None = None
    seed: int = 0
    overwrite: bool = False

    def check(self) -> None:
        """Raises ValueError for a missing division, a name that cannot be used, or no place to write to."""
        if self.division(self.seed) is None:
            raise ValueError(
                f"split={self.split}: give the shares, such as --split train=0.8,val=0.1,test=0.1, or --folds 5"
            )
        if (self.name is None) == (self.out is None):
            raise ValueError("give --name, or --out and the path of a CSV file, one of the two")
        if self.name == PACKED or not (self.name is None or is_split_file_name(self.name)):
            raise ValueError(
                f"name={self.name!r}: must consist of letters, digits, - and _, and not be {PACKED}, the name of the "
                "splits in the index"
            )
        if self.out is None and "://" in self.data:
            raise ValueError(f"data={self.data}: is at a URL, where nothing is written: give --out and a path here")


def split(options: SplitFileOptions) -> None:
    """Divide the videos of a packed dataset into splits or folds by class, without dividing a group.

    The division is a CSV file of keys and splits (or folds) in the folder `splits` of the dataset, with a JSON file of
    the options beside it. Shards and index stay as they are, and a dataset may have any number of such files;
    `data.init_args.split_file` (fit) and `--split-file` (evaluate, features, ...) choose one. Only the index is read.

    Args:
        options: the dataset, the name, and how it is divided.

    Raises:
        ShardFormatError: there is no dataset at `data`.
        ValueError: an option is wrong, or there is a file of this name with other splits.
    """
    division = options.division(options.seed)
    assert division is not None, "the options were checked"
    path = options.out or Path(options.data) / SPLITS_FOLDER / f"{options.name}.csv"
    index = DatasetIndex.open(options.data)
    rows = np.arange(len(index))
    videos = guarded_videos(index, rows)
    if options.group_by is not None:
        sources = list(index.column("source", rows))
        groups = find_groups([video.key for video in videos], sources, options.group_by)
        videos = [video._replace(group=group) for video, group in zip(videos, groups, strict=True)]
    classes = [[index.classes[label] for label in labels] for labels in _labels(index, rows)]
    divided = DividedVideos(videos, classes, division)
    if path.exists() and not options.overwrite:
        found = read_split_file(str(path), options.data)
        assert found is not None, "it is a path"
        if found.reference.sha256 != divided.as_split_file("").reference.sha256:
            raise ValueError(f"{path}: is there, with other splits; choose another name, or give --overwrite")
    else:
        refuse_unwritable_file(path)
        write_division(path, divided, "split")
    print_division(divided, f"{index.name}: division by class into {division.column}s")
    print_text(f"wrote {path}; choose it with --split-file {options.name or path}")


def _labels(index: DatasetIndex, rows: np.ndarray) -> list[list[int]]:
    if index.task == "multi_label":
        return list(index.column("labels", rows))
    return [[] if label < 0 else [int(label)] for label in index.column("label", rows)]
