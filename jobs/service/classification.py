"""What travels between gateway and replica: a request, and its answer, as plain data."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

OK, BAD_REQUEST, UNDECODABLE = 200, 400, 422


@dataclass(frozen=True)
class ClassifyRequest:
    """How one video is classified.

    Attributes:
        name: name of the video in the answer.
        top: number of classes.
        timeline: classify a clip around each second.
        threshold: probability from which on a class is a label, for networks of several labels a video.
    """

    name: str = "video"
    top: int = 5
    timeline: bool = False
    threshold: float | None = None


class Classification(NamedTuple):
    """The answer to a request.

    Attributes:
        status: HTTP status: `OK`, `BAD_REQUEST` for options that the network does not have, or `UNDECODABLE`.
        content: the answer as plain data; a result in the form of `classify --json`.
        decode_s: seconds of decoding.
        num_requests: requests that shared the last forward pass, this one included; 0 where there was none.
    """

    status: int
    content: dict[str, Any]
    decode_s: float = 0.0
    num_requests: int = 0


class ServiceBusyError(Exception):
    """No replica takes the request now, and enough wait already."""


class ServiceUnavailableError(Exception):
    """No replica answered, although the request was tried again."""


class Classifier(Protocol):
    """What the gateway asks for classifications: replicas on a cluster, or one in this process."""

    async def classify(self, data: bytes, request: ClassifyRequest) -> Classification:
        """Classifies the bytes of a video file."""

    async def describe(self) -> dict[str, Any]:
        """Classes, task and network as plain data."""

    def problem(self) -> str:
        """Why no request can be answered now; empty if it can."""
