"""The benchmark of a GPU: goals, the table, sections that fail; and all of it, as small as it can be, on a CPU."""

import re
import subprocess
import sys

import pytest
import torch

from benchmarks.gpu import SECTIONS, main
from benchmarks.gpu_checks.clip_operations import POOLINGS
from benchmarks.gpu_checks.results import Goal, Results, Settings, read_rows, table
from benchmarks.gpu_checks.sections import Section, run_sections
from tests.conftest import REPOSITORY

FAILING = "tests.benchmarks.failing_sections"


def test_goals_are_judged_on_a_gpu_alone(tmp_path):
    for device, tiny, met in (
        ("cuda", False, ["yes", "no", "no", ""]),
        ("cpu", False, [""] * 4),
        ("cuda", True, [""] * 4),
    ):
        (tmp_path / "rows.jsonl").unlink(missing_ok=True)
        results = Results(Settings(device, tiny, tmp_path, tmp_path), "section")
        results.add("a share", "30 %", 0.3, Goal(0.3))
        results.add("a wait", "4 %", 0.04, Goal(0.03, at_most=True))
        results.add("a ratio", "3.9 times", 3.9, Goal(4, "times"))
        results.add("no number", "not measured", None, Goal(4, "times"))
        rows = read_rows(tmp_path / "rows.jsonl")
        assert [row.met for row in rows] == met
        assert [row.goal for row in rows][:3] == ["at least 30 %", "at most 3 %", "at least 4 times"]
        assert results.value("a ratio") == 3.9
        assert results.value("never asked") is None


def test_a_section_that_crashes_raises_or_hangs_costs_itself_alone(tmp_path):
    names = ("works", "crashes", "raises", "hangs", "reads_earlier_rows")
    chosen = {name: Section(f"{FAILING}:{name}", 0.2 if name == "hangs" else 20) for name in names}
    shown: list[str] = []
    rows = run_sections(chosen, Settings("cpu", True, tmp_path, tmp_path), 250, shown.append)
    assert [(row.section, row.failed) for row in rows] == [
        ("works", False), ("crashes", False), ("crashes", True), ("raises", True), ("hangs", True),
        ("reads_earlier_rows", False),
    ]  # fmt: skip
    results = [row.result for row in rows]
    assert "SIGSEGV" in results[2]
    assert results[3] == "not measured: ValueError: a | of two lines"
    assert re.match("not measured: the process took more than 2 s", results[4])
    assert results[5] == "6.0"
    log = (tmp_path / "log.txt").read_text()
    assert "a line for the log" in log
    assert "Traceback" in log
    lines = table(rows).splitlines()
    assert lines[0] == "| question | goal | result | met |"
    assert lines[2] == "| how much | at least 2 clips/s | 3.0 clips/s |  |"
    assert all(line.count("|") == 5 for line in lines)
    assert any("how much: 3.0 clips/s (goal: at least 2 clips/s)" in line for line in shown)


def test_what_the_time_does_not_suffice_for_is_named(tmp_path):
    rows = run_sections({"late": Section(f"{FAILING}:works", 20)}, Settings("cpu", True, tmp_path, tmp_path), 1, print)
    assert [row.result for row in rows] == ["not measured: its time of 1 s was up"]


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_in_passes_are_those_over_the_whole_window(name):
    pooling = POOLINGS[name]._replace(channels=3)
    x = torch.randn(2, 3, 6, 9, 8, dtype=torch.float64, requires_grad=True)
    expected = pooling.once(x)
    [gradient] = torch.autograd.grad(expected.square().sum(), x)
    for way in (pooling.in_passes, pooling.by_maxima):
        assert torch.equal(way(x), expected)
        torch.testing.assert_close(torch.autograd.grad(way(x).square().sum(), x)[0], gradient)


def test_without_a_gpu_nothing_is_measured_and_the_status_says_so(tmp_path, monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "there is no GPU here" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute of the processor, of a machine that others may use
def test_every_section_runs_on_a_cpu_at_its_smallest(tmp_path):
    words = ["--device", "cpu", "--tiny", "--out", tmp_path / "out", "--budget-s", "1100"]
    run = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks/gpu.py", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{(tmp_path / 'out' / 'log.txt').read_text()[-3000:]}"
    rows = read_rows(tmp_path / "out" / "rows.jsonl")
    assert {row.section for row in rows} == set(SECTIONS)
    assert not [row for row in rows if row.failed or row.met]
    assert (tmp_path / "out" / "table.md").read_text() in run.stdout
    for question in ("share of the bare steps' clips/s", "data_wait", "bf16 beside plain float32, TF32 on"):
        assert any(question in row.question and row.goal for row in rows), question
