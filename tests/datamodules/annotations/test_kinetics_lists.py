"""Reader of the official Kinetics lists: columns, clips under several names, malformed rows."""

from pathlib import Path

import pytest

from datamodules.annotations.records import VideoRecord
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.kinetics import read_kinetics_csv
from tests.datamodules.annotations.test_readers import HEADER, touch, write


class TestKinetics:
    def test_reads_the_official_sample(self, shared_dir: Path) -> None:
        folder = shared_dir / "data" / "kinetics_sample"
        records = read_kinetics_csv(folder / "annotations.csv", folder / "videos").records
        assert len(records) == 8
        assert records[0] == VideoRecord(
            path=str(folder / "videos" / "arm wrestling" / "C4lCVBZ3ux0_000028_000038.mp4"),
            key="C4lCVBZ3ux0_000028_000038",
            label="arm wrestling",
            split="val",
            group="C4lCVBZ3ux0",
            time_start=28.0,
            time_end=38.0,
        )
        assert all(Path(record.path).is_file() for record in records)

    @pytest.mark.parametrize(
        "place",
        [
            "arm wrestling/-_aaaaaaaaa_000007_000017.mp4",
            "arm_wrestling/-_aaaaaaaaa_000007_000017.mp4",
            "-_aaaaaaaaa_000007_000017.mp4",
            "train/arm wrestling/-_aaaaaaaaa_000007_000017.mkv",
            "train/-_aaaaaaaaa_000007_000017.webm",
            "videos/arm_wrestling/-_aaaaaaaaa_000007_000017.AVI",
        ],
    )
    def test_finds_videos_where_people_keep_them(self, tmp_path: Path, place: str) -> None:
        listed = write(tmp_path / "a.csv", HEADER + '"arm wrestling",-_aaaaaaaaa,7,17,train\n')
        touch(tmp_path / "v", place)
        (record,) = read_kinetics_csv(listed, tmp_path / "v").records
        assert record.path == str(tmp_path / "v" / place)
        assert record.key == "-_aaaaaaaaa_000007_000017"

    def test_prefers_the_class_then_the_split_then_mp4(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", HEADER + "arm wrestling,aaaaaaaaaaa,7,17,train\n")
        name = "aaaaaaaaaaa_000007_000017"
        touch(tmp_path / "v", f"yoga/{name}.mp4", f"val/arm_wrestling/{name}.mp4", f"train/arm_wrestling/{name}.mkv")
        assert read_kinetics_csv(listed, tmp_path / "v").records[0].path.endswith(f"train/arm_wrestling/{name}.mkv")
        touch(tmp_path / "v", f"train/arm_wrestling/{name}.mp4", f"train/arm_wrestling/.{name}.mp4")
        assert read_kinetics_csv(listed, tmp_path / "v").records[0].path.endswith(f"train/arm_wrestling/{name}.mp4")

    def test_an_absent_video_is_expected_in_its_class(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", HEADER + "yoga,aaaaaaaaaaa,7,17,train\n")
        (record,) = read_kinetics_csv(listed, tmp_path).records
        assert record.path == str(tmp_path / "yoga" / "aaaaaaaaaaa_000007_000017.mp4")

    def test_several_lists_and_the_spellings_of_val(self, tmp_path: Path) -> None:
        first = write(tmp_path / "train.csv", "\ufeff" + HEADER + "\n\nyoga,aaaaaaaaaaa,7,17,train\n")
        second = write(
            tmp_path / "val.csv", "label,youtube_id,time_start,time_end,split,is_cc\nyoga,b,7,17,validate,0\n"
        )
        records = read_kinetics_csv([first, second], tmp_path).records
        assert [(record.group, record.split) for record in records] == [("aaaaaaaaaaa", "train"), ("b", "val")]
        with pytest.raises(
            AnnotationError, match=r"train.csv, line 4: the list gives the split 'train', which --split"
        ):
            read_kinetics_csv([first, second], tmp_path, split="test")

    def test_two_clips_of_one_source_are_one_group(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", HEADER + "yoga,aaaaaaaaaaa,7,17,train\nyoga,aaaaaaaaaaa,27,37,train\n")
        one, two = read_kinetics_csv(listed, tmp_path).records
        assert one.group == two.group
        assert one.key != two.key

    def test_the_split_given_stands_in_for_the_column(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", "label,youtube_id,time_start,time_end\nyoga,aaaaaaaaaaa,7,17\n")
        assert read_kinetics_csv(listed, tmp_path, split="validation").records[0].split == "val"
        with pytest.raises(AnnotationError, match=r"a\.csv, line 1: no column 'split'"):
            read_kinetics_csv(listed, tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("youtube_id,time_start,time_end,split\na,1,2,test\n", r"line 1: no column 'label'.*official test lists"),
            (HEADER, "lists no video"),
            ("", "is empty; it needs a header and a line for each video"),
            (HEADER.replace("split", "side"), r"line 1: no column 'split'; there are 'label', 'youtube_id', .*'side'"),
            (HEADER.replace("label", "split"), "column 'split' comes 2 times"),
            (
                HEADER + "yoga,a,1,11,train\nyoga,a,x1,11,train\n",
                r"line 3: time_start='x1': must be a number of seconds",
            ),
            (HEADER + "yoga,a,nan,11,train\n", r"line 2: time_start='nan'"),
            (HEADER + "yoga,a,1.5,11,train\n", r"line 2: time_start='1.5': must be whole seconds"),
            (HEADER + "yoga,a,11,11,train\n", r"line 2: time_end='11': must be after time_start=11"),
            (HEADER + "yoga,a/b,1,11,train\n", r"line 2: youtube_id='a/b': must consist of"),
            (HEADER + " ,a,1,11,train\n", r"line 2: label=' ': is empty; give every video a label"),
            (HEADER + "yo\0ga,a,1,11,train\n", r"line 2: label='yo\\x00ga': holds a control character"),
            (HEADER + "yoga,a,1,11,t/v\n", r"line 2: split='t/v': must be a word"),
            (HEADER + "yoga,a,1,11\n", "line 2: has 4 values for 5 columns"),
            (HEADER + 'yoga,a,1,11,"train\n', "line 2: is not valid CSV"),
            (HEADER + "yoga,a,1,11,train\nrun,a,1,11,val\n", r"line 3: clip 'a_000001_000011' is already in .*line 2"),
            (HEADER.encode() + b"caf\xe9,a,1,11,train\n", r"line 2: b'\\xe9' is not UTF-8"),
        ],
    )
    def test_a_wrong_list_is_told_in_a_sentence(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        with pytest.raises(AnnotationError, match=r"a\.csv.*" + message) as caught:
            read_kinetics_csv(write(tmp_path / "a.csv", text), tmp_path)
        assert "\n" not in str(caught.value)

    def test_missing_list_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(AnnotationError, match=r"no\.csv: there is no such file"):
            read_kinetics_csv(tmp_path / "no.csv", tmp_path)
        listed = write(tmp_path / "a.csv", HEADER + "yoga,a,7,17,train\n")
        with pytest.raises(AnnotationError, match=r"videos=.*absent: there is no such folder"):
            read_kinetics_csv(listed, tmp_path / "absent")
        with pytest.raises(AnnotationError, match="cannot be read"):
            read_kinetics_csv(tmp_path, tmp_path)

    def test_reads_a_list_of_the_size_of_kinetics(self, tmp_path: Path) -> None:
        lines = "".join(f"class {i % 700},{i:011d},{i % 90},{i % 90 + 10},train\n" for i in range(100_000))
        listed = write(tmp_path / "a.csv", HEADER + lines)
        touch(tmp_path / "v", *(f"class {i % 700}/{i:011d}_{i % 90:06d}_{i % 90 + 10:06d}.mp4" for i in range(2_000)))
        records = read_kinetics_csv(listed, tmp_path / "v").records
        assert len(records) == 100_000
