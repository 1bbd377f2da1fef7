"""The commands of pages that start no cluster, beside test_docs_commands.py, so that another process can run them."""

import json
import re

import pytest

from tests.conftest import REPOSITORY
from tests.docs_commands import OWN_VIDEOS, WEIGHTS, commands, section


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_own_videos(run, copy):
    for line in commands((REPOSITORY / OWN_VIDEOS).read_text()):
        run(line)
    report = json.loads((copy / "my_report/report.json").read_text())
    assert 12 <= report["num_videos"] <= 16  # 0.15 of 96, in whole videos of each class
    assert report["provenance"]["overlap"] is None
    assert (copy / "my_report/clips.html").stat().st_size > 10_000


@pytest.mark.slow
def test_published_weights(run, shared_dir):
    printed = [
        run(line, KINETICS=str(shared_dir / "data" / "kinetics_sample"))
        for line in commands(section("docs/models.md", WEIGHTS))
    ]
    assert any(re.search(r"100\.0%  arm wrestling", text) for text in printed)
