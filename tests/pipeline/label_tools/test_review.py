"""The videos to label next, of files and of packed copies: the list, the page, and the way back through `pack`."""

import csv
import shutil

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import EncodeProfile, transcode
from pipeline.__main__ import main
from tests.pipeline.label_tools.scored_files import ABOUT, write_results, write_scores

NAMES = ["a.mp4", "again.mp4", "b.mp4", "c/small a.mp4", "d.mp4"]
SCORES = [[0.5, 0.45, 0.05], [0.5, 0.44, 0.06], [0.6, 0.4, 0.0], [0.5, 0.46, 0.04], [0.8, 0.1, 0.1]]
# By margin small a (0.04), a (0.05), again (0.06), b (0.2), d (0.7), of which the first three show the same.
DISTINCT = ["c/small a.mp4", "b.mp4", "d.mp4"]


@pytest.fixture(scope="module")
def folder(motion_dataset, tmp_path_factory):
    """Five video files: three of different content, a copy of one, and one encoded smaller; and the five, packed."""
    root, made = tmp_path_factory.mktemp("review"), motion_dataset.parent / "videos"
    index = DatasetIndex.open(motion_dataset)
    first, second, third = (made / index.entry(row).source for row in (0, 5, 15))
    (root / "videos/c").mkdir(parents=True)
    for name, source in zip(NAMES, (first, first, second, first, third), strict=True):
        shutil.copy(source, root / "videos" / name)
    small = transcode(first.read_bytes(), EncodeProfile(short_side=32))
    (root / "videos" / NAMES[3]).write_bytes(small.data)
    words = ["--format", "files", "--videos", str(root / "videos"), "--copy", "--processes", "1"]
    assert main(["pack", *words, "--out", str(root / "shards")]) == 0
    return root


def rows_of(out):
    with (out / "videos.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_least_certain_of_files(folder, tmp_path, capsys):
    scores = write_scores(tmp_path / "scores.parquet", folder / "videos", NAMES, SCORES)
    out = tmp_path / "out"
    assert main(["review", str(scores), "--out", str(out)]) == 0
    assert "3 of 5 videos, 2 near duplicates left out" in capsys.readouterr().out
    rows = rows_of(out)
    assert [row["path"] for row in rows] == DISTINCT
    assert rows[0] | {"near_duplicates": sorted(rows[0]["near_duplicates"].split(";"))} == {
        "path": "c/small a.mp4", "label": "", "key": "c_small_a", "predicted": "jump & run", "probability": "0.500000",
        "next_class": "walk", "margin": "0.040000", "near_duplicates": ["a", "again"],
    }  # fmt: skip
    page = (out / "review.html").read_text()
    assert page.count("data:image/webp") == 6  # moving and still
    assert "jump &amp; run 50" in page
    words = ["review", str(scores), "--out", str(out), "--number", "4", "--keep-duplicates"]
    assert main(words) == 2
    assert main([*words, "--overwrite"]) == 0
    assert [row["path"] for row in rows_of(out)] == ["c/small a.mp4", "a.mp4", "again.mp4", "b.mp4"]


def test_the_list_is_packed_once_labels_are_filled_in(folder, segments_dataset, motion_dataset, tmp_path):
    """Of whole files, and of segments, whose frames are the same again."""
    scores = write_scores(tmp_path / "scores.parquet", folder / "videos", NAMES, SCORES)
    index = DatasetIndex.open(segments_dataset)
    keys = list(index.column("key", index.rows("test")))
    results = write_results(tmp_path / "results", keys, [[0.5, 0.5, 0.0]] * len(keys))
    for name, words in (("files", [str(scores)]), ("segments", [str(results), "--data", str(segments_dataset)])):
        assert main(["review", *words, "--number", "6", "--keep-duplicates", "--out", str(tmp_path / name)]) == 0
        rows = rows_of(tmp_path / name)
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"label": ("walk", "run")[number % 2]} for number, row in enumerate(rows))
        videos = folder / "videos" if name == "files" else motion_dataset.parent / "videos"
        words = ["--annotations", str(tmp_path / f"{name}.csv"), "--videos", str(videos), "--split", "train"]
        assert main(["pack", *words, "--processes", "1", "--out", str(tmp_path / f"{name}_shards")]) == 0
        packed = DatasetIndex.open(tmp_path / f"{name}_shards")
        assert packed.classes == ["run", "walk"]
        assert sorted(packed.column("source", packed.rows("all"))) == sorted(row["path"] for row in rows)
        if name == "segments":
            spans = {
                (one.source, one.source_start, one.source_end, one.num_frames) for one in map(packed.entry, range(6))
            }
            chosen = index.rows_of([row["key"] for row in rows])
            entries = map(index.entry, chosen.tolist())
            assert spans == {(one.source, one.source_start, one.source_end, one.num_frames) for one in entries}


