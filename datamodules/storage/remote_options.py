"""Options of reading a dataset from a URL."""

from dataclasses import dataclass
from pathlib import Path

from datamodules.options import Options


@dataclass(frozen=True, kw_only=True)
class RemoteOptions(Options):
    """Reading from a URL.

    Attributes:
        cache_dir: folder on a local disk that keeps the videos read from a URL, for all ranks and workers of the node,
            from epoch to epoch and run to run; null keeps none. A dataset that is a folder is read where it lies.
        cache_bytes: bound on the size of `cache_dir`; what was not used for longest leaves first.
        remote_reads: reads from a URL that each worker has under way at a time.
        remote_read_bytes: bound on the bytes of videos that each worker reads from a URL ahead of decoding them.
    """

    cache_dir: str | None = None
    cache_bytes: int = 50 * 2**30
    remote_reads: int = 8
    remote_read_bytes: int = 2**26

    def check(self) -> None:
        """Refuses bounds below 1."""
        self.require_at_least(1, "cache_bytes", "remote_reads", "remote_read_bytes")

    @property
    def cache_folder(self) -> Path | None:
        """`cache_dir` as an absolute path."""
        return None if self.cache_dir is None else Path(self.cache_dir).expanduser().absolute()
