"""`UploadGuard`: ASGI middleware that asks for the token, and ends the upload of a request that is answered early."""

import asyncio
import hmac
import json
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S = 2.0  # an upload is read on for so long after an early answer: a reset would take the answer from the client


class UploadGuard:
    """Answers requests without the token with 401 before a byte of their body is read.

    A response that is sent before the body was read to its end closes the connection: what an endless upload sends is
    read for 2 seconds more, and thrown away.

    Args:
        app: the application behind it.
        token: the token that requests must carry as `Authorization: Bearer TOKEN`; None: everybody may ask.
        open_paths: paths that need no token.
    """

    def __init__(self, app: ASGIApp, token: str | None, open_paths: Sequence[str] = ()) -> None:
        self._app = app
        self._token = token
        self._open_paths = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, send)
        if self._is_allowed(scope):
            await self._app(scope, body.receive, body.send)
        else:
            await _refuse(body)

    def _is_allowed(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in self._open_paths:
            return True
        expected = f"Bearer {self._token}".encode()
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], expected)


async def _refuse(body: "_Body") -> None:
    content = json.dumps({"error": "give the service's token as `Authorization: Bearer TOKEN`"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers.append((b"www-authenticate", b"Bearer"))
    await body.send({"type": "http.response.start", "status": 401, "headers": headers})
    await body.send({"type": "http.response.body", "body": content})


class _Body:
    """The body of a request as it is read, and the response, which closes the connection if that is not done."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        headers = dict(scope["headers"])
        self._is_complete = b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
        self._is_closing = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_complete = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_complete:
            self._is_closing = True
            message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and self._is_closing:
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_S):
                while not self._is_complete:
                    await self.receive()
        except TimeoutError:
            return
