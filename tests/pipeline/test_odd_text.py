"""Labels, keys and names with characters that mean something to a terminal, a page or a spreadsheet come out whole."""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import escape

from datamodules.annotations.refusals import Refusal
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_table import identity_of
from datamodules.dataset.manifest import read_manifest
from datamodules.dataset.quarantine import QUARANTINE_NAME, read_quarantine, write_quarantine
from datamodules.storage.plain_text import printable, read_cell
from pipeline.__main__ import main
from pipeline.cli.text_table import TextTable, print_table
from pipeline.dataset_tools.show_page import ShownStage, ShownVideo, draw_clips_page
from pipeline.evaluation.compare import compare_results, print_comparison
from pipeline.metrics.scored_videos import read_scored_videos
from pipeline.report.charts import BarChart, bar_charts
from pipeline.report.write_results import write_results
from tests.pipeline.gray_videos import make_video
from tests.pipeline.metrics.made_results import made

LABELS = [
    "Putting [something] onto [something]",
    "open [/close]",
    ":fire: [b]bold[/b]",
    "=1+1",
    "-x",
    "@cmd",
    "<b>bold</b> & \"quotes\" 'n' `ticks`",
    "a/b:c;d,e",
    "__dunder__",
    ".hidden",
    "Case",
    "case",
    "caf\u00e9",
    "cafe\u0301",
    "\u05e9\u05dc\u05d5\u05dd",
    "join\u200der",
    "turned \u202egpj",
    "b'x'",
    "{fold} %s \\n",
    "3.0",
]
KEYS = ["-abc", "=1", "__N_1", "a b ", "new\nline", "tab\there", "[k]", "f/\u00e9", "e\u0301", "esc\x1b[2J"]
VIDEO = make_video(1)


