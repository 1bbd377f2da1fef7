"""A real HTTP server on loopback that answers byte ranges, and fails in the ways that servers and networks fail."""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("500", "reset", "short", "cut", "stall", "wrong")


class FlakyServer(ThreadingHTTPServer):
    """Serves a folder. Each `every`-th GET meets the next of `faults`; `served` has every good range that was sent.

    Every GET takes `latency_s` at least; `most_at_once` is how many of them were ever under way together.
    """

    daemon_threads = True
    request_queue_size = 64  # with the usual 5, ten connections at once wait a second for the kernel to try again

    def __init__(
        self, folder: Path, faults: tuple[str, ...] = (), every: int = 2, stall_s: float = 2.0, latency_s: float = 0.0
    ):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults = faults
        self.every = every
        self.stall_s = stall_s
        self.latency_s = latency_s
        self.at_once = 0
        self.most_at_once = 0
        self.ranges = True
        self.gone = False
        self.gets = 0
        self.injected: list[str] = []
        self.served: list[tuple[str, int, int]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self) -> str:
        with self.lock:
            self.gets += 1
            if not self.faults or self.gets % self.every:
                return ""
            self.injected.append(self.faults[len(self.injected) % len(self.faults)])
            return self.injected[-1]

    def handle_error(self, request, client_address):
        """Quiet: clients that give up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a small body waits 40 ms for the acknowledgment of its headers
    server: FlakyServer

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        path = self.server.folder / self.path.lstrip("/")
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(path.stat().st_size) if path.is_file() else "0")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self):
        server = self.server
        if server.gone:
            self.close_connection = True
            return
        with server.lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.latency_s)
            self._answer()
        finally:
            with server.lock:
                server.at_once -= 1

    def _answer(self):
        fault = self.server.next_fault()
        path = self.server.folder / self.path.lstrip("/")
        if fault == "500" or not path.is_file():
            self.send_response(500 if fault == "500" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault == "stall":
            time.sleep(self.server.stall_s)
        self._send(path, fault)

    def _send(self, path: Path, fault: str) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(wanted[1]), int(wanted[2]) + 1) if wanted and self.server.ranges else (0, path.stat().st_size)
        with path.open("rb") as file:
            file.seek(start)
            part = file.read(max(0, end - start))
        if fault == "short":
            part = part[:-1]  # a well-formed answer with fewer bytes than asked for
        if fault == "wrong":
            part = bytes(len(part))
        self.send_response(206 if wanted and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if fault == "cut":  # announces more than comes
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        if not fault:
            self.server.served.append((path.name, start, len(part)))  # first: a client that has it all may look at once
        self.wfile.write(part)


@contextmanager
def serving(folder: Path, *faults: str, **options) -> Iterator[FlakyServer]:
    """A server in threads of this process, closed at the end."""
    with FlakyServer(folder, faults, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.gone = True  # for connections that are still open
            server.shutdown()
            thread.join()
