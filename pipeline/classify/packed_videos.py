"""Videos of packed datasets beside plain files as input of `classify` and `describe`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.annotations.records import ALL_VIDEOS
from datamodules.annotations.video_files import open_video_source
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import MANIFEST_NAME
from datamodules.storage.errors import ShardFormatError
from datamodules.video.video_container import UNREADABLE, DecodeError, Source
from pipeline.inference.video_file_index import find_videos


@dataclass(frozen=True)
class PackedVideo:
    """A video of a packed dataset.

    Attributes:
        index: the index of the dataset.
        row: the row of the video.
    """

    index: DatasetIndex
    row: int

    @property
    def stem(self) -> str:
        """The key of the video."""
        return self.index.entry(self.row).key

    def source_times(self) -> tuple[str, float] | None:
        """The source of a segment, and where in it the segment begins, in seconds; None for a whole video."""
        entry = self.index.entry(self.row)
        return None if entry.source_start is None else (entry.source, entry.source_start)

    def __str__(self) -> str:
        return f"{self.index.root}/{self.stem}"


VideoInput = Path | PackedVideo


def is_packed_dataset(path: str) -> bool:
    """Whether a path is the folder of a packed dataset."""
    return (Path(path) / MANIFEST_NAME).is_file()


def find_inputs(videos: Sequence[str]) -> Iterator[VideoInput]:
    """Yields the given files, the videos of the given folders, and those of packed datasets that are not quarantined.

    Raises:
        FileNotFoundError: none of the files and folders exists, or the only one is a folder without a video.
        ShardFormatError: a packed dataset is incomplete.
    """
    plain = [path for path in videos if not is_packed_dataset(path)]
    if plain or not videos:
        yield from find_videos(plain)
    for path in videos:
        if path not in plain:
            index = DatasetIndex.open(path)
            yield from (PackedVideo(index, row) for row in index.readable_rows(ALL_VIDEOS).tolist())


def open_input(video: VideoInput) -> Source:
    """The input of a decoder: the bytes of a video, or the path of a large file.

    Raises:
        DecodeError: the video cannot be read.
    """
    if isinstance(video, Path):
        return open_video_source(video)
    try:
        return video.index.read_video(video.row)
    except ShardFormatError as error:
        raise DecodeError(str(error), UNREADABLE) from None
