"""A small RTSP server (RFC 2326, interleaved in TCP) for one client at a time, which sends what ffmpeg sends as RTP."""

import re
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from tests.pipeline.live_streams.streams import LIVE_VIDEO, free_port


class RtspServer:
    """Serves `LIVE_VIDEO` at rtsp://127.0.0.1:port/stream; `drop` hangs up on the client.

    Args:
        folder: folder for the session description.
    """

    def __init__(self, folder: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.clients = 0
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind(("127.0.0.1", 0))
        self._client: socket.socket | None = None
        self._playing: socket.socket | None = None
        description = folder / "stream.sdp"
        target = f"rtp://127.0.0.1:{self._rtp.getsockname()[1]}?rtcpport={free_port(socket.SOCK_DGRAM)}"
        words = ["ffmpeg", "-nostdin", "-loglevel", "error", *LIVE_VIDEO]
        words += ["-bsf:v", "dump_extra", "-sdp_file", str(description), "-f", "rtp", target]
        self._sender = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        self._description = description
        for work in (self._relay, self._serve):
            threading.Thread(target=work, daemon=True).start()

    def drop(self) -> None:
        """Hangs up."""
        if self._client is not None:
            with suppress(OSError):  # it has hung up itself
                self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sender.kill()
        self._sender.wait()
        self._listener.close()
        self.drop()
        self._rtp.close()

    def _relay(self) -> None:
        with suppress(OSError):  # closed
            while packet := self._rtp.recv(65536):
                try:
                    if self._playing is not None:
                        self._playing.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                except OSError:
                    self._playing = None

    def _serve(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            self.clients += 1
            with suppress(OSError):
                self._answer_all(self._client)
            self._playing = None

    def _answer_all(self, client: socket.socket) -> None:
        data = b""
        while chunk := client.recv(4096):
            data += chunk
            while data:
                if data[:1] == b"$":  # a report of the receiver
                    length = 4 + int.from_bytes(data[2:4], "big")
                    if len(data) < length:
                        break
                    data = data[length:]
                    continue
                request, end, rest = data.partition(b"\r\n\r\n")
                if not end:
                    break
                data = rest
                self._answer(client, request.decode())

    def _answer(self, client: socket.socket, request: str) -> None:
        method = request.split()[0]
        number = re.search(r"CSeq: *(\d+)", request)
        lines, body = [f"CSeq: {number[1] if number else 0}", "Session: 1"], ""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            text = self._description.read_text()
            body = re.sub(r"m=video \d+", "m=video 0", text) + "a=control:track\r\n"
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        client.sendall("\r\n".join(["RTSP/1.0 200 OK", *lines, "", body]).encode())
        if method == "PLAY":
            self._playing = client
