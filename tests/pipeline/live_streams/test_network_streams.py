"""`classify --live` on real network streams, made by ffmpeg on loopback: paced, cut, broken, restarted, silent."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.live_streams.connection import Connection, ConnectionCounts
from pipeline.live_streams.stream_source import StreamLostError, StreamSource
from tests.pipeline.live_streams.rtsp_server import RtspServer
from tests.pipeline.live_streams.streams import LIVE_VIDEO, classify, ffmpeg, free_port, needs_ffmpeg

LIMIT_S = 120.0  # on a busy machine


@pytest.fixture(scope="module")
def network(motion_checkpoint: Path) -> list[str]:
    return ["--checkpoint", str(motion_checkpoint), "--top", "1"]


class Command:
    """The command in a process of its own, and its lines as they come."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "pipeline", "classify", "--live", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: list[dict] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def wait_for(self, happened: Callable[[list[dict]], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not happened(self.lines):
            assert time.monotonic() < end, self.lines[-5:]
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.05)

    def stop(self, number: int) -> str:
        """Sends a signal; gives what the command wrote on standard error."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        told = self.process.stderr.read()
        assert self.process.wait(LIMIT_S) == 0, told
        return told


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def run(*words: str) -> Command:
        commands.append(Command(*words))
        return commands[-1]

    yield run
    for command in commands:
        command.process.kill()
        command.process.wait()


def windows(lines: list[dict]) -> list[dict]:
    return [line for line in lines if "event" not in line]


def events(lines: list[dict]) -> list[str]:
    return [line["event"] for line in lines if "event" in line]


def windows_after(event: str, count: int, times: int = 1) -> Callable[[list[dict]], bool]:
    """Whether `count` windows have come after the event happened for the given time."""

    def happened(lines: list[dict]) -> bool:
        places = [place for place, line in enumerate(lines) if line.get("event") == event]
        return len(places) >= times and len(windows(lines[places[times - 1] :])) >= count

    return happened


def wait_until_listening(port: int) -> None:
    """Waits for a server without connecting to it, as it takes one client only."""
    end = time.monotonic() + LIMIT_S
    while not re.search(rf":{port:04X} 00000000:0000 0A", Path("/proc/net/tcp").read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)


@needs_ffmpeg
@pytest.mark.slow
def test_udp_is_read_while_it_comes_and_again_after_it_was_cut(
    start: Callable[..., Command], network: list[str]
) -> None:
    address = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    send = [*LIVE_VIDEO, "-f", "mpegts", f"{address}?pkt_size=1316"]
    with ffmpeg(*send):
        command = start(address, *network, "--timeout", "3", "--retries", "100")
        command.wait_for(windows_after("connected", 6))
    command.wait_for(lambda lines: "lost" in events(lines))
    with ffmpeg(*send):
        command.wait_for(windows_after("connected", 3, times=2))
    told = command.stop(signal.SIGTERM)
    assert "2 connections" in told
    assert "Traceback" not in told
    assert {"lost", "reconnecting"} <= set(events(command.lines))
    assert events(command.lines)[-1] == "ended"
    starts = [line["start"] for line in windows(command.lines)]
    assert starts == sorted(starts)


@needs_ffmpeg
def test_http_that_ends_is_opened_again_and_given_up(network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A server for one client, without a length: the stream is lost when it ends, and nobody is there any more."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/stream"
    send = [*LIVE_VIDEO, "-t", "2", "-f", "mpegts", "-listen", "1", address]
    with ffmpeg(*send):
        wait_until_listening(port)
        printed = classify(capsys, address, *network, "--retries", "1")
    assert printed.status == 2
    assert "was lost after 2 attempts: connection refused" in printed.err
    assert len(printed.windows) >= 3
    assert printed.events[-3:] == ["connected", "lost", "reconnecting"]


@needs_ffmpeg
@pytest.mark.slow
def test_rtsp_is_read_and_connected_again(start: Callable[..., Command], network: list[str], tmp_path: Path) -> None:
    server = RtspServer(tmp_path)
    try:
        command = start(f"rtsp://camera:secret@127.0.0.1:{server.port}/stream", *network, "--retries", "100")
        command.wait_for(windows_after("connected", 4))
        server.drop()
        command.wait_for(windows_after("connected", 2, times=2))
        told = command.stop(signal.SIGINT)
    finally:
        server.close()
    assert server.clients >= 2
    assert "secret" not in told + json.dumps(command.lines)
    [connected, *_] = [line for line in command.lines if line.get("event") == "connected"]
    assert connected["source"] == f"rtsp://camera:***@127.0.0.1:{server.port}/stream"
    assert connected["codec"] == "h264"


@pytest.mark.parametrize("scheme", ["rtsp", "http", "udp"])
def test_a_server_that_says_nothing_is_one_sentence(
    scheme: str, network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        printed = classify(
            capsys, f"{scheme}://127.0.0.1:{server.getsockname()[1]}/x", *network, "--timeout", "0.5", "--retries", "0"
        )
    assert (printed.status, list(printed)) == (2, [])
    assert "cannot be opened: no data for 0.5 s; check the address" in printed.err


def test_nobody_there_is_tried_three_times(network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    printed = classify(capsys, f"http://user:secret@127.0.0.1:{free_port()}/x", *network)
    assert printed.status == 2
    assert printed.events == ["unreachable", "reconnecting"] * 2
    assert [line["in_s"] for line in printed if "in_s" in line] == [1.0, 2.0]
    assert "cannot be opened after 3 attempts: connection refused" in printed.err
    assert "secret" not in printed.err
    printed = classify(capsys, "nosuch://127.0.0.1/x", *network)
    assert "does not speak nosuch" in printed.err


@needs_ffmpeg
@pytest.mark.slow
def test_who_decodes_too_slowly_leaves_packets_out_and_goes_on_at_a_key_frame() -> None:
    """Ten seconds of 25 frames a second, read at ten a second; a key frame every 12."""
    port = free_port()
    address, counts, discarded, times = f"http://127.0.0.1:{port}/stream", ConnectionCounts(), [0], []
    source = StreamSource(address, 30, lambda: False)

    def count() -> None:
        discarded[0] += 1

    def read() -> None:
        with source.open() as (container, stream):
            for frame in Connection(source, container, stream, counts, 30, True, lambda: None, count).frames():
                times.append(frame.time)
                time.sleep(0.1)

    with ffmpeg(*LIVE_VIDEO, "-t", "10", "-f", "mpegts", "-listen", "1", address):
        wait_until_listening(port)
        with pytest.raises(StreamLostError, match="it ended"):
            read()
    assert counts.frames == len(times) == 250 - discarded[0]
    assert 30 < discarded[0] < 220
    assert (counts.damaged, counts.clock_jumps) == (0, 0)
    resumed = [round(25 * after) for before, after in pairwise(times) if after - before > 0.05]
    assert resumed
    assert all(number % 12 == 0 for number in resumed)
    assert times[-1] > 9
