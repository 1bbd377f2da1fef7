"""One member of a tar, hashed and decoded in a process that can be killed."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from datamodules.dataset.foreign_tar import read_range
from datamodules.encoding.transcoding import inspect
from datamodules.video.probing import VideoInfo


class CheckedVideo(NamedTuple):
    """sha256 of a video's bytes, and its properties, None where it was not decoded."""

    content_sha256: str
    info: VideoInfo | None


def decode_range(
    path: str, offset: int, size: int, decode: bool = True, progress: Callable[[int], None] | None = None
) -> CheckedVideo:
    """Hashes a video in a tar and, with `decode`, decodes every frame; runs in a process that can be killed.

    Raises:
        DecodeError: a frame does not decode, or the video is truncated.
    """
    data = read_range(path, offset, size)
    digest = hashlib.sha256(data).hexdigest()
    if not decode:
        return CheckedVideo(digest, None)
    try:
        return CheckedVideo(digest, inspect(data, progress).info)
    except ValueError as error:
        raise UndecodableError(digest, str(error)) from error


class UndecodableError(ValueError):
    """A video that does not decode; `digest` is the sha256 of its bytes."""

    def __init__(self, digest: str, detail: str):
        super().__init__(digest, detail)
        self.digest = digest
        self.detail = detail
