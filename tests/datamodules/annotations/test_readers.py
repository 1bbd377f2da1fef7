"""Lists of videos: the three forms, and what is said about lists that are wrong."""

import os
import time
from pathlib import Path

import pytest

from datamodules.annotations.class_folders import read_class_folders
from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.records import VideoRecord
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.kinetics import read_kinetics_csv
from datamodules.list_formats.read_annotations import read_annotations

HEADER = "label,youtube_id,time_start,time_end,split\n"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, b"")
    return root


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
        assert {record.split for record in read_kinetics_csv([first, second], tmp_path, split="test").records} == {
            "test"
        }

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
        lines = "".join(f"class {i % 700},{i:011d},{i % 90},{i % 90 + 10},train\n" for i in range(300_000))
        listed = write(tmp_path / "a.csv", HEADER + lines)
        touch(tmp_path / "v", *(f"class {i % 700}/{i:011d}_{i % 90:06d}_{i % 90 + 10:06d}.mp4" for i in range(2_000)))
        began = time.process_time()
        records = read_kinetics_csv(listed, tmp_path / "v").records
        assert len(records) == 300_000
        assert time.process_time() - began < 20  # about 3 s on one core


class TestCsv:
    def test_reads_the_folds_of_real_data(self, shared_dir: Path) -> None:
        folder = shared_dir / "data" / "surveillance_fights"
        annotations = read_csv(folder / "annotations.csv", folder)
        assert annotations.folds == ("0", "1", "2", "3", "4")
        assert len(annotations.records) == 300
        first = annotations.records[0]
        assert first.key == "fight_fi001"
        assert (first.split, first.fold_splits) == ("", ("train", "train", "test", "train", "train"))
        assert all(record.fold_splits.count("test") == 1 for record in annotations.records)
        assert all(Path(record.path).is_file() for record in annotations.records)
        divided = {(record.group, record.fold_splits) for record in annotations.records}
        assert len(divided) == len({record.group for record in annotations.records})

    def test_folds_are_sorted_by_value(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", "path,label,fold\na.mp4,x,10\nb.mp4,x,9\nc.mp4,y,a\n")
        annotations = read_csv(listed)
        assert annotations.folds == ("9", "10", "a")
        assert [record.fold_splits.index("test") for record in annotations.records] == [1, 0, 2]

    def test_splits_and_own_groups(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", "split,label,path\ntrain,x,c/v_Yo_g01_c02.avi\nval,x,ü b.mp4\n")
        one, two = read_csv(listed, tmp_path).records
        assert (one.key, one.group, one.split) == ("c_v_Yo_g01_c02", "Yo_g01", "train")
        assert (two.key, two.group, two.split) == ("__b", "__b", "val")
        assert two.path == str(tmp_path / "ü b.mp4")

    def test_keys_that_would_be_alike_differ(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", "path,label\na/b.mp4,x\na_b.mp4,x\na_b.avi,x\nc.mp4,x\n")
        keys = [record.key for record in read_csv(listed, split="train").records]
        assert len(set(keys)) == 4
        assert keys[3] == "c"
        assert all(key.startswith("a_b-") for key in keys[:3])

    def test_absolute_paths_below_the_root_give_the_same_keys(self, tmp_path: Path) -> None:
        touch(tmp_path, "x/a.mp4")
        near = read_csv(write(tmp_path / "a.csv", "path,label\nx/a.mp4,x\n"), split="train")
        far = read_csv(write(tmp_path / "b.csv", f"path,label\n{tmp_path}/x/a.mp4,x\n"), split="train")
        assert near == far

    @pytest.mark.parametrize(
        ("text", "split", "message"),
        [
            ("path,label\na.mp4,x\n", None, "has neither a column split nor fold"),
            ("path,label,split,fold\na.mp4,x,train,0\n", None, "fold besides a split"),
            ("path,label,fold\na.mp4,x,0\nb.mp4,x,1\n", "train", "fold besides a split"),
            ("path,label,fold\na.mp4,x,0\n", None, "all videos are of fold '0'"),
            ("path,label,fold\na.mp4,x,0\nb.mp4,x,\n", None, "line 3: fold='': is empty"),
            ("path,label,group\na.mp4,x,\n", "train", "line 2: group='': is empty"),
            ("path,label\na.mp4,x\n./a.mp4,x\n", "train", r"line 3: path '.*a\.mp4' is already in .*line 2"),
            ("path\na.mp4\n", "train", "line 1: no column 'label'; there are 'path'"),
            ("what,label\na.mp4,x\n", "train", "line 1: no column 'path'; there are 'what', 'label'"),
            ("file,Video,label\na,b,x\n", "train", "line 1: the columns 'file' and 'Video' could all be the path"),
            ("path,class,action\na,x,y\n", "train", "line 1: the columns 'class' and 'action' could all be the label"),
            ("path,path,label\na,b,x\n", "train", "line 1: column 'path' comes 2 times"),
            ("a.mp4,x\nb.mp4,y\n", "train", "line 1: is no line of column names: 'a.mp4', 'x'"),
            ("34870;Drumming Fingers\n", "train", "line 1: is no line of column names: '34870;Drumming Fingers'"),
            ("path,label\na.mp4,x\na.mp4,x\na.mp4,x\n", "train", r"already in .*line 2 \(such lines: 2\)"),
            ("path;label\na.mp4;x;y\n", "train", "line 2: has 3 values for 2 columns; .*contain a semicolon"),
            ("path,label\na.mp4\n", "train", "line 2: has 1 values for 2 columns; give it one for each"),
            ("path,label\nhttp://x/a.mp4,x\n", "train", "line 2: path='http://x/a.mp4': is an address, as all"),
            ('[{"id": 1}]', "train", "is JSON, which this format is not; .* write a CSV file"),
            ('{"database": {}}', "train", "is JSON"),
            ("PK\x03\x04", "train", "is a spreadsheet"),
            ("path,label\na.mp4,x\n", "a b", "split='a b'"),
        ],
    )
    def test_a_wrong_list_is_told_in_a_sentence(
        self, tmp_path: Path, text: str, split: str | None, message: str
    ) -> None:
        with pytest.raises(AnnotationError, match=message):
            read_csv(write(tmp_path / "a.csv", text), tmp_path, split)


class TestClassFolders:
    def test_splits_are_folders(self, tmp_path: Path) -> None:
        touch(
            tmp_path, "train/b/2.mp4", "train/a/1.MP4", "validation/a/1.mp4", "test/a/deep/er/1.avi", "train/a/read.txt"
        )
        records = read_class_folders(tmp_path).records
        assert [(record.key, record.label, record.split) for record in records] == [
            ("test_a_deep_er_1", "a", "test"),
            ("train_a_1", "a", "train"),
            ("train_b_2", "b", "train"),
            ("validation_a_1", "a", "val"),
        ]
        assert len({record.group for record in records}) == 4
        assert {record.key for record in read_class_folders(tmp_path, "val").records} == {"validation_a_1"}
        with pytest.raises(AnnotationError, match=r"split='extra': .* has test, train, validation only"):
            read_class_folders(tmp_path, "extra")

    def test_one_split_and_the_groups_of_ucf101(self, tmp_path: Path) -> None:
        touch(tmp_path, "YoYo/v_YoYo_g25_c01.avi", "YoYo/v_YoYo_g25_c02.avi", "Run/aaaaaaaaaaa_000001_000011.mp4")
        records = read_class_folders(tmp_path, split="train").records
        assert [record.group for record in records] == ["aaaaaaaaaaa", "YoYo_g25", "YoYo_g25"]
        assert {record.split for record in records} == {"train"}

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(AnnotationError, match="there is no such folder"):
            read_class_folders(tmp_path / "absent", "train")
        write(tmp_path / "a" / "1.txt", "words")
        with pytest.raises(AnnotationError, match=r"has no video in any class's folder \(left out 1 file .*a/1\.txt"):
            read_class_folders(tmp_path, "train")
        touch(tmp_path, "2.mp4")
        with pytest.raises(AnnotationError, match=r"2\.mp4: lies outside the classes' folders"):
            read_class_folders(tmp_path, "train")
        touch(tmp_path, "a/1.mp4")
        with pytest.raises(AnnotationError, match="no folder train, val or test"):
            read_class_folders(tmp_path)

    def test_every_file_is_a_video_or_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "run/1.mp4", "run/1.AVI", "run/2.wmv", "run/3.3GP", "run/4.m2ts", "run/5.flv", "run/.6.mp4")
        touch(
            tmp_path, "run/called.mp4/7.mov", "out.mp4", "run/8.TXT", "run/9.txt", "run/readme", ".git/x", "jump/.keep"
        )
        write(tmp_path / "run" / "code.ts", "export const a = 1\n")
        annotations = read_class_folders(tmp_path, "train")
        names = [record.path.removeprefix(f"{tmp_path}/run/") for record in annotations.records]
        assert names == ["1.AVI", "1.mp4", "2.wmv", "3.3GP", "4.m2ts", "5.flv", "called.mp4/7.mov"]
        assert len({record.key for record in annotations.records}) == len(names)
        assert [(one.path, one.reason) for one in annotations.refused] == [("out.mp4", "outside classes")]
        assert annotations.notes == (
            "no video in the folders jump",
            "left out 4 files that are no videos: .txt (2: run/8.TXT, run/9.txt), .ts (1: run/code.ts), no suffix (1: "
            "run/readme); 3 hidden: .git, jump/.keep, run/.6.mp4",
        )

    def test_the_spellings_of_splits_and_what_lies_beside_them(self, tmp_path: Path) -> None:
        touch(tmp_path, "Train/a/1.mp4", "TEST/a/1.mp4", "dev/a/1.mp4", "valid/a/2.mp4", "eval/a/1.mp4", "b/1.mp4")
        touch(tmp_path, "loose.avi", "Train/stray.mp4")
        write(tmp_path / "list.csv", "words")
        annotations = read_class_folders(tmp_path)
        splits = {record.path.removeprefix(f"{tmp_path}/"): record.split for record in annotations.records}
        assert splits == {
            "Train/a/1.mp4": "train",
            "TEST/a/1.mp4": "test",
            "dev/a/1.mp4": "val",
            "valid/a/2.mp4": "val",
        }
        assert sorted(one.path for one in annotations.refused) == ["Train/stray.mp4", "loose.avi"]
        beside, left_out = annotations.notes
        assert beside.startswith("folders beside TEST, Train, dev, valid are not read: b, eval; ")
        assert left_out == "left out 1 file that is no video: .csv (1: list.csv)"
        assert {record.split for record in read_class_folders(tmp_path, "validation").records} == {"val"}

    def test_a_class_may_be_called_like_a_split(self, tmp_path: Path) -> None:
        touch(tmp_path, "Training/1.mp4", "Running/1.mp4")
        labels = [record.label for record in read_class_folders(tmp_path, "train").records]
        assert labels == ["Running", "Training"]

    def test_links_are_followed_unless_they_turn_in_circles(self, tmp_path: Path) -> None:
        touch(tmp_path / "elsewhere", "1.mp4")
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere")
        assert [record.label for record in read_class_folders(tmp_path / "root", "train").records] == ["a"]
        (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(AnnotationError, match="link to a folder above itself"):
            read_class_folders(tmp_path / "root", "train")

    def test_a_name_that_is_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff.mp4")).touch()
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        with pytest.raises(AnnotationError, match="the name is not UTF-8"):
            read_class_folders(tmp_path, "train")
        touch(tmp_path, "a/1.mp4")
        annotations = read_class_folders(tmp_path, "train")
        assert [record.key for record in annotations.records] == ["a_1"]
        assert [(one.path, one.reason) for one in annotations.refused] == [("a/\udcff.mp4", "name")]


class TestDispatch:
    def test_the_form_is_found(self, tmp_path: Path) -> None:
        touch(tmp_path / "v", "train/yoga/x.mp4")
        kinetics = write(tmp_path / "k.csv", HEADER + "yoga,aaaaaaaaaaa,7,17,train\n")
        plain = write(tmp_path / "p.csv", "path,label,split\ntrain/yoga/x.mp4,yoga,train\n")
        assert read_annotations("auto", kinetics, tmp_path / "v") == read_kinetics_csv(kinetics, tmp_path / "v")
        assert read_annotations("auto", [kinetics]) == read_kinetics_csv(kinetics, tmp_path)
        assert read_annotations("auto", plain, tmp_path / "v") == read_csv(plain, tmp_path / "v")
        assert read_annotations("auto", None, tmp_path / "v") == read_class_folders(tmp_path / "v")
        assert read_annotations("auto", tmp_path / "v") == read_class_folders(tmp_path / "v")
        assert read_annotations("folders", videos=tmp_path / "v") == read_class_folders(tmp_path / "v")

    def test_arguments_that_do_not_fit(self, tmp_path: Path) -> None:
        plain = write(tmp_path / "p.csv", "path,label,split\nx.mp4,yoga,train\n")
        with pytest.raises(AnnotationError, match="both missing"):
            read_annotations("auto")
        with pytest.raises(AnnotationError, match="annotations is missing: format csv"):
            read_annotations("csv", videos=tmp_path)
        with pytest.raises(AnnotationError, match="format csv takes one file"):
            read_annotations("csv", [plain, plain])
        with pytest.raises(AnnotationError, match="leave annotations out"):
            read_annotations("folders", plain, tmp_path)
        with pytest.raises(AnnotationError, match=r"q\.csv, line 1: no column 'path'; there are 'what', 'class'"):
            read_annotations("auto", write(tmp_path / "q.csv", "what,class\n"))
        with pytest.raises(AnnotationError, match="format='json'"):
            read_annotations("json", plain)  # type: ignore[arg-type]
