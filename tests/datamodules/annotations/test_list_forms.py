"""Lists as programs and people write them: separators, encodings, names of columns and files, foreign paths."""

from pathlib import Path

import pytest

from datamodules.annotations.plain_lists import read_csv
from datamodules.list_formats.kinetics import read_kinetics_csv
from datamodules.list_formats.read_annotations import read_annotations
from tests.datamodules.annotations.test_readers import HEADER, touch, write


class TestWaysOfWriting:
    """The same list as programs and people write it."""

    WANTED = (("a.mp4", "run", "train"), ("b c.mp4", "jump, high", "val"))

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("l.csv", 'path,label,split\na.mp4,run,train\nb c.mp4,"jump, high",val\n'),
            ("l.csv", "path;label;split\na.mp4;run;train\nb c.mp4;jump, high;val\n"),
            ("l.csv", "sep=;\r\npath;label;split\r\na.mp4;run;train\r\nb c.mp4;jump, high;val\r\n"),
            ("l.tsv", "path\tlabel\tsplit\na.mp4\trun\ttrain\nb c.mp4\tjump, high\tval\n"),
            ("l.txt", "path\tlabel\tsplit\na.mp4\trun\ttrain\nb c.mp4\tjump, high\tval\n"),
            ("l.csv", "path|label|split\ra.mp4|run|train\rb c.mp4|jump, high|val\r"),
            ("l.csv", 'Video Path, Label-Name ,SUBSET\na.mp4, run ,Train\n b c.mp4,"jump, high",Validation\n'),
            ("l.csv", 'filename,class,split,\na.mp4,run,training,\nb c.mp4,"jump, high",dev,,,\n'),
            ("l.csv", "path;label;split\na.mp4;run;train\nb c.mp4;jump, high;val\n".encode("utf-16")),
            ("l.csv", "path;label;split\na.mp4;run;train\nb c.mp4;jump, high;val\n".encode("utf-16-le")),
            ("l.csv", "path;label;split\na.mp4;run;train\nb c.mp4;jump, high;val\n".encode("utf-8-sig")),
        ],
    )
    def test_is_read(self, tmp_path: Path, name: str, content: str | bytes) -> None:
        records = read_annotations("auto", write(tmp_path / name, content), tmp_path).records
        said = tuple((record.path.removeprefix(f"{tmp_path}/"), record.label, record.split) for record in records)
        assert said == self.WANTED

    @pytest.mark.parametrize(
        "path",
        ["filename", "file", "video", "video_path", "filepath", "File Name", "clip", "video_id"],
    )
    @pytest.mark.parametrize("label", ["class", "category", "action", "label_name", "Class Name"])
    def test_other_names_of_columns(self, tmp_path: Path, path: str, label: str) -> None:
        listed = write(tmp_path / "l.csv", f"{path},{label}\na.mp4,run\n")
        (record,) = read_annotations("auto", listed, tmp_path, "train").records
        assert (record.path, record.label) == (str(tmp_path / "a.mp4"), "run")

    def test_the_name_that_is_used_here_wins_and_the_rest_is_named(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "l.csv", ",id,path,video,label,gruop\n0,7,a.mp4,b,run,1\n")
        annotations = read_csv(listed, split="train")
        assert annotations.records[0].path == str(tmp_path / "a.mp4")
        assert annotations.notes == (
            f"{listed}: columns one without a name, 'id', 'video', 'gruop' are not read; 'gruop' looks like 'group' "
            "misspelled",
        )
        assert read_csv(write(tmp_path / "m.csv", "path,label\na.mp4,x\n"), split="train").notes == ()

    def test_paths_that_are_none_here(self, tmp_path: Path) -> None:
        touch(tmp_path, "sub/e.mp4", "sub/back\\slash.mp4", "deep/er/f.webm", "x/g.mp4", "v/y/g.mp4")
        rows = [
            "y/g",
            "z/g",
            "https://example.org/x.mp4",
            "sub\\e.mp4",
            "sub/back\\slash.mp4",
            "C:\\data\\q.mp4",
            "f",
            "gone",
        ]
        listed = write(tmp_path / "l.csv", "path,label\n" + "".join(f"{path},x\n" for path in rows))
        annotations = read_csv(listed, split="train")
        found = [record.path.removeprefix(f"{tmp_path}/") for record in annotations.records]
        assert found == [
            "v/y/g.mp4",
            "z/g",
            "sub/e.mp4",
            "sub/back\\slash.mp4",
            "C:/data/q.mp4",
            "deep/er/f.webm",
            "gone",
        ]
        assert [(one.path, one.reason) for one in annotations.refused] == [("https://example.org/x.mp4", "address")]
        assert annotations.notes == ("1 path with the drive of another system, such as C:\\data\\q.mp4",)

    def test_lines_of_path_and_number_are_told_by_their_content(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "train.csv", "run/a.mp4 0\njump/b c.mp4 1\n")
        assert [record.label for record in read_annotations("auto", listed, tmp_path).records] == ["run", "jump"]


class TestKineticsNames:
    ROW = "yoga,-_aaaaaaa_1,7,17,train\n"

    @pytest.mark.parametrize(
        "name",
        ["-_aaaaaaa_1_7_17.mp4", "yoga/-_aaaaaaa_1_7.0_17.0.webm", "-_aaaaaaa_1.mkv", "v_-_aaaaaaa_1.mp4",
         "-_aaaaaaa_1-000007-000017.mp4"],
    )  # fmt: skip
    def test_other_names_are_matched_and_told(self, tmp_path: Path, name: str) -> None:
        listed = write(tmp_path / "k.csv", HEADER + self.ROW)
        touch(tmp_path / "v", name)
        annotations = read_kinetics_csv(listed, tmp_path / "v")
        assert annotations.records[0].path == str(tmp_path / "v" / name)
        assert annotations.records[0].key == "-_aaaaaaa_1_000007_000017"
        (note,) = annotations.notes
        assert note.startswith("1 clip found under other names")
        assert Path(name).stem in note

    def test_what_is_ambiguous_is_a_hint(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "k.csv", HEADER + self.ROW + self.ROW.replace("7,17", "27,37"))
        touch(tmp_path / "v", "-_aaaaaaa_1.mp4")
        annotations = read_kinetics_csv(listed, tmp_path / "v")
        assert {Path(record.path).parent.name for record in annotations.records} == {"yoga"}
        (note,) = annotations.notes
        assert note.startswith("2 clips not found while files of the same youtube id are there")

    def test_a_choice_is_told(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "k.csv", HEADER + self.ROW)
        name = "-_aaaaaaa_1_000007_000017"
        touch(tmp_path / "v", f"{name}.webm", f"{name}.mkv", f"{name}.json")
        annotations = read_kinetics_csv(listed, tmp_path / "v")
        assert annotations.records[0].path.endswith(".mkv")
        assert annotations.notes == (
            "several files have the name of one video of the list (1 video): of "
            f"{name}.mkv and {name}.webm the first is taken",
        )

    def test_the_older_names_of_columns(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "k.csv", "video-id,start-time,end-time,label-name\n-_aaaaaaa_1,7,17,yoga\n")
        (record,) = read_annotations("auto", listed, tmp_path, "train").records
        assert (record.key, record.label) == ("-_aaaaaaa_1_000007_000017", "yoga")
