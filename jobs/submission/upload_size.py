"""How large an upload is, and whether Ray's job server will take it."""

from pathlib import Path

from jobs.ray_internals import largest_upload

_ENTRY_BYTES = 30 + 46  # a zip's two headers of each file, besides its name in both
_END_BYTES = 22


def upload_sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file in a folder by its relative path, the biggest first."""
    sizes = [(path.stat().st_size, path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()]
    return {name: size for size, name in sorted(sizes, key=lambda each: (-each[0], each[1]))}


def archive_bytes(sizes: dict[str, int]) -> int:
    """The size of the archive that Ray makes of files, which is not compressed.

    Args:
        sizes: Bytes by relative path.
    """
    return _END_BYTES + sum(_ENTRY_BYTES + 2 * len(name.encode()) + size for name, size in sizes.items())


def check_size(folder: Path, limit: int | None = None) -> int:
    """The bytes of a folder's archive; ValueError, naming the five biggest files, if they are too many.

    Args:
        folder: The upload.
        limit: Bytes that are taken; None: those that Ray's job server takes.
    """
    limit = largest_upload() if limit is None else limit
    sizes = upload_sizes(folder)
    total = archive_bytes(sizes)
    if total > limit:
        raise ValueError(
            f"the upload has {total / 2**20:.1f} MiB, more than the {limit / 2**20:g} MiB that Ray takes; "
            f"name what is not code under `exclude`; the biggest: {largest_files(sizes)}"
        )
    return total


def largest_files(sizes: dict[str, int], count: int = 5) -> str:
    """The biggest files of an upload in words."""
    return ", ".join(f"{name} ({size / 2**20:.2f} MiB)" for name, size in list(sizes.items())[:count])
