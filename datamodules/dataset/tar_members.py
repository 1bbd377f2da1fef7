"""Members of a tar, and its samples: the same samples in the same order as webdataset finds.

Consecutive members with the same key are one sample; a key that occurs again later is another sample. Checked against
`webdataset.tariterators` 1.0.2, which is not used because it reads every byte, and imports torch.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.video_files import VIDEO_SUFFIXES
from datamodules.storage.errors import ShardFormatError

# Signatures of compressed files; the program, and how to decompress.
COMPRESSION_SIGNATURES = {
    b"\x1f\x8b": ("gzip", "gunzip --keep"),
    b"BZh": ("bzip2", "bunzip2 --keep"),
    b"\xfd7zXZ\0": ("xz", "unxz --keep"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
COPY_OR_PACK_AGAIN = "copy the shard again or pack the dataset again"
_MEMBER_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
FLOW_EXTENSION = "flow.mp4"  # extension of the optical flow of a video, a member of its own
TEXT_EXTENSIONS = ("json", "cls", "txt")  # extensions of the members that are read
_TAR_METADATA = re.compile(r"__[^/]*__($|/)")  # webdataset's metadata about the tar itself
_RESERVED = ("__key__", "__url__")  # keys that webdataset's samples already have


class TarMember(NamedTuple):
    """A file in a tar, whose bytes can be read during the iteration over the tar.

    Attributes:
        name: Name as decoded by Python (`os.fsdecode` if not UTF-8).
        offset: Byte offset of its content in the tar.
        size: Size in bytes.
        read: Function that reads its content.
        sparse: Whether it is a sparse file, whose content is not contiguous in the tar.
    """

    name: str
    offset: int
    size: int
    read: Callable[[], bytes]
    sparse: bool = False


class TarSample(NamedTuple):
    """The members of a tar with one key.

    Attributes:
        key: The key as webdataset defines it.
        extensions: Extensions of all members, in their order, in lower case.
        videos: The members that are videos by their names.
        texts: Contents of the members that are read, by extension.
        repeated_member: Name of a member whose extension occurs twice, which webdataset refuses; "" for none.
    """

    key: str
    extensions: list[str]
    videos: list[TarMember]
    texts: Mapping[str, bytes]
    repeated_member: str = ""


def split_member_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member as webdataset splits them, at the first dot of the file name.

    Returns:
        The key, with the folders of the name, and the extension in lower case; None for a name that webdataset ignores.

    >>> split_member_name("fight/a.b/001.left.MP4")
    ('fight/a.b/001', 'left.mp4')
    """
    match = _MEMBER_NAME.fullmatch(name)
    return None if match is None else (match[1], match[2].lower())


def is_sample_video(key: str, name: str) -> bool:
    """Whether a member of this name is the video of the sample `key`: `{key}.mp4`, or another suffix; not its flow."""
    key_and_extension = split_member_name(name)
    return (
        key_and_extension is not None
        and key_and_extension[0] == key
        and key_and_extension[1] != FLOW_EXTENSION
        and f".{key_and_extension[1].rpartition('.')[2]}" in VIDEO_SUFFIXES
    )


def is_sample_flow(key: str, name: str) -> bool:
    """Whether a member of this name is the optical flow of the sample `key`."""
    return split_member_name(name) == (key, FLOW_EXTENSION)


def is_video_header(
    header: bytes, key: str, size: int, is_member: Callable[[str, str], bool] = is_sample_video
) -> bool:
    """Whether 512 bytes are the tar header of a video of this key and size; False also where the name is not in it."""
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        return False
    return is_member(key, member.name) and member.size == size and member.isreg()


def iterate_members(path: Path) -> Iterator[TarMember]:
    """Iterates over the files in a tar, in order, without reading their content.

    Raises:
        ShardFormatError: The file is missing, compressed, or not a complete tar (truncated, damaged header); raised
            after the last member at the latest.
    """
    end = 0
    try:
        _refuse_compressed(path)
        with tarfile.open(path, "r:", encoding="utf-8") as tar:  # independent of the locale
            for member in tar:
                end = tar.offset  # offset of the next header
                if member.isreg():
                    read = partial(_read_member, tar, member)
                    yield TarMember(member.name, member.offset_data, member.size, read, member.issparse())
    except FileNotFoundError:
        raise ShardFormatError(f"{path}: there is no such shard; {COPY_OR_PACK_AGAIN}") from None
    except tarfile.TarError as error:
        raise ShardFormatError(f"{path}: not a whole tar file ({error}); {COPY_OR_PACK_AGAIN}") from None
    except OSError as error:
        raise ShardFormatError(f"{path}: cannot be read ({error.strerror}); {COPY_OR_PACK_AGAIN}") from None
    _check_end(path, end)


def iterate_samples(path: Path, ignored_files: list[str]) -> Iterator[TarSample]:
    """Iterates over the samples of a tar, in order; small members are read.

    Args:
        path: The path of the tar.
        ignored_files: List to which the names of files are appended that belong to no sample in webdataset's reading:
            names without a dot or with nothing before it, and metadata about the tar (`__name__`).

    Raises:
        ShardFormatError: The tar cannot be read, see `iterate_members`.
    """
    sample: TarSample | None = None
    for member in iterate_members(path):
        key_and_extension = None if _TAR_METADATA.match(member.name) else split_member_name(member.name)
        if key_and_extension is None:
            ignored_files.append(member.name)
            continue
        key, extension = key_and_extension
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key, [], [], {})
        sample = _with_member(sample, member, extension)
    if sample is not None:
        yield sample


def _with_member(sample: TarSample, member: TarMember, extension: str) -> TarSample:
    if extension in sample.extensions or extension in _RESERVED:
        return sample._replace(repeated_member=sample.repeated_member or member.name)
    sample = sample._replace(extensions=[*sample.extensions, extension])
    if is_sample_video(sample.key, member.name):
        return sample._replace(videos=[*sample.videos, member])
    return sample._replace(texts={**sample.texts, extension: member.read()}) if extension in TEXT_EXTENSIONS else sample


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    return content.read() if content else b""


def _refuse_compressed(path: Path) -> None:
    with path.open("rb") as file:
        begin = file.read(6)
    for magic, (name, command) in COMPRESSION_SIGNATURES.items():
        if begin.startswith(magic):
            raise ShardFormatError(
                f"{path}: is compressed with {name}, and videos are read by their place in a plain tar; unpack it: "
                f"{command} {path.name}"
            )


def _check_end(path: Path, end: int) -> None:
    """Checks that a tar ends with at least two zero blocks: tarfile accepts one that is truncated between members."""
    with path.open("rb") as file:
        file.seek(end)
        length = 0
        while chunk := file.read(1 << 20):
            if chunk.strip(b"\0"):
                raise ShardFormatError(f"{path}: damaged after byte {end}; {COPY_OR_PACK_AGAIN}")
            length += len(chunk)
    if length < 2 * tarfile.BLOCKSIZE:
        raise ShardFormatError(f"{path}: truncated, the end of the tar is missing; {COPY_OR_PACK_AGAIN}")
