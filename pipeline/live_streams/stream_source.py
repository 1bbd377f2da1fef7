"""`StreamSource`: what a stream is read from, and how it is opened."""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import av
import av.container
import av.video

from datamodules.video.video_container import LIMITS, SINGLE_FILE_FORMATS
from datamodules.video.video_streams import candidate_streams
from pipeline.live_streams.pipe_reader import PipeReader

Kind = Literal["network", "camera", "pipe", "file"]

# Formats that name other files, which a stream must not have read.
_FORMATS_WITH_FILES = {"avisynth", "concat", "image2", "imf", "lavfi", "vapoursynth"}
_NETWORK_FORMATS = {"format_whitelist": ",".join(sorted(av.formats_available - _FORMATS_WITH_FILES))}
_SCHEME_OPTIONS = {
    "rtsp": {"rtsp_flags": "prefer_tcp"},  # a lost packet of UDP would damage frames up to the next key frame
    "udp": {"fifo_size": "65536", "overrun_nonfatal": "1"},  # 12 MB of packets of 188 bytes; beyond it the oldest go
}


class StreamLostError(Exception):
    """A stream cannot be opened, or read any further.

    Attributes:
        is_end: whether it ended as files do, and need not be opened again.
        is_final: whether another attempt would fail too.
    """

    def __init__(self, reason: str, is_end: bool = False, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_end, self.is_final = is_end, is_final


class StreamSource:
    """A network stream, a camera, a pipe or a file.

    Args:
        address: an address with a scheme, a path, or - for standard input.
        timeout_s: seconds that a network stream may take to open, and may be without data.
        is_stopping: returns whether to stop reading.

    Attributes:
        kind: network, camera, pipe or file.
        name: the address for messages: without a password.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the path is neither file, pipe nor camera.
    """

    def __init__(self, address: str, timeout_s: float, is_stopping: Callable[[], bool]) -> None:
        self._address, self._timeout_s, self._is_stopping = address, timeout_s, is_stopping
        self.kind = _kind_of(address)
        self.name = "standard input" if address == "-" else _without_password(address)
        self._pipe: PipeReader | None = None

    @property
    def is_restartable(self) -> bool:
        """Whether the source can be opened again after it was lost."""
        return self.kind in ("network", "camera")

    @property
    def has_ended(self) -> bool:
        """Whether a pipe has been read to its end."""
        return self._pipe is not None and self._pipe.ended

    @contextmanager
    def open(self) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
        """Opens the source; a pipe is read on from where it is.

        Raises:
            StreamLostError: it cannot be opened.
        """
        began = time.monotonic()
        try:
            container = self._open_container()
        except av.error.ProtocolNotFoundError:
            scheme = urlsplit(self._address).scheme
            raise StreamLostError(f"the FFmpeg inside PyAV does not speak {scheme}", is_final=True) from None
        except (av.FFmpegError, OSError, ValueError) as error:
            raise StreamLostError(self.explain(error, time.monotonic() - began)) from None
        with closing(container):
            streams = [stream for stream in candidate_streams(container) if stream.codec_context is not None]
            if not streams:
                raise StreamLostError("it has no video that FFmpeg can decode")
            stream = max(streams, key=lambda each: each.codec_context.width * each.codec_context.height)
            stream.codec_context.options = LIMITS
            stream.thread_type, stream.thread_count = "NONE", 1
            yield container, stream

    def explain(self, error: Exception, seconds: float) -> str:
        """Why opening or reading failed after `seconds`, without the address, which may have a password."""
        timed_out = self.is_restartable and seconds >= self._timeout_s  # of RTSP the error is another one
        if isinstance(error, av.error.ExitError) or timed_out:
            return f"no data for {self._timeout_s:g} s"
        if isinstance(error, av.error.InvalidDataError) and self.kind in ("file", "pipe"):
            return (
                "it is no video that can be read from the start to the end; an mp4 that was not written for streaming "
                "has its index at the end: rewrite it with `ffmpeg -i FILE -c copy -f mpegts`"
                if self.kind == "pipe"
                else "it is no video that FFmpeg can read"
            )
        return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()

    def _open_container(self) -> av.container.InputContainer:
        target: Any = self._address
        options, timeout, format_name = LIMITS | SINGLE_FILE_FORMATS, None, None
        if self.kind == "pipe":
            target = self._pipe = self._pipe or self._open_pipe()
            options |= {"protocol_whitelist": "data"}
        elif self.kind == "file":
            target = f"file:{self._address}"
            options |= {"protocol_whitelist": "file"}
        else:
            timeout = (self._timeout_s, self._timeout_s)
        if self.kind == "camera":
            options, format_name = LIMITS, "v4l2"
        elif self.kind == "network":
            options = LIMITS | _NETWORK_FORMATS | _SCHEME_OPTIONS.get(urlsplit(self._address).scheme, {})
        container: av.container.InputContainer = av.open(
            target, mode="r", format=format_name, options=options, timeout=timeout, metadata_errors="replace"
        )
        return container

    def _open_pipe(self) -> PipeReader:
        if self._address == "-":
            return PipeReader(0, self._is_stopping)
        return PipeReader.open_path(self._address, self._is_stopping)


def _kind_of(address: str) -> Kind:
    if address == "-":
        return "pipe"
    if "://" in address:
        return "network"
    if not os.path.exists(address):  # noqa: PTH110
        if address.startswith("/dev/video"):
            return "camera"  # not plugged in yet
        raise FileNotFoundError(2, "no such file, pipe or camera; an address has a scheme, such as rtsp://", address)
    mode = os.stat(address).st_mode  # noqa: PTH116
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISFIFO(mode):
        return "pipe"
    if stat.S_ISCHR(mode):
        return "camera"
    raise ValueError(f"live={address!r}: is no stream; give an address, a camera, a pipe or a file")


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    if parts.password is None:
        return address
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))
