"""Predictions for label tools: the files that the tools' own readers took, and the way back through our readers."""

import json
import re
from pathlib import Path

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.list_formats.read_annotations import read_annotations
from pipeline.__main__ import main
from tests.pipeline.label_tools.scored_files import write_results, write_scores

# Taken by label-studio-sdk 2.1.2 (LabelInterface.validate, validate_prediction) and fiftyone 1.22.1 (the importers of
# FiftyOneVideoLabelsDataset and FiftyOneTemporalDetectionDataset, with ROOT as a folder of videos).
EXPECTED = Path(__file__).parent / "expected"
PARTS = [("talks/one.mp4", 0.0, 1.0), ("talks/one.mp4", 1.0, 2.5), ("two.é.mp4", None, None)]


@pytest.fixture
def videos(tmp_path):
    """A folder with the names of three videos, which are not opened."""
    for name in ("talks/one.mp4", "two.é.mp4", "walk/three.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"")
    return tmp_path / "videos"


@pytest.fixture
def results(tmp_path, videos):
    """Each kind of predictions by name."""
    one, two, three = [0.7, 0.2, 0.1], [0.1, 0.55, 0.35], [0.25, 0.15, 0.6]
    several = [[0.9, 0.6, 0.1], [0.2, 0.1, 0.3], [0.0, 0.5, 0.25]]
    names = ["talks/one.mp4", "two.é.mp4", "walk/three.mp4"]
    lines = tmp_path / "timeline.jsonl"
    stretch = {"class": "walk", "probability": 0.75, "start": 0, "end": 1.2}
    entries = [
        {
            "video": str(videos / "talks/one.mp4"),
            "top": [{"class": "walk", "probability": 0.7}],
            "stretches": [stretch],
        },
        {"video": str(videos / "two.é.mp4"), "error": "cut off"},
    ]
    lines.write_text("\n".join(map(json.dumps, entries)))
    return {
        "classes": write_scores(tmp_path / "classes.parquet", videos, names, [one, two, three]),
        "parts": write_results(tmp_path / "parts", ["a", "b", "c"], [one, two, three], PARTS),
        "labels": write_results(
            tmp_path / "labels", ["a", "b", "c"], several, [(name, None, None) for name in names], task="multi_label"
        ),
        "timeline": lines,
    }


def written(folder: Path, root: Path) -> dict[str, str]:
    """The files of a folder by their names, with ROOT for the folder of the videos."""
    return {
        path.relative_to(folder).as_posix(): path.read_text().replace(str(root), "ROOT")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["classes", "parts", "labels", "timeline"])
@pytest.mark.parametrize("tool", ["label_studio", "fiftyone"])
def test_the_files_are_those_that_the_tools_took(kind, tool, results, videos, tmp_path):
    out = tmp_path / "out"
    words = [str(results[kind]), str(videos), str(out), "--to", tool]
    assert main(["prelabel", *words]) == 0
    expected = written(EXPECTED / f"{tool}-{kind}", Path("/nowhere"))
    assert written(out, videos) == expected
    assert main(["prelabel", *words]) == 2
    assert main(["prelabel", *words, "--overwrite"]) == 0
    assert written(out, videos) == expected


def accepted(folder: Path) -> Path:
    """An export of Label Studio after a person accepted all predictions: the results are annotations then."""
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks):
        task |= {"id": number, "annotations": [{"result": task["predictions"][0]["result"], "created_at": "1"}]}
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def read(*words, **options):
    """Path from the folder of the videos, classes and times of each video that a list of a label tool gives."""
    found = read_annotations(*words, split="train", **options).records
    return [
        (record.path.partition("videos/")[2], record.class_names, record.time_start, record.time_end)
        for record in found
    ]


def test_what_a_person_accepts_comes_back(results, videos, tmp_path):
    for kind, fps in (("classes", "24"), ("parts", "12"), ("labels", "24")):
        words = [
            str(results[kind]),
            str(videos),
            str(tmp_path / f"{kind}_out"),
            "--to",
            "label_studio",
            "--annotation-fps",
            fps,
        ]
        assert main(["prelabel", *words]) == 0
    assert read("label_studio", accepted(tmp_path / "classes_out"), videos) == [
        ("talks/one.mp4", ("jump & run",), None, None),
        ("two.é.mp4", ("walk",), None, None),
        ("walk/three.mp4", ("<stand>",), None, None),
    ]
    parts, options = accepted(tmp_path / "parts_out"), ListOptions(label_field="timeline", annotation_fps=12)
    assert read("label_studio", parts, videos, options=options) == [
        ("talks/one.mp4", ("jump & run",), 0.0, 1.0),
        ("talks/one.mp4", ("walk",), 1.0, 2.5),
    ]
    options = ListOptions(trimmed=False)
    assert read("label_studio", accepted(tmp_path / "labels_out"), videos, options=options)[::2] == [
        ("talks/one.mp4", ("jump & run", "walk"), None, None),
        ("walk/three.mp4", ("walk",), None, None),
    ]
    assert main(["prelabel", str(results["parts"]), str(videos), str(tmp_path / "fo"), "--to", "fiftyone"]) == 0
    assert read("fiftyone", tmp_path / "fo/detections/labels.json", videos) == [
        ("talks/one.mp4", ("jump & run",), 0.0, 1.0),
        ("talks/one.mp4", ("walk",), 1.0, 2.5),
    ]


