"""The HTTP application of a service: its paths, status codes and the limit of accepted requests."""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from jobs.service.classification import (
    OK,
    UNDECODABLE,
    Classification,
    Classifier,
    ServiceBusyError,
    ServiceUnavailableError,
)
from jobs.service.openapi import CLASSIFY, DESCRIPTION, LABELS
from jobs.service.service_metrics import CONTENT_TYPE, ServiceMetrics
from jobs.service.upload_guard import UploadGuard
from jobs.service.uploads import UploadError, UploadLimits, read_upload

OPEN_PATHS = ("/healthz", "/docs", "/openapi.json")
_CLIENT_GONE = 499  # never sent: what the metrics count for a client that left during its upload
_RETRY_UNAVAILABLE_S = 5


class GatewayLimits(NamedTuple):
    """Limits of the gateway.

    Attributes:
        uploads: size and time of an upload.
        max_accepted: most requests that are accepted and not answered.
        answer_timeout_s: seconds from the end of an upload to the answer.
    """

    uploads: UploadLimits
    max_accepted: int
    answer_timeout_s: float


class Gateway:
    """Takes requests, and asks a classifier.

    Args:
        classifier: what classifies.
        limits: the limits.
        metrics: what is counted.
    """

    def __init__(self, classifier: Classifier, limits: GatewayLimits, metrics: ServiceMetrics) -> None:
        self._classifier = classifier
        self._limits = limits
        self._metrics = metrics
        self._num_accepted = 0
        self._usual_s = 1.0  # moving average of the seconds of an answer

    def application(self, token: str | None) -> ASGIApp:
        """The ASGI application; with a token all but health and documentation ask for it."""
        app = FastAPI(title="Action recognition", description=DESCRIPTION, redoc_url=None)
        app.add_api_route("/v1/classify", self.classify, methods=["POST"], openapi_extra=CLASSIFY, summary="Classify")
        app.add_api_route("/v1/labels", self.labels, methods=["GET"], openapi_extra=LABELS, summary="Classes")
        app.add_api_route("/healthz", self.health, methods=["GET"], summary="Whether requests are answered")
        app.add_api_route("/metrics", self.metrics, methods=["GET"], summary="Figures for Prometheus")
        app.add_exception_handler(HTTPException, _unknown_address)
        return UploadGuard(app, token, OPEN_PATHS)

    async def classify(self, request: Request) -> Response:
        """Classifies an uploaded video; the answer is an object of `classify --json`."""
        start = time.monotonic()
        if self._num_accepted >= self._limits.max_accepted:
            return self._counted(_busy(self._retry_after()), start)
        self._num_accepted += 1
        self._metrics.accepted.inc()
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            response = _error(_CLIENT_GONE, "the client left")
        finally:
            self._num_accepted -= 1
            self._metrics.accepted.dec()
        return self._counted(response, start)

    async def labels(self) -> Response:
        """The classes that the network knows, its task, and which network it is."""
        return await self._within_time(self._describe)

    async def health(self) -> Response:
        """200 if requests are answered, 503 if not."""
        problem = self._classifier.problem()
        return _error(503, problem, _RETRY_UNAVAILABLE_S) if problem else JSONResponse({"status": "ok"})

    async def metrics(self) -> Response:
        """Figures of this service in the text format of Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _answer(self, request: Request) -> Response:
        try:
            upload = await read_upload(request, self._limits.uploads)
        except UploadError as error:
            return _error(error.status, str(error))
        with upload.file:
            data = await asyncio.to_thread(upload.file.read)
        self._metrics.upload.inc(len(data))

        async def classify() -> Response:
            return self._response(await self._classifier.classify(data, upload.request))

        return await self._within_time(classify)

    async def _within_time(self, answer: Callable[[], Awaitable[Response]]) -> Response:
        try:
            async with asyncio.timeout(self._limits.answer_timeout_s):
                return await answer()
        except ServiceBusyError:
            return _busy(self._retry_after())
        except ServiceUnavailableError as error:
            return _error(503, str(error), _RETRY_UNAVAILABLE_S)
        except TimeoutError:
            return _error(504, f"no answer within {self._limits.answer_timeout_s:g} s; try again later")

    async def _describe(self) -> Response:
        return JSONResponse(await self._classifier.describe())

    def _response(self, answer: Classification) -> Response:
        if answer.status in (OK, UNDECODABLE):
            self._metrics.decoding.observe(answer.decode_s)
        if answer.status == OK:
            self._metrics.shared.observe(answer.num_requests)
        if answer.status == UNDECODABLE:
            self._metrics.refused.labels(answer.content["reason"]).inc()
        content = json.dumps(answer.content)  # as `classify --json` writes it
        return Response(content, answer.status, media_type="application/json")

    def _counted(self, response: Response, start: float) -> Response:
        seconds = time.monotonic() - start
        self._metrics.requests.labels(str(response.status_code)).inc()
        self._metrics.latency.observe(seconds)
        if response.status_code == OK:
            self._usual_s += 0.1 * (seconds - self._usual_s)
        return response

    def _retry_after(self) -> int:
        """Seconds after which a place is likely to be free."""
        return max(1, math.ceil(self._usual_s))


async def _unknown_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, f"there is no {request.method} {request.url.path} here; see /docs")


def _busy(retry_s: int) -> Response:
    return _error(429, "as many requests wait as are accepted; try again later", retry_s)


def _error(status: int, message: str, retry_s: int | None = None) -> Response:
    headers: dict[str, Any] = {} if retry_s is None else {"retry-after": str(retry_s)}
    return JSONResponse({"error": message}, status, headers)
