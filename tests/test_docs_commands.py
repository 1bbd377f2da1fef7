"""The commands in README and docs are run, and give what the pages promise; pages without a job have their own file."""

import json
import re

import pytest

from tests.conftest import REPOSITORY
from tests.docs_commands import FIGHTS, commands, tour


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tour(run, copy):
    printed = {line: run(line) for line in tour()}
    [charades] = [text for line, text in printed.items() if "pack --format charades" in line]
    assert re.search(r"\bmAP\b[^%]*\d+\.\d%", charades)
    report = json.loads((copy / "tour/results/linear/report.json").read_text())
    assert report["num_videos"] == 32


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_real_video(run, copy, shared_dir):
    for line in commands((REPOSITORY / FIGHTS).read_text()):
        run(line, FIGHTS=str(shared_dir / "data" / "surveillance_fights"))
    reports = [json.loads((copy / f"fights/results/{name}/report.json").read_text()) for name in ("c3d", "linear")]
    assert [report["num_videos"] for report in reports] == [61, 61]
    # Above chance by more than luck: of 61 videos of two classes 40 right have probability 0.01 under chance.
    assert max(report["top1"] for report in reports) >= 40 / 61


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo(run, copy):
    printed = run("bash demo.sh demo")
    accuracy = {
        name: json.loads((copy / f"demo/results/{name}/report.json").read_text())["top1"]
        for name in ("c3d", "linear", "still")
    }
    assert accuracy["c3d"] > 0.8
    assert accuracy["linear"] > 0.5
    assert accuracy["still"] < 0.25  # chance is 0.125; three standard deviations of 80 videos above
    assert "wandb run" in printed
