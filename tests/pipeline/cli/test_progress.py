"""How far a step is: lines in a log, a bar on a terminal."""

import os
import pty
import sys
import time

import pytest

from pipeline.cli import progress
from pipeline.cli.progress import ProgressLines, count_progress


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with count_progress("verify", 3, "videos") as count:
        count()
        count(2)
    assert capsys.readouterr().err == "verify: 3 of 3 videos in 0 s\n"

    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    lines = ProgressLines("evaluate", 4, "batches")
    lines.advance()
    lines.advance(3)  # all is done: `finish` says so, where it is called
    assert capsys.readouterr().err == "evaluate: 1 of 4 batches, 0 s left\n"


def test_a_log_hears_of_an_item_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.02)
    monkeypatch.setattr(progress, "_CHECK_INTERVAL_S", 0.01)
    with count_progress("pack", 2, "videos", lambda: "0 refused"):
        time.sleep(0.2)
        assert set(capsys.readouterr().err.splitlines()) == {"pack: 0 of 2 videos, 0 refused"}


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = pty.openpty()
    with os.fdopen(there, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with count_progress("pack", 2, "videos", lambda: "3 refused") as count:
            count(2)
        shown = b""
        while not shown.endswith(b"\x1b[?25h"):  # the terminal may pass on its output in pieces
            shown += os.read(here, 2**16)
    os.close(here)
    assert "━" in shown.decode()
    assert shown.decode().endswith("2/2\x1b[0m videos 3 refused\r\n\x1b[?25h")
