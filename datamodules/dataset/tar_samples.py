"""Samples of a tar: the same samples in the same order as webdataset finds.

Consecutive members with the same key are one sample; a key that occurs again later is another sample. Checked against
`webdataset.tariterators` 1.0.2, which is not used because it reads every byte, and imports torch.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.dataset.shard_tar import TarMember, is_sample_video, iterate_members, split_member_name

TEXT_EXTENSIONS = ("json", "cls", "txt")  # extensions of the members that are read
_TAR_METADATA = re.compile(r"__[^/]*__($|/)")  # webdataset's metadata about the tar itself
_RESERVED = ("__key__", "__url__")  # keys that webdataset's samples already have


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
