"""`python -m pipeline synthesize`, called directly."""

import re
from pathlib import Path

import pytest

from pipeline.dataset_tools.synthesize import SynthesizeOptions, synthesize


def test_writes_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    synthesize(SynthesizeOptions(root, 1, train=1, val=0, test=1, num_frames=4, width=64, height=48))
    assert len(list(root.glob("videos/*/*.mp4"))) == 16
    printed = capsys.readouterr()
    assert printed.out.startswith("wrote 16 videos (train 8, test 8) of 8 classes, ")
    assert str(root) in printed.out
    assert re.fullmatch(r"synthesize: 16 of 16 videos in \d+ s", printed.err.splitlines()[-1])
