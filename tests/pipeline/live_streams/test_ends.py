"""How `classify --live` ends: by a signal, by a reader that leaves; and other networks than checkpoints."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from pipeline.__main__ import main
from tests.pipeline.live_streams.streams import moving_video, standard_input, standard_output


@pytest.fixture(scope="module")
def network(motion_checkpoint: Path) -> list[str]:
    return ["--checkpoint", str(motion_checkpoint), "--top", "1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(
    network: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Reading standard input, whose writer neither ends nor writes more."""
    handler = signal.getsignal(number)
    lines: list[dict] = []

    def read_until_a_window_then_stop() -> None:
        for line in printed:
            lines.append(json.loads(line))
            if len(lines) == 2:
                os.kill(os.getpid(), number)

    with standard_output(monkeypatch) as printed, standard_input() as pipe:
        threading.Thread(target=read_until_a_window_then_stop, daemon=True).start()
        pipe.write(moving_video(100, 32, 32)[:30_000])
        assert main(["classify", "--live", "-", *network]) == 0
    assert signal.getsignal(number) == handler
    told = capsys.readouterr().err
    assert " windows in " in told
    assert "frames decoded" in told
    assert "Traceback" not in told
    assert lines[0]["event"] == "connected"
    assert lines[0]["source"] == "standard input"
    assert "top" in lines[1]


def test_a_reader_that_leaves_ends_it_quietly(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `| head -2`."""
    path = tmp_path / "video.ts"
    path.write_bytes(moving_video(1000, 32, 32))

    with standard_output(monkeypatch) as printed:

        def read_two_lines() -> None:
            os.read(printed.fileno(), 10)
            printed.close()

        threading.Thread(target=read_two_lines, daemon=True).start()
        assert main(["classify", "--live", str(path), *network]) == 0
    told = capsys.readouterr().err
    assert "windows in" in told
    assert "rror" not in told