def write_odd_tar(path: Path, samples: Mapping[str, bytes], extension: str = "cls") -> Path:
    """A video a key, and what is said of it in one more member."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, text in samples.items():
            for name, content in ((f"{key}.mp4", VIDEO), (f"{key}.{extension}", text)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def labels_of(root: Path) -> dict[str, str]:
    opened = DatasetIndex.open(root)
    entries = [opened.entry(row) for row in range(len(opened))]
    return {entry.key: opened.classes[entry.label] for entry in entries}


def test_labels_come_out_of_packing_as_they_went_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v").mkdir()
    for number in range(len(LABELS)):
        (tmp_path / "v" / f"[{number}] :fire:.mp4").write_bytes(VIDEO)
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [(f"[{number}] :fire:.mp4", label, "train") for number, label in enumerate(LABELS)]
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    words = ["--annotations", str(tmp_path / "list.csv"), "--videos", str(tmp_path / "v"), "--processes", "1"]
    assert main(["pack", *words, "--out", str(tmp_path / "[out]"), "--name", "some"]) == 0
    printed = capsys.readouterr().out
    shown = sorted(LABELS)
    assert all(f"{printable(label)} 1" in printed for label in (*shown[:3], *shown[-3:]))
    assert f"wrote {tmp_path / '[out]'}" in printed
    manifest = read_manifest(tmp_path / "[out]")
    assert manifest.classes == shown
    with tarfile.open(next((tmp_path / "[out]").glob("*.tar"))) as tar:
        said = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]  # type: ignore
    assert sorted(one["label"] for one in said) == shown
    assert main(["stats", str(tmp_path / "[out]"), "--out", str(tmp_path / "s.svg")]) == 0
    printed = capsys.readouterr().out
    assert all(f"{printable(label)} " in printed for label in LABELS)
    assert "\u202e" not in printed
    ElementTree.parse(tmp_path / "s.svg")
    assert main(["index", str(tmp_path / "[out]" / "*.tar"), "--out", str(tmp_path / "again")]) == 0
    assert read_manifest(tmp_path / "again").identity == manifest.identity


def test_tabs_in_names_are_no_limits_in_the_identity() -> None:
    two = [[("k", "train", (), ["a\tb"], "h")], [("k\ttrain", "a", (), ["b"], "h")]]
    two += [[("k", "train", ("a",), ["b"], "h")], [("k", "train", (), ["a", "b"], "h")]]
    two += [[("a", "s", (), ["l"], "h"), ("b", "s", (), ["l"], "h")], [("a", "s", (), ["l"], "h\nb\ts\tl\th")]]
    assert len({identity_of(videos) for videos in two}) == len(two)


def test_results_with_odd_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = made(len(LABELS), 60, sure=1.0)
    keys = [f"{number}{KEYS[number % len(KEYS)]}" for number in range(60)]
    scored = scored._replace(class_names=LABELS, keys=keys, provenance=scored.provenance | {"classes": LABELS})
    write_results(tmp_path, scored, "C3D [rgb] :fire: <i>x</i> on made")
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [read_cell(row[0]) for row in rows[1:]] == LABELS
    assert {read_cell(row[-2]) for row in rows[1:]} <= {*LABELS, ""}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert list(json.loads((tmp_path / "report.json").read_text())["per_class"]) == LABELS
    assert read_scored_videos(tmp_path).class_names == LABELS
    page = (tmp_path / "report.html").read_text()
    assert all(escape(printable(label)) in page for label in LABELS)
    assert "<b>bold" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    other = scored._replace(scores=np.roll(scored.scores, 1, axis=1))
    comparison = compare_results(scored, other)
    print_comparison({"first": "[a]", "second": ":fire:"} | comparison)
    printed = capsys.readouterr().out
    assert "first   [a]\nsecond  :fire:\n" in printed
    assert all(f"  {printable(row['class'])}: " in printed for row in comparison["classes"][:8])
    assert main(["summarize", "--reports", f"I3D [rgb] :fire:={tmp_path / 'report.json'}"]) == 0
    assert "I3D [rgb] :fire:" in capsys.readouterr().out


def test_pages_show_control_characters() -> None:
    video = ShownVideo("k\x1b\u202e<i>", "<b>[l]</b>\x00", [], 0)
    page = draw_clips_page("t\x07", {"a": "b\x00"}, {}, [ShownStage("train", "\ufffe", [video])])
    assert r"<h3>&lt;b&gt;[l]&lt;/b&gt;\x00</h3><small>k\x1b\u202e&lt;i&gt;</small>" in page
    assert not {"\x00", "\x07", "\x1b", "\u202e", "\ufffe"}.intersection(page)
    drawing = bar_charts([BarChart("h", ["a\x00\x1b\ufffe<"], [1])], "t")
    titles = [title.text for title in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}title")]
    assert r"a\x00\x1b\ufffe<: 1" in titles


def test_quarantine_csv_is_safe_in_a_spreadsheet_and_exact_for_us(tmp_path: Path) -> None:
    refusals = {key: Refusal(f"=x/{key}.mp4", key, "+odd", "-1\nand more \x1b") for key in [*KEYS, *LABELS, " k ", "'"]}
    write_quarantine(tmp_path, refusals.values())
    read = read_quarantine(tmp_path)
    assert {key: refusal.path for key, refusal in read.items()} == {key: one.path for key, one in refusals.items()}
    assert {refusal.detail for refusal in read.values()} == {"-1 and more \\x1b"}
    with (tmp_path / QUARANTINE_NAME).open(newline="", encoding="utf-8") as file:
        assert not any(cell.startswith(("=", "+", "-", "@")) for row in csv.reader(file) for cell in row)
    (tmp_path / QUARANTINE_NAME).write_text("key,reason\n a , by me \n")
    assert read_quarantine(tmp_path) == {"a": Refusal("", "a", "by me", "")}


def test_a_table_shows_text_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 50
    table = TextTable("[b]", "n", title=":x:")
    table.add_row(long, "1\n2")
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert ":x:" in lines[0]
    assert any("[b]" in line for line in lines)
    assert any(long in line and "1\\n2" in line for line in lines)  # in a file nothing is folded


def test_a_label_that_the_output_cannot_encode_is_escaped(tmp_path: Path) -> None:
    write_odd_tar(tmp_path / "a-train.tar", {"ключ": "日本".encode(), "b": b"b"})
    command = [sys.executable, "-m", "pipeline"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    for words in (["index", str(tmp_path), "--label-from", "cls", "--processes", "1"], ["stats", str(tmp_path)]):
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert r"\u65e5\u672c" in done.stdout
