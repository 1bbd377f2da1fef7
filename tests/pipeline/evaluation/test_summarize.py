"""Reports side by side."""

import json

import pytest

from pipeline.__main__ import main

REPORT = {"top1": 0.9, "top5": 1.0, "mean_class_accuracy": 0.875, "chance": 0.125, "num_videos": 80}


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT))
    return path


def test_a_row_a_report_and_the_paths_below(report, capsys):
    assert main(["summarize", "--reports", f"C3D={report}", f"linear SVM={report}", "--paths", f"report={report}"]) == 0
    printed = capsys.readouterr().out
    assert "C3D" in printed
    assert "linear SVM" in printed
    assert "90.0%" in printed
    assert f"report  {report}" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reports", "report.json"], "write NAME=FILE"),
        (["--reports", "C3D=nowhere.json"], "there is no such file"),
        (["--reports", "C3D=REPORT", "--paths", "shards=nowhere"], "shards=nowhere: there is no such file or folder"),
    ],
)
def test_bad_input_is_one_sentence(report, capsys, words, message):
    assert main(["summarize", *[word.replace("REPORT", str(report)) for word in words]]) == 2
    assert message in capsys.readouterr().err


def test_another_json_is_no_report(report, capsys):
    report.write_text("{}")
    assert main(["summarize", "--reports", f"C3D={report}"]) == 2
    assert "has no chance, mean_class_accuracy, num_videos, top1, top5" in capsys.readouterr().err
