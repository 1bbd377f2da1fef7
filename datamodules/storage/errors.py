"""Errors of remote reads: whether a retry can help, and a one-sentence description for users.

Each file system of fsspec raises its own types: aiohttp's errors have a `status`, gcsfs's a `code`, botocore's and
huggingface_hub's a `response`.
"""

import errno
from typing import Any

PACKAGES = {
    **{"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"},
    "hf": "huggingface_hub",
}
_RETRIED_STATUS = (408, 425, 429)  # client errors (400 to 499) that may be temporary
_CREDENTIALS_ADVICE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws; AWS_ENDPOINT_URL for a server of your own",
    "hf": "HF_TOKEN, or `hf auth login`; HF_ENDPOINT for a server of your own",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
}


class ShardFormatError(ValueError):
    """A packed dataset is missing, damaged or of another format; the message names the file and the fix."""


class ShardUnavailableError(ShardFormatError):
    """A remote file could not be read after all retries; the message names the place and the cause."""


class ShortReadError(OSError):
    """A read returned fewer bytes than requested, or other bytes."""


def cause_of(error: Exception) -> BaseException:
    """The underlying error: http raises FileNotFoundError for any failure to get a file's size."""
    return (error.__cause__ or error) if isinstance(error, FileNotFoundError) else error


def is_missing(error: BaseException) -> bool:
    """Whether the file or its bucket does not exist."""
    return isinstance(error, (FileNotFoundError, LookupError)) or _status(error) in (404, 410)


def is_final(error: BaseException) -> bool:
    """Whether retrying cannot help: no access, no credentials, a range beyond the end, a wrong URL."""
    if isinstance(error, (PermissionError, ValueError, TypeError, NotImplementedError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.EINVAL:  # s3fs: range not satisfiable
        return True
    status = _status(error)
    return _lacks_credentials(error) or (status is not None and 400 <= status < 500 and status not in _RETRIED_STATUS)


def describe_read_error(error: BaseException) -> str:
    """Describes the error in a few words, on one line."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    text = f"{status} {message}" if isinstance(status, int) else " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text and not isinstance(error, ShortReadError) else text or repr(error)


def access_advice(root: str, error: BaseException) -> str:
    """Advice on what to check after a final failure."""
    credentials = _CREDENTIALS_ADVICE.get(_protocol_family(root))
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return "the file may be shorter than the index says: copy it there again"
    return f"check the address and your access ({credentials})" if credentials else "check the address and your access"


def retry_advice(root: str) -> str:
    """Advice on what to check after many retries; gcsfs without credentials, for example, just waits."""
    credentials = _CREDENTIALS_ADVICE.get(_protocol_family(root))
    return "check the server, the network and your access" if credentials else "check the server and the network"


def missing_package_error(root: str, error: ImportError) -> ShardFormatError:
    """The error for a file system whose package is not installed."""
    protocol = root.partition("://")[0]
    package = PACKAGES.get(protocol) or getattr(error.__cause__, "name", None) or "the package that it names"
    cause = " ".join(str(error).split())
    return ShardFormatError(f"root={root}: reading {protocol}:// needs {package} ({cause}); pip install {package}")


def _protocol_family(root: str) -> str:
    return {"s3fs": "s3", "gcsfs": "gs", "huggingface_hub": "hf"}.get(PACKAGES.get(root.partition("://")[0], ""), "")


def _lacks_credentials(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"})


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    status: Any = getattr(error, "status", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        status = getattr(response, "status_code", None)
    status = getattr(error, "code", None) if status is None else status
    return status if isinstance(status, int) else None
