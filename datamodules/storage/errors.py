"""What went wrong with a remote read: can another try mend it, and how is it said to a person in one sentence.

Each file system of fsspec raises its own: aiohttp's errors have a `status`, gcsfs's a `code`, botocore's a `response`.
"""

import errno
from typing import Any

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_RETRIED_STATUS = (408, 425, 429)  # of the client errors 400 to 499, those that pass
_ACCESS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws; AWS_ENDPOINT_URL for a server of your own",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
}


class ShardFormatError(ValueError):
    """A packed dataset is missing, damaged or not of this code's format; the message names the file and the fix."""


class ShardUnavailableError(ShardFormatError):
    """A remote file could not be read, though it was tried again; the message names the place and the cause."""


class ShortReadError(OSError):
    """Fewer bytes than asked for, or others."""


def cause_of(error: Exception) -> BaseException:
    """What is behind it: http says FileNotFoundError of whatever went wrong when asked for a size."""
    return (error.__cause__ or error) if isinstance(error, FileNotFoundError) else error


def is_missing(error: BaseException) -> bool:
    """Whether there is no such file, nor such a bucket."""
    return isinstance(error, (FileNotFoundError, LookupError)) or _status(error) in (404, 410)


def is_final(error: BaseException) -> bool:
    """Whether waiting mends nothing: no access, no credentials, a range beyond the end, a wrong address."""
    if isinstance(error, (PermissionError, ValueError, TypeError, NotImplementedError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.EINVAL:  # s3fs: the range is not satisfiable
        return True
    status = _status(error)
    return _lacks_credentials(error) or (status is not None and 400 <= status < 500 and status not in _RETRIED_STATUS)


def describe_read_error(error: BaseException) -> str:
    """The error in a few words, on one line."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    text = f"{status} {message}" if isinstance(status, int) else " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text and not isinstance(error, ShortReadError) else text or repr(error)


def access_advice(root: str, error: BaseException) -> str:
    """What to check after a read that failed for good."""
    access = _ACCESS.get(_family(root))
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return "the file may be shorter than the index says: copy it there again"
    return f"check the address and your access ({access})" if access else "check the address and your access"


def advice_after_tries(root: str) -> str:
    """What to check after many tries: gcsfs without credentials, for one, just waits."""
    access = _ACCESS.get(_family(root))
    return "check the server, the network and your access" if access else "check the server and the network"


def absent_package(root: str, error: ImportError) -> ShardFormatError:
    """The sentence for a file system whose package is not installed."""
    protocol = root.partition("://")[0]
    package = PACKAGES.get(protocol) or getattr(error.__cause__, "name", None) or "the package that it names"
    cause = " ".join(str(error).split())
    return ShardFormatError(f"root={root}: reading {protocol}:// needs {package} ({cause}); pip install {package}")


def _family(root: str) -> str:
    return {"s3fs": "s3", "gcsfs": "gs"}.get(PACKAGES.get(root.partition("://")[0], ""), "")


def _lacks_credentials(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"})


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    status: Any = getattr(error, "status", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = getattr(error, "code", None) if status is None else status
    return status if isinstance(status, int) else None
