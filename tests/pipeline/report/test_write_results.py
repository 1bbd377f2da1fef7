"""What `write_results` writes: four files that agree, for few and many classes, and for missing videos."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.metrics.confidence_intervals import accuracy_intervals
from pipeline.metrics.scored_videos import compute_correctness, read_scored_videos
from pipeline.report.pictures import make_preview
from pipeline.report.write_results import FILES, write_results
from tests.pipeline.metrics.made_results import made


class Page(HTMLParser):
    """The tags of a page, which must be closed in order, and its text."""

    VOID = frozenset(("meta", "img", "br", "path", "rect", "source"))

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return folder, write_results(folder, made(8, 80), "last.ckpt on made, test", {"views": 3, "notes": ["mind <this>"]})


def test_four_files_that_agree(written):
    folder, report = written
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    scored = read_scored_videos(folder)
    assert scored.groups[:5] == ["group_0"] * 4 + ["group_1"]
    assert report["intervals"] == accuracy_intervals(compute_correctness(scored))
    assert report["interval"]["groups"] == 20
    frame = pd.read_parquet(folder / "predictions.parquet")
    assert report["top1"] == frame.correct.mean()
    low, high = report["intervals"]["top1"]
    assert low < report["top1"] < high
    confidence = np.stack(frame.scores.to_numpy()).max(axis=1)
    assert report["calibration"]["mean_confidence"] == pytest.approx(confidence.mean())
    with (folder / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"]: int(row["correct"]) for row in rows} == {
        name: of["correct"] for name, of in report["per_class"].items()
    }
    pair = report["hardest_pairs"][0]
    taken = ((frame.label_name == pair["first"]) & (frame.top1 == pair["second"])).sum()
    assert taken == pair["first_as_second"]


def test_the_page_says_what_the_report_says(written):
    folder, report = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert f"{100 * report['top1']:.1f}" in page.text
    assert "{:.1f} to {:.1f}".format(*(100 * bound for bound in report["intervals"]["top1"])) in page.text
    assert "mind <this>" in page.text
    cells = [(a.get("class"), a.get("title", "")) for tag, a in page.tags if tag == "td" and "title" in a]
    hits = sum(int(title.split(": ")[1].split(" of ")[0]) for kind, title in cells if kind == "hit")
    assert hits == sum(of["correct"] for of in report["per_class"].values())
    assert sum(tag == "figure" for tag, _ in page.tags) == 12
    addresses = [a[name] for _, a in page.tags for name in ("src", "href", "srcset") if name in a]
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"<script|@import|url\(|@font-face", html)


def test_700_classes_are_shown_by_their_hardest_part(tmp_path):
    write_results(tmp_path, made(700, 1400, sure=3), "x on kinetics700, val")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    table = [a for tag, a in page.tags if tag == "table" and a["class"] == "confusion"]
    assert len(table) == 1
    assert "The 20 of 700 classes that are confused most" in page.text
    assert (tmp_path / "report.html").stat().st_size < 600_000
    assert sum(1 for _ in (tmp_path / "per_class.csv").open()) == 701


def test_videos_without_scores_count_as_wrong_and_are_named(tmp_path):
    scored = made(3, 12)
    whole = write_results(tmp_path / "whole", scored, "x on made")
    scores = scored.scores.copy()
    lost = int(np.flatnonzero(scores.argmax(axis=1) == scored.labels)[0])
    scores[lost] = np.nan
    report = write_results(tmp_path / "part", scored._replace(scores=scores), "x on made")
    assert report["missing"] == [scored.keys[lost]]
    assert report["num_videos"] == 12
    assert report["top1"] == pytest.approx(whole["top1"] - 1 / 12)
    frame = pd.read_parquet(tmp_path / "part" / "predictions.parquet").set_index("key")
    row = frame.loc[scored.keys[lost]]
    assert not row.correct
    assert pd.isna(row.top1)
    assert np.isnan(row.scores).all()
    page = Page((tmp_path / "part" / "report.html").read_text(encoding="utf-8"))
    assert f"could not be decoded\nThey count as wrong: {scored.keys[lost]}." in page.text
    scores[0, 1] = np.inf
    with pytest.raises(ValueError, match="are not finite"):
        write_results(tmp_path / "bad", scored._replace(scores=scores), "x")


def test_margins_have_no_calibration_and_nothing_wrong_has_no_gallery(tmp_path):
    scored = made(4, 20)
    scores = np.eye(4, dtype=np.float32)[scored.labels] * 3 - 1
    about = scored.provenance | {"scores": "margin"}
    report = write_results(tmp_path, scored._replace(scores=scores, provenance=about), "svm on fc6, made")
    assert report["calibration"] is None
    assert report["top1"] == 1
    assert report["intervals"]["top1"] == [pytest.approx(0.025 ** (1 / 5)), 1]
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "know when it is right" not in text
    assert "confident mistakes" not in text


def test_a_preview_is_an_endless_loop_of_the_whole_video(motion_dataset):
    index = DatasetIndex.open(motion_dataset)
    preview = make_preview(index.read_video(0))
    place = preview.moving.index(b"ANIM")
    assert int.from_bytes(preview.moving[place + 12 : place + 14], "little") == 0  # loops: for ever
    assert preview.moving.count(b"ANMF") == 12
    assert (preview.width, preview.height) == (64, 48)  # never enlarged
    assert preview.still.startswith(b"RIFF")
    assert b"ANIM" not in preview.still
