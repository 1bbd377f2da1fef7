"""One shard: a plain WebDataset tar, written by webdataset's own TarWriter, and read back from the tar alone.

A video is two members, in this order: `{key}.json` (label, split, group, frames, ...) and `{key}.mp4`. Times, owners
and modes of the members are fixed, so the same videos give the same bytes.
"""

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations.records import as_captions
from datamodules.annotations.video_files import VIDEO_SUFFIXES
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import to_json

# How compressed files begin; by which program, and how they are unpacked.
COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip --keep"),
    b"BZh": ("bzip2", "bunzip2 --keep"),
    b"\xfd7zXZ\0": ("xz", "unxz --keep"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
AGAIN = "copy the shard again or pack the dataset again"
_MEMBER_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")


class UndescribedShardError(ShardFormatError):
    """A whole tar whose videos have no description by this pipeline: others wrote it."""


class VideoDescription(NamedTuple):
    """What `{key}.json` says about a video, in this order.

    Attributes:
        label: Class name.
        split: Split of the video; `all` in a dataset with folds.
        fold_splits: The video's split in each fold, or empty.
        group: The source video; never divided between splits.
        num_frames: Frames as stored.
        fps: Frames a second as stored, on average where the rate is variable.
        width: In pixels, as stored, rotation applied.
        height: In pixels, as stored, rotation applied.
        duration_s: As stored, in seconds.
        content_sha256: Of the stored video bytes.
        source: Path of the original, relative to the folder of the videos.
        variable_rate: The frames as stored are not evenly spaced: the video itself says when each is shown
            (`datamodules.video.decoding.read_frame_times`).
        pixel_aspect: Width of a pixel through its height, as stored; 1.0 is square.
        frame_hashes: 64 bits a frame, at even times, to find the same content again
            (`datamodules.leakage.perceptual_hash`); () where they were not computed.
        captions: Sentences that tell what is to be seen, each without leading, double or trailing blanks; in the json
            `caption`, one or a list, and only where there are any.
    """

    label: str
    split: str
    fold_splits: tuple[str, ...]
    group: str
    num_frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    content_sha256: str
    source: str
    variable_rate: bool = False
    pixel_aspect: float = 1.0
    frame_hashes: tuple[int, ...] = ()
    captions: tuple[str, ...] = ()


class ShardRow(NamedTuple):
    """A video in a shard: its key, its description, and where the bytes of the video lie in the tar."""

    key: str
    shard: str
    video_offset: int
    video_size: int
    description: VideoDescription


class TarMember(NamedTuple):
    """A file in a tar, whose bytes can be read while the tar is being walked through.

    Attributes:
        name: As Python decodes it (`os.fsdecode` where it is not UTF-8).
        offset: Of its bytes in the tar.
        size: In bytes.
        read: Reads them.
        sparse: Whether the tar leaves holes out, so that the file does not lie there in one piece.
    """

    name: str
    offset: int
    size: int
    read: Callable[[], bytes]
    sparse: bool = False


class ShardWriter:
    """Adds videos to a tar that `open_shard_writer` opened."""

    def __init__(self, tar_writer: Any):
        self._tar_writer = tar_writer

    def write(self, key: str, video: bytes, description: VideoDescription) -> None:
        """Append `{key}.json` and `{key}.mp4` (webdataset sorts members by extension)."""
        said = description._asdict()
        captions = said.pop("captions")
        if captions:
            said["caption"] = captions[0] if len(captions) == 1 else captions
        text = to_json(said, separators=(",", ":"))
        self._tar_writer.write({"__key__": key, "json": text.encode(), "mp4": video})


@contextmanager
def open_shard_writer(path: Path) -> Iterator[ShardWriter]:
    """Write a shard aside; at the end it is closed, synced and renamed to `path`, or removed when the body raises.

    Raises:
        OSError: The disk is full, or the folder cannot be written to; nothing is left behind.
    """
    from webdataset import TarWriter  # here, because it imports torch, and readers of shards do without

    with write_atomically(path) as temporary, temporary.open("wb") as stream:
        # PAX, by name: TarWriter cannot take the number tarfile.PAX_FORMAT, and USTAR ends at 100 characters a name.
        tar_writer = TarWriter(
            stream, user="root", group="root", mode=0o644, mtime=0.0, compress=False, encoder=False, format="PAX_FORMAT"
        )
        try:
            yield ShardWriter(tar_writer)
        except BaseException:
            with suppress(OSError):  # closing writes the end of the tar, which fails again on a full disk
                tar_writer.close()
            raise
        tar_writer.close()


def split_member_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member, as webdataset takes them: the key ends at the first dot of the file's name.

    Returns:
        The key, with folders where the name has some, and the extension in small letters; None for a name that
        webdataset passes over.

    >>> split_member_name("fight/a.b/001.left.MP4")
    ('fight/a.b/001', 'left.mp4')
    """
    found = _MEMBER_NAME.fullmatch(name)
    return None if found is None else (found[1], found[2].lower())


def iterate_members(path: Path) -> Iterator[TarMember]:
    """Every file in a tar, in order, without reading what is in them.

    Raises:
        ShardFormatError: There is no such file, it is compressed, or it is not a whole tar (truncated, damaged header);
            raised at the latest after the last member.
    """
    end = 0
    try:
        _refuse_compressed(path)
        with tarfile.open(path, "r:", encoding="utf-8") as tar:  # the names as others read them, whatever the locale
            for member in tar:
                end = tar.offset  # of the next header
                if member.isreg():
                    read = partial(_read_member, tar, member)
                    yield TarMember(member.name, member.offset_data, member.size, read, member.issparse())
    except FileNotFoundError:
        raise ShardFormatError(f"{path}: there is no such shard; {AGAIN}") from None
    except tarfile.TarError as error:
        raise ShardFormatError(f"{path}: not a whole tar file ({error}); {AGAIN}") from None
    except OSError as error:
        raise ShardFormatError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from None
    _check_end(path, end)


def is_video_of(key: str, name: str) -> bool:
    """Whether a member of this name is the video of the sample `key`: `{key}.mp4`, or another suffix of videos."""
    found = split_member_name(name)
    return found is not None and found[0] == key and f".{found[1].rpartition('.')[2]}" in VIDEO_SUFFIXES


def is_header_of(header: bytes, key: str, size: int) -> bool:
    """Whether 512 bytes are the tar header of a video of this key and size; False also where the name is not in it."""
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        return False
    return is_video_of(key, member.name) and member.size == size and member.isreg()


def index_shard(path: Path) -> list[ShardRow]:
    """Recover the rows of a shard from the tar alone, without reading the videos.

    Args:
        path: A tar written by `open_shard_writer`.

    Returns:
        One row a video, in the order of the tar.

    Raises:
        ShardFormatError: There is no such file, it is not a whole tar (truncated, damaged), or a key comes twice.
        UndescribedShardError: A video lacks its description or the other way round, or a description lacks a field.
    """
    videos: dict[str, tuple[int, int]] = {}
    descriptions: dict[str, bytes] = {}
    for member in iterate_members(path):
        key, extension = split_member_name(member.name) or ("", "")
        if (extension == "mp4" and key in videos) or (extension == "json" and key in descriptions):
            raise ShardFormatError(f"{path}: {member.name} is there twice; pack the dataset again")
        if extension == "mp4":
            videos[key] = (member.offset, member.size)
        elif extension == "json":
            descriptions[key] = member.read()
    described = {key: _parse_description(text, path, f"{key}.json") for key, text in descriptions.items()}
    unpaired = sorted(videos.keys() ^ described.keys())
    if unpaired:
        raise UndescribedShardError(f"{path}: {unpaired[0]} lacks its .mp4 or its .json; pack the dataset again")
    return [ShardRow(key, path.name, *place, described[key]) for key, place in videos.items()]


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    return content.read() if content else b""


def _refuse_compressed(path: Path) -> None:
    with path.open("rb") as file:
        begin = file.read(6)
    for magic, (name, command) in COMPRESSED.items():
        if begin.startswith(magic):
            raise ShardFormatError(
                f"{path}: is compressed with {name}, and videos are read by their place in a plain tar; unpack it: "
                f"{command} {path.name}"
            )


def _check_end(path: Path, end: int) -> None:
    """A whole tar ends with at least two blocks of zeros: tarfile alone takes one cut between members for whole."""
    with path.open("rb") as file:
        file.seek(end)
        length = 0
        while chunk := file.read(1 << 20):
            if chunk.strip(b"\0"):
                raise ShardFormatError(f"{path}: damaged after byte {end}; {AGAIN}")
            length += len(chunk)
    if length < 2 * tarfile.BLOCKSIZE:
        raise ShardFormatError(f"{path}: truncated, the end of the tar is missing; {AGAIN}")


def _parse_description(text: bytes, path: Path, member: str) -> VideoDescription:
    try:
        content = json.loads(text)
        return VideoDescription(
            label=str(content["label"]),
            split=str(content["split"]),
            fold_splits=tuple(str(split) for split in content["fold_splits"]),
            group=str(content["group"]),
            num_frames=int(content["num_frames"]),
            fps=float(content["fps"]),
            width=int(content["width"]),
            height=int(content["height"]),
            duration_s=float(content["duration_s"]),
            content_sha256=str(content["content_sha256"]),
            source=str(content["source"]),
            variable_rate=bool(content["variable_rate"]),
            pixel_aspect=float(content["pixel_aspect"]),
            frame_hashes=tuple(int(value) for value in content["frame_hashes"]),
            captions=as_captions(content.get("caption")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UndescribedShardError(
            f"{path}: {member} is not a description of a video by this pipeline ({type(error).__name__}: {error}); "
            "pack the dataset again"
        ) from None
