"""Uploads: the body of a request, or the file of a form, read within limits of size and time, and its options."""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from jobs.service.classification import ClassifyRequest

OPTIONS = ("top", "timeline", "threshold", "name")
_MEMORY_BYTES = 2**20  # of an upload; what is more goes to a temporary file
_FORM_BYTES = 2**16  # of a form besides its file: boundaries, headers and options
_MAX_NAME = 200  # characters
_MAX_TOP = 10000
_TRUE, _FALSE = ("true", "1", "yes", ""), ("false", "0", "no")


class UploadError(Exception):
    """An upload that is refused.

    Args:
        status: HTTP status.
        message: what is wrong and what to do, in one sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Upload(NamedTuple):
    """A video that was uploaded: its file, and what the request says."""

    file: IO[bytes]
    request: ClassifyRequest


class UploadLimits(NamedTuple):
    """Limits of an upload: bytes of the video, and seconds from the headers to the end of the body."""

    max_bytes: int
    timeout_s: float


async def read_upload(request: Request, limits: UploadLimits) -> Upload:
    """Reads the video of a request while it arrives; nothing is kept of one that is refused.

    Args:
        request: a request whose body is the video file, or a form of type multipart/form-data with one file.
        limits: limits of size and time.

    Raises:
        UploadError: too large (413), too slow (408), no video or a malformed form (400).
        starlette.requests.ClientDisconnect: the client is gone.
    """
    declared = request.headers.get("content-length", "")
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/")
    allowance = limits.max_bytes + (_FORM_BYTES if is_form else 0)
    if declared.isdecimal() and int(declared) > allowance:
        raise _too_large(limits)
    options = _options(request.query_params)
    try:
        async with asyncio.timeout(limits.timeout_s):
            chunks = _chunks(request, allowance, limits)
            file, fields = await (_read_form(request, chunks) if is_form else _read_body(chunks))
    except TimeoutError:
        raise UploadError(408, f"the upload took more than {limits.timeout_s:g} s; send it faster") from None
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0 or size > limits.max_bytes:
        file.close()
        if size:
            raise _too_large(limits)
        raise UploadError(400, "the upload is empty; send a video file as the body, or as a file of a form")
    try:
        return Upload(file, read_options(fields | options))
    except UploadError:
        file.close()
        raise


def read_options(values: Mapping[str, str]) -> ClassifyRequest:
    """The options of a request from text.

    Raises:
        UploadError: a value is not of its kind, or out of range (400).
    """
    top, threshold = _number(values, "top", "5"), _number(values, "threshold", "nan")
    if not top.is_integer() or not 1 <= top <= _MAX_TOP:
        raise UploadError(400, f"top={values['top']}: must be a whole number from 1 to {_MAX_TOP}")
    if "threshold" in values and not 0 <= threshold <= 1:
        raise UploadError(400, f"threshold={values['threshold']}: must be from 0 to 1")
    timeline = values.get("timeline", "false").lower()
    if timeline not in (*_TRUE, *_FALSE):
        raise UploadError(400, f"timeline={timeline}: must be true or false")
    name = values.get("name") or "video"
    return ClassifyRequest(name[:_MAX_NAME], int(top), timeline in _TRUE, None if math.isnan(threshold) else threshold)


def _number(values: Mapping[str, str], name: str, default: str) -> float:
    try:
        return float(values.get(name, default))
    except ValueError:
        raise UploadError(400, f"{name}={values[name]}: must be a number") from None


def _options(values: Mapping[str, str]) -> dict[str, str]:
    unknown = [name for name in values if name not in OPTIONS]
    if unknown:
        raise UploadError(400, f"{unknown[0]}: there is no such option; there are {', '.join(OPTIONS)}")
    return dict(values)


def _too_large(limits: UploadLimits) -> UploadError:
    return UploadError(413, f"the video is larger than {limits.max_bytes} bytes, the most that is taken here")


async def _chunks(request: Request, allowance: int, limits: UploadLimits) -> AsyncGenerator[bytes, None]:
    """The body while it arrives; raises UploadError as soon as it is larger than the allowance."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > allowance:
            raise _too_large(limits)
        yield chunk


async def _read_body(chunks: AsyncGenerator[bytes, None]) -> tuple[IO[bytes], dict[str, str]]:
    file: Any = SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 - closed by the caller, or here
    try:
        async for chunk in chunks:
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    return file, {}


async def _read_form(request: Request, chunks: AsyncGenerator[bytes, None]) -> tuple[IO[bytes], dict[str, str]]:
    """The file of a form, and its other fields."""
    parser = MultiPartParser(request.headers, chunks, max_files=1, max_fields=len(OPTIONS), max_part_size=1024)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        message = getattr(error, "message", str(error))
        raise UploadError(400, f"the form cannot be read ({message}); send multipart/form-data with a file") from None
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if not files:
        raise UploadError(400, "the form has no complete file; send the video as a file, such as curl -F video=@FILE")
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    return files[0].file, {"name": files[0].filename or ""} | _options(fields)
