"""Decoding of an uploaded video in a child process, within limits of time and memory; in pieces where it is long.

`begin_decoding` and `next_piece` run in the child, `UploadDecoding` in the thread that drives it.
"""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.annotations.refusals import CRASH, ERROR, HANG
from datamodules.video.decoding import TOO_LARGE, DecodeError, count_other_streams
from pipeline.classify.timeline import plan_seconds, second_batches
from pipeline.classify.video_input import Preprocessing, VideoClips, choose_clips
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung, ProcessUnavailable

_NO_MEMORY = ("MemoryError", "allocate memory")  # what NumPy, PyAV and torch say within a DecodeError
Piece = list[NDArray[np.uint8]]


class UploadPlan(NamedTuple):
    """What is known of an upload before its clips are decoded.

    Attributes:
        is_long: its clips come in several pieces; else in one.
        second_rows: for a timeline the row of each second's clip, int64 (S,); None without one.
        duration_s: for a timeline the duration, in seconds; 0 without one.
        other_streams: further video streams in the file, which are not looked at.
    """

    is_long: bool
    second_rows: NDArray[np.int64] | None
    duration_s: float
    other_streams: int


class _Timed(NamedTuple):
    """What a function of the child returned, and the seconds that it took there."""

    value: Any
    seconds: float


# In the child: what is left of the video that is decoded, and the most bytes of address space meanwhile.
_pieces: Iterator[list[Tensor]] = iter(())
_max_address_space = resource.RLIM_INFINITY


def get_ready() -> None:
    """Does nothing: the import of this module, which takes seconds, is what a first call of it is for."""


def begin_decoding(data: bytes, preprocessing: Preprocessing, timeline: bool, memory_bytes: int) -> _Timed:
    """Reads a video's header and chooses its clips, which `next_piece` decodes.

    Args:
        data: the bytes of the video file.
        preprocessing: the preprocessing of the network.
        timeline: choose a clip around each second.
        memory_bytes: bytes of memory that this process may take, besides what it has.

    Raises:
        DecodeError: the bytes are no video that can be decoded.
        MemoryError: it takes more memory.
    """
    global _pieces, _max_address_space  # one video at a time in this process
    start = time.monotonic()
    _pieces = iter(())  # frees the previous video
    _max_address_space = psutil.Process().memory_info().vms + memory_bytes
    with _limited_memory():
        if timeline:
            seconds = plan_seconds(preprocessing, preprocessing.frames_of(data))
            _pieces = second_batches(seconds.clips.decode())
            plan = UploadPlan(True, seconds.inverse, seconds.duration_s, count_other_streams(data))
        else:
            clips = choose_clips(preprocessing, preprocessing.frames_of(data))
            _pieces = ([piece] for piece in (clips.pieces() if clips.is_long else _whole(clips)))
            plan = UploadPlan(clips.is_long, None, 0.0, count_other_streams(data))
    return _Timed(plan, time.monotonic() - start)


def next_piece() -> _Timed:
    """Decodes the next piece: the clips of some videos, each uint8 (N, T, H, W, C); an empty list at the end."""
    start = time.monotonic()
    with _limited_memory():
        piece: Piece = [clips.numpy() for clips in next(_pieces, [])]
    return _Timed(piece, time.monotonic() - start)


def _whole(clips: VideoClips) -> Iterator[Tensor]:
    yield clips.decode_all()


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Limits the address space of this process, where the system has such limits; but not while it receives a video."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limits = [each for each in (_max_address_space, before[1]) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits, default=resource.RLIM_INFINITY), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class UploadDecoding:
    """The decoding of one upload by a child process.

    Args:
        child: the process, for exclusive use; killed when the time is up, and started anew at its next use.
        timeout_s: seconds of the child's time for the whole video.
        memory_bytes: bytes of memory that decoding may take.

    Attributes:
        seconds: seconds of the child's time so far.
    """

    def __init__(self, child: KillableProcess, timeout_s: float, memory_bytes: int) -> None:
        self._child = child
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self.seconds = 0.0

    def begin(self, data: bytes, preprocessing: Preprocessing, timeline: bool) -> UploadPlan:
        """Begins with a video; see `begin_decoding`.

        Raises:
            DecodeError: it cannot be decoded, or not within the limits.
        """
        plan: UploadPlan = self._call(begin_decoding, data, preprocessing, timeline, self._memory_bytes)
        return plan

    def pieces(self) -> Iterator[list[Tensor]]:
        """Decodes piece by piece: the clips of some videos, each uint8 (N, T, H, W, C).

        Raises:
            DecodeError: the video cannot be decoded, or not within the limits; earlier pieces have been yielded.
        """
        while piece := self._call(next_piece):
            yield [torch.from_numpy(clips) for clips in piece]

    def _call(self, function: Callable[..., _Timed], *args: Any) -> Any:
        try:
            answer = self._child.call(function, *args, timeout=max(0.001, self._timeout_s - self.seconds))
        except ProcessUnavailable:
            raise
        except ProcessHung:
            raise DecodeError(f"decoding took more than {self._timeout_s:g} s", HANG) from None
        except ProcessDied as died:
            raise DecodeError(f"the decoding process died ({died})", CRASH) from None
        except Exception as error:  # whatever a hostile file makes the libraries raise
            if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
                limit = self._memory_bytes // 2**20
                raise DecodeError(f"decoding takes more than {limit} MiB of memory", TOO_LARGE) from None
            if isinstance(error, DecodeError):
                raise
            raise DecodeError(f"it cannot be decoded: {type(error).__name__}: {error}", ERROR) from None
        self.seconds += answer.seconds
        return answer.value
