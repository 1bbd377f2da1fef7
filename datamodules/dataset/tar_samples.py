"""Which samples are in a tar: those that webdataset itself finds, in its order.

Members that follow each other and have the same key are one sample; a key that comes again later is another sample.
Checked against `webdataset.tariterators` 1.0.2, which reads every byte on the way, and imports torch.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.dataset.shard_tar import TarMember, is_video_of, iterate_members, split_member_name

TEXTS = ("json", "cls", "txt")  # the extensions of members that are read
_NOTES = re.compile(r"__[^/]*__($|/)")  # webdataset's notes about the tar itself
_RESERVED = ("__key__", "__url__")  # names that webdataset's samples have already


class TarSample(NamedTuple):
    """Members of a tar with one key.

    Attributes:
        key: As webdataset gives it.
        extensions: Of all members, in their order, in small letters.
        videos: The members that are videos by their names.
        texts: What is in the others that are read, by extension.
        twice: Name of a member whose extension is there already, which webdataset refuses; "" for none.
    """

    key: str
    extensions: list[str]
    videos: list[TarMember]
    texts: Mapping[str, bytes]
    twice: str = ""


def iterate_samples(path: Path, passed_over: list[str]) -> Iterator[TarSample]:
    """The samples of a tar, in order; of their members the small ones are read.

    Args:
        path: The tar.
        passed_over: Gets the names of the files that belong to no sample, as webdataset sees it: those without a dot
            in their names, or with nothing before it, and notes about the tar (`__name__`).

    Raises:
        ShardFormatError: As `iterate_members`.
    """
    sample: TarSample | None = None
    for member in iterate_members(path):
        found = None if _NOTES.match(member.name) else split_member_name(member.name)
        if found is None:
            passed_over.append(member.name)
            continue
        key, extension = found
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key, [], [], {})
        sample = _with_member(sample, member, extension)
    if sample is not None:
        yield sample


def _with_member(sample: TarSample, member: TarMember, extension: str) -> TarSample:
    if extension in sample.extensions or extension in _RESERVED:
        return sample._replace(twice=sample.twice or member.name)
    sample = sample._replace(extensions=[*sample.extensions, extension])
    if is_video_of(sample.key, member.name):
        return sample._replace(videos=[*sample.videos, member])
    return sample._replace(texts={**sample.texts, extension: member.read()}) if extension in TEXTS else sample
