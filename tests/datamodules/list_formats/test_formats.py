"""The table of formats: every format is documented and detected, and refuses the options of others."""

import json
from pathlib import Path
from typing import get_args

import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import FORMATS, AnnotationFormat, detect_format
from datamodules.list_formats.kinetics import read_kinetics_csv
from datamodules.list_formats.read_annotations import read_annotations
from pipeline.__main__ import main
from tests.conftest import REPOSITORY
from tests.datamodules.annotations.test_readers import write

# Name of a list of each format, and what makes its three lines a whole file.
FILES = {
    "activitynet": ("any.json", "{}"),
    "charades": ("any.csv", "{}"),
    "csv": ("any.csv", "{}"),
    "diving48": ("any.json", "[{}]"),
    "epic_kitchens": ("any.csv", "{}"),
    "fiftyone": ("labels.json", "{}"),
    "hacs": ("HACS_segments_v1.1.1.json", "{}"),
    "hmdb51": ("brush_hair_test_split1.txt", "{}"),
    "jester": ("jester-v1-train.csv", "{}"),
    "kinetics": ("any.csv", "{}"),
    "label_studio": ("any.json", "{}"),
    "mmaction": ("any.csv", "{}"),
    "moments_in_time": ("trainingSet.csv", "{}"),
    "something_something_v2": ("any.json", "[{}]"),
    "thumos14": ("any.json", "{}"),
    "ucf101": ("trainlist01.txt", "{}"),
    "via3": ("any.json", '{{"project": {{}}, "attribute": {{}}, "file": {{}}, "metadata": {{{}}}}}'),
}


def test_the_type_of_the_option_names_every_format() -> None:
    assert set(get_args(AnnotationFormat)) == {"auto", *FORMATS}
    assert set(FILES) == set(FORMATS) - {"folders", "files"}


@pytest.mark.parametrize("name", FILES)
def test_three_lines_of_each_are_recognized(name: str, tmp_path: Path) -> None:
    example = FORMATS[name].example
    assert len(example.splitlines()) == 3
    file, frame = FILES[name]
    separator = "," if frame == "[{}]" else "\n"
    content = separator.join(example.splitlines())
    path = write(tmp_path / file, content if frame == "{}" else frame.format(content))
    if path.suffix == ".json":
        json.loads(path.read_text())
    assert detect_format(path).name == name


def test_every_format_has_a_command_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "datasets" / "i-have.md").read_text()
    missing = [name for name in FORMATS if f"--format {name}" not in page and name not in ("folders", "csv")]
    assert not missing


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    plain = write(tmp_path / "l.csv", "path,label,split\na.mp4,a,train\n")
    with pytest.raises(AnnotationError, match=r"label_field=verb: format csv has no such option \(these have it: "):
        read_annotations("csv", plain, options=ListOptions(label_field="verb"))
    with pytest.raises(AnnotationError, match="trimmed=False: format csv has no such option"):
        read_annotations("csv", plain, options=ListOptions(trimmed=False))
    with pytest.raises(ValueError, match="annotation_fps=0: must be above 0"):
        ListOptions(annotation_fps=0)


def test_json_of_no_format(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"l\.json: is JSON of a form that is not recognized; name its format"):
        detect_format(write(tmp_path / "l.json", '{"a": 1}'))


def test_kinetics_in_json_gives_the_records_of_csv(tmp_path: Path) -> None:
    clips = {
        "---QUuC4vJs": {
            "annotations": {"label": "testifying", "segment": [84.0, 94.0]},
            "duration": 10.0,
            "subset": "validate",
            "url": "https://www.youtube.com/watch?v=---QUuC4vJs",
        }
    }
    listed = write(tmp_path / "validate.json", json.dumps(clips))
    table = write(
        tmp_path / "v.csv", "label,youtube_id,time_start,time_end,split\ntestifying,---QUuC4vJs,84,94,validate\n"
    )
    assert read_annotations("auto", listed, tmp_path) == read_kinetics_csv(table, tmp_path)
    clips["---QUuC4vJs"]["annotations"] = []
    with pytest.raises(AnnotationError, match=r"'---QUuC4vJs': annotations=\[\]: must be an object"):
        read_annotations("kinetics", write(listed, json.dumps(clips)), tmp_path)


def test_the_help_of_pack_shows_three_lines_of_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--format", "diving48", "--help"], ["--help", "--format=diving48"]):
        with pytest.raises(SystemExit):
            main(["pack", *arguments])
        printed = capsys.readouterr().out
        assert all(f"    {line}\n" in printed for line in FORMATS["diving48"].example.splitlines())
    with pytest.raises(SystemExit):
        main(["pack", "--help"])
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in FORMATS)
