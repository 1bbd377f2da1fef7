"""Where the videos of a review are read from: a packed dataset, or the files that `classify` read."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.video_files import open_video_source
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import inspect
from datamodules.leakage.split_leakage import GuardedVideo
from datamodules.storage.local_files import file_sha256
from datamodules.storage.plain_text import printable
from datamodules.video.video_container import DecodeError
from pipeline.cli.progress import count_progress
from pipeline.packing.leakage_report import guarded_videos
from pipeline.processes.killable_pool import KillablePool
from pipeline.report.pictures import Preview, make_preview, preview_of_key

_TIMEOUT_S = 60.0  # without progress


class VideoPool(Protocol):
    """Videos that have fingerprints and previews."""

    def fingerprints(self, keys: Sequence[str]) -> list[GuardedVideo]:
        """The digests and frame hashes of videos, in the order of the keys."""

    def previews(self, keys: Sequence[str]) -> list[Preview | None]:
        """The previews of videos; None for one that cannot be decoded."""


@dataclass(frozen=True)
class PackedPool:
    """The videos of a packed dataset, whose index has the frame hashes.

    Attributes:
        index: the dataset.
        provenance: of the results; its `decoder` decodes the previews.
    """

    index: DatasetIndex
    provenance: Mapping[str, Any]

    def fingerprints(self, keys: Sequence[str]) -> list[GuardedVideo]:
        """See `VideoPool`."""
        found = {video.key: video for video in guarded_videos(self.index, self.index.rows_of(keys))}
        return [found[key] for key in keys]

    def previews(self, keys: Sequence[str]) -> list[Preview | None]:
        """See `VideoPool`."""
        return [preview_of_key(self.index, key, self.provenance) for key in keys]


class FilePool:
    """Video files, decoded once for their frame hashes, and again for the preview, in processes that can be killed.

    Args:
        root: folder of the files.
        paths: path of each file below it, by its key.

    Raises:
        FileNotFoundError: a file is not there.
    """

    def __init__(self, root: Path, paths: Mapping[str, str]) -> None:
        absent = [path for path in paths.values() if not (root / path).exists()]
        if absent:
            raise FileNotFoundError(
                f"videos={root}: lacks {count_noun(len(absent), 'file')} of {len(paths)}, first "
                f"{printable(absent[0])}; name the folder of the files that were classified (--videos)"
            )
        self._files = {key: str(root / path) for key, path in paths.items()}

    def fingerprints(self, keys: Sequence[str]) -> list[GuardedVideo]:
        """See `VideoPool`; a file that cannot be decoded has its digest alone."""
        found = self._map(read_fingerprint, keys, "compare")
        return [
            GuardedVideo(key, "", (), "", *(one if one is not None else (file_sha256(Path(self._files[key])), (), 0.0)))
            for key, one in zip(keys, found, strict=True)
        ]

    def previews(self, keys: Sequence[str]) -> list[Preview | None]:
        """See `VideoPool`."""
        return self._map(read_preview, keys, "draw")

    def _map(self, function: Callable[..., Any], keys: Sequence[str], activity: str) -> list[Any]:
        jobs = [(self._files[key],) for key in keys]
        with (
            count_progress(activity, len(jobs), "videos") as advance,
            KillablePool(None, _TIMEOUT_S, by_progress=True) as pool,
        ):
            return [None if isinstance(one, Exception) else one for one in pool.map(function, jobs, advance)]


def read_fingerprint(path: str, progress: Callable[[int], None] | None = None) -> tuple[str, tuple[int, ...], float]:
    """The digest of a file, the hashes of its frames and its duration in seconds; for a process that can be killed.

    Args:
        path: path of the file.
        progress: called with the number of packets read and frames decoded so far.

    Raises:
        DecodeError: the file cannot be decoded in full.
    """
    found = inspect(path, progress)
    return file_sha256(Path(path)), found.frame_hashes, found.info.duration_s


def read_preview(path: str, progress: Callable[[int], None] | None = None) -> Preview | None:
    """The preview of a file; None if it cannot be decoded; for a process that can be killed.

    Args:
        path: path of the file.
        progress: not called: a dozen frames are decoded.
    """
    with suppress(DecodeError):
        return make_preview(open_video_source(Path(path)))
    return None