def test_the_most_disputed_of_a_dataset(folder, tmp_path):
    index = DatasetIndex.open(folder / "shards")
    keys = list(index.column("key", index.rows("all")))
    places = dict(zip(index.column("source", index.rows("all")), keys, strict=True))
    named = [places[name] for name in NAMES]
    other = [[0.5, 0.45, 0.05], [0.4, 0.5, 0.1], [0.6, 0.4, 0.0], [0.5, 0.46, 0.04], [0.1, 0.8, 0.1]]
    one = write_results(tmp_path / "one", named, SCORES)
    two = write_results(tmp_path / "two", named[::-1], other[::-1])
    words = ["review", str(one), str(two), "--data", str(folder / "shards"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    rows = rows_of(tmp_path / "out")
    assert [row["path"] for row in rows] == ["d.mp4", "again.mp4", "b.mp4"]  # the first two have other answers
    assert [row["second_predicted"] for row in rows] == ["walk", "walk", "jump & run"]
    assert float(rows[0]["disagreement"]) > float(rows[1]["disagreement"]) > float(rows[2]["disagreement"]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main([*words, "--overwrite"]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_several_labels(folder, tmp_path):
    index = DatasetIndex.open(folder / "shards")
    rows = index.rows("all")
    named = dict(zip(index.column("source", rows), index.column("key", rows), strict=True))
    results = write_results(tmp_path / "results", [named[name] for name in NAMES], SCORES, task="multi_label")
    words = ["--data", str(folder / "shards"), "--threshold", "0.43", "--number", "2", "--out", str(tmp_path / "out")]
    assert main(["review", str(results), *words]) == 0
    rows = rows_of(tmp_path / "out")
    assert [(row["path"], row["labels"], row["predicted"], row["margin"]) for row in rows] == [
        ("again.mp4", "", '["jump & run", "walk"]', "0.010000"),
        ("b.mp4", "", '["jump & run"]', "0.030000"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "predictions 'none': no predictions.parquet there"),
        (["one", "one", "one"], "give one result, or two to compare"),
        (["one", "--number", "0"], "number=0: must be at least 1"),
        (["one", "--threshold", "2"], "threshold=2.0: must be from 0 to 1"),
        (["one"], "one: name the packed dataset that was scored (--data)"),
        (["one", "--data", "nowhere"], "nowhere"),
        (["one", "--data", "SHARDS"], "lacks 5 of the 5 videos of one, first k0"),
        (["one", "fewer"], "one and fewer are of different videos: 1 are in one of them alone, first k4"),
        (["one", "classes"], "different classes: only one has"),
        (["one", "several"], "review takes results of one task"),
        (["gone.parquet"], "lacks 5 files of 5, first a.mp4; name the folder of the files"),
        (["broken", "--data", "SHARDS"], "broken: has no video with scores"),
    ],
)
def test_bad_input_costs_one_line(words, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keys = [f"k{number}" for number in range(5)]
    write_results(tmp_path / "one", keys, SCORES)
    write_results(tmp_path / "fewer", keys[:4], SCORES[:4])
    write_results(tmp_path / "classes", keys, SCORES, classes=["x", "y", "z"])
    write_results(tmp_path / "several", keys, SCORES, task="multi_label")
    index = DatasetIndex.open(folder / "shards")
    write_results(tmp_path / "broken", index.column("key", [0]), [[float("nan")] * len(ABOUT["classes"])])
    write_scores(tmp_path / "gone.parquet", tmp_path / "gone", NAMES, SCORES)
    before = sorted(tmp_path.iterdir())
    words = [str(folder / "shards") if word == "SHARDS" else word for word in words]
    capsys.readouterr()
    assert main(["review", *words, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