def test_a_threshold_and_an_address(results, videos, tmp_path, capsys):
    out, words = tmp_path / "out", [str(results["classes"]), str(videos), str(tmp_path / "out"), "--to", "label_studio"]
    assert main(["prelabel", *words, "--threshold", "0.6", "--url-prefix", "https://host/v/"]) == 0
    tasks = json.loads((out / "tasks.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [1, 0, 1]
    assert tasks[1]["data"] == {"video": "https://host/v/two.%C3%A9.mp4"}
    assert "2 labels of whole files, in 3 files" in capsys.readouterr().out
    (videos / "two.é.mp4").unlink()
    assert main(["prelabel", *words, "--overwrite"]) == 0
    assert f"not in {videos}: 1 video, two.é.mp4" in capsys.readouterr().out


def test_the_index_has_the_paths_of_a_dataset(motion_dataset, segments_dataset, tmp_path, capsys):
    """Of results with keys alone, and of segments, whose times are those in the recording."""
    videos = motion_dataset.parent / "videos"
    index = DatasetIndex.open(motion_dataset)
    entries = [index.entry(row) for row in index.rows("test").tolist()]
    scores = [[0.75, 0.25, 0.0]] * len(entries)
    results = write_results(tmp_path / "results", [entry.key for entry in entries], scores)
    words = ["prelabel", str(results), str(videos), str(tmp_path / "out"), "--to", "fiftyone"]
    assert main(words) == 2
    assert "has the keys of videos and no paths; name the packed dataset" in capsys.readouterr().err
    assert main([*words, "--data", str(segments_dataset)]) == 2
    assert re.search(r"lacks \d+ of the 16 videos of .*results, first", capsys.readouterr().err)
    assert main([*words, "--data", str(motion_dataset)]) == 0
    manifest = json.loads((tmp_path / "out/classifications/manifest.json").read_text())
    assert [one["data"] for one in manifest["index"]] == [str(videos / entry.source) for entry in entries]
    lines = tmp_path / "lines.jsonl"
    lines.write_text(
        json.dumps({"video": f"{motion_dataset}/{entries[0].key}", "top": [{"class": "a", "probability": 1}]})
    )
    words[1] = str(lines)
    assert main([*words, "--data", str(motion_dataset), "--overwrite"]) == 0
    manifest = json.loads((tmp_path / "out/classifications/manifest.json").read_text())
    assert [one["data"] for one in manifest["index"]] == [str(videos / entries[0].source)]
    capsys.readouterr()
    assert main([*words, "--overwrite"]) == 2
    assert "is a video of a packed dataset; name that dataset" in capsys.readouterr().err
    parts = DatasetIndex.open(segments_dataset)
    keys = list(parts.column("key", parts.rows("test")[:2]))
    words[1] = str(write_results(tmp_path / "parts", keys, scores[:2]))
    assert main([*words, "--data", str(segments_dataset), "--overwrite"]) == 0
    [found] = json.loads((tmp_path / "out/detections/labels.json").read_text())["labels"].values()
    assert [one["timestamps"] for one in found] == [pytest.approx([0.0, 0.68]), pytest.approx([0.2, 0.96])]


def test_only_the_videos_of_a_review(results, videos, tmp_path, capsys):
    words = [str(results["classes"]), str(videos), str(tmp_path / "out"), "--to", "label_studio", "--list"]
    (tmp_path / "list.csv").write_text(
        "path,label,key\nwalk/three.mp4,,walk_three\ntwo.é.mp4,,two__\n", encoding="utf-8"
    )
    assert main(["prelabel", *words, str(tmp_path / "list.csv")]) == 0
    tasks = json.loads((tmp_path / "out/tasks.json").read_text())
    assert [task["data"]["video"].rpartition("=")[2] for task in tasks] == ["walk/three.mp4", "two.%C3%A9.mp4"]
    for text, message in (
        ("path,label\na.mp4,\n", "has no column key"),
        ("key\nother\n", "has other, which"),
        ("key\n", "is empty; review these predictions anew"),
    ):
        (tmp_path / "list.csv").write_text(text)
        assert main(["prelabel", *words, str(tmp_path / "list.csv"), "--overwrite"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none", ".", "out", "--to", "fiftyone"], "predictions='none': there is no such file; give a folder with"),
        (["none.parquet", ".", "out", "--to", "fiftyone"], "no predictions.parquet there"),
        ([__file__, ".", "out", "--to", "fiftyone"], "line 1: is not a line that `classify --json` prints"),
        ([__file__, "none", "out", "--to", "fiftyone"], "videos=none: there is no such folder"),
        ([__file__, ".", "out", "--to", "cvat"], "must be one of label_studio, fiftyone"),
        ([__file__, ".", "out", "--to", "fiftyone", "--threshold", "2"], "threshold=2.0: must be from 0 to 1"),
        (
            [__file__, ".", "out", "--to", "fiftyone", "--annotation-fps", "25"],
            "is for --to label_studio; leave it out",
        ),
    ],
)
def test_bad_input_costs_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["prelabel", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused(videos, tmp_path, capsys):
    scores = write_results(tmp_path / "svm", ["a"], [[1, 2, 3]], [("two.é.mp4", None, None)], scores="margin")
    words = [str(videos), str(tmp_path / "out"), "--to", "label_studio"]
    assert main(["prelabel", str(scores), *words]) == 2
    assert "are of the scale 'margin', not probabilities" in capsys.readouterr().err
    scores = write_results(tmp_path / "elsewhere", ["a"], [[1, 0, 0]], [("../outside.mp4", None, None)])
    assert main(["prelabel", str(scores), *words]) == 2
    assert "../outside.mp4 is not in this folder" in capsys.readouterr().err
    names = ["a\x1bb", "b", "c"]
    scores = write_results(tmp_path / "controls", ["a"], [[1, 0, 0]], [("two.é.mp4", None, None)], classes=names)
    assert main(["prelabel", str(scores), *words]) == 2
    assert r"class a\x1bb: has a control character" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    assert main(["prelabel", str(scores), *words, "--overwrite"]) == 2
    assert "is not empty, or choose another folder" in capsys.readouterr().err
