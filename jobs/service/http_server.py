"""HTTP server of a service: uvicorn in a thread, with limits for headers and connections."""

import asyncio
import errno
import socket
import threading
from asyncio import TimerHandle, Transport

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADERS_S = 10.0  # from the connection, or a request's first byte, to the end of its headers
_MAX_HEADER_BYTES = 2**19  # before the headers end; a read may bring 256 KiB of body with them
_IDLE_S = 10  # a connection without a request
_SPARE_CONNECTIONS = 256  # besides those of accepted requests
_GRACE_S = 600  # longest wait for accepted requests at the end


class LimitedProtocol(HttpToolsProtocol):
    """Connection that is closed if the headers of a request do not arrive in time, or do not end."""

    _timer: TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Starts the time of the first request's headers."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts the bytes of headers that do not end."""
        super().data_received(data)
        if self._timer is not None:
            self._header_bytes += len(data)
            if self._header_bytes > _MAX_HEADER_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Starts the time of the next request's headers."""
        super().on_message_begin()
        self._start_timer()

    def on_headers_complete(self) -> None:
        """Ends the time."""
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(_HEADERS_S, self.transport.abort)

    def _stop_timer(self) -> None:
        self._header_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int) -> socket.socket:
    """Takes a port of this machine.

    Args:
        host: an address of this machine.
        port: the port; 0: any free one.

    Raises:
        ValueError: the port is in use, or the address is not of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port={port}: is in use on {host}; give another --port, or 0 for a free one") from None
        reason = error.strerror or str(error)
        raise ValueError(f"host={host}, port={port}: cannot listen there ({reason})") from None


class HttpServer:
    """Server of an application in a thread of its own, so that this process keeps its signals.

    Args:
        app: the ASGI application.
        listening: the socket from `listen`.
        max_requests: most requests that are accepted at a time.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, max_requests: int) -> None:
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
            limit_concurrency=max_requests + _SPARE_CONNECTIONS,
        )
        self._server = uvicorn.Server(config)
        self._socket = listening
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def is_alive(self) -> bool:
        """Whether the server runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more requests, and waits until those that it has are answered."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))
