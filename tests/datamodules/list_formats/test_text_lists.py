"""UCF101, HMDB51 and mmaction2 lists of a few lines in the published form, and what is said about wrong ones."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.formats import detect_format
from datamodules.list_formats.hmdb51 import read_hmdb51
from datamodules.list_formats.kinetics import read_kinetics_csv
from datamodules.list_formats.mmaction import read_mmaction
from datamodules.list_formats.read_annotations import read_annotations
from datamodules.list_formats.ucf101 import read_ucf101
from tests.datamodules.annotations.test_readers import HEADER, touch, write


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    folder = tmp_path / "ucfTrainTestlist"
    write(folder / "classInd.txt", "1 ApplyEyeMakeup\r\n2 YoYo\r\n")
    videos = [f"{label}/v_{label}_g{group:02d}_c01.avi" for label in ("ApplyEyeMakeup", "YoYo") for group in (1, 2, 3)]
    for fold in (1, 2, 3):
        held_out = [video for video in videos if f"_g{fold:02d}_" in video]
        lines = [f"{video} {1 if video.startswith('A') else 2}\r\n" for video in videos if video not in held_out]
        write(folder / f"trainlist{fold:02d}.txt", "".join(lines))
        write(folder / f"testlist{fold:02d}.txt", "".join(f"{video}\r\n" for video in held_out))
    return folder


@pytest.fixture
def hmdb(tmp_path: Path) -> Path:
    folder = tmp_path / "testTrainMulti_7030_splits"
    for fold in (1, 2, 3):
        numbers = [(fold + i) % 3 for i in range(3)]
        lines = [f"#20_a b(c)_wave_u_nm_np1_fr_goo_{i}.avi {number} \n" for i, number in enumerate(numbers)]
        write(folder / f"wave_test_split{fold}.txt", "".join(lines))
        write(folder / f"brush_hair_test_split{fold}.txt", f"April_09_brush_hair_u_nm_np1_ba_goo_0.avi {fold - 1} \n")
    return folder


def assert_refused(
    folder: Path, name: str, text: str | bytes | None, message: str, read: Callable[[Path, Path], object]
) -> None:
    """A file of the folder holds this text, or is missing: reading says so in one line."""
    if text is None:
        (folder / name).unlink()
    else:
        write(folder / name, text)
    with pytest.raises(AnnotationError, match=message) as caught:
        read(folder, folder)
    assert "\n" not in str(caught.value)


class TestUcf101:
    def test_three_folds_groups_and_the_order_of_classes(self, ucf: Path, tmp_path: Path) -> None:
        touch(tmp_path / "v", "YoYo/v_YoYo_g02_c01.mp4", "v_YoYo_g03_c01.avi")
        annotations = read_ucf101(ucf, tmp_path / "v")
        assert (annotations.folds, annotations.classes) == (("1", "2", "3"), ("ApplyEyeMakeup", "YoYo"))
        records = {record.key: record for record in annotations.records}
        assert len(records) == 6
        record = records["YoYo_v_YoYo_g02_c01"]
        assert (record.label, record.group, record.split) == ("YoYo", "YoYo_g02", "")
        assert record.fold_splits == ("train", "test", "train")
        assert record.path == str(tmp_path / "v" / "YoYo" / "v_YoYo_g02_c01.mp4")
        assert records["YoYo_v_YoYo_g03_c01"].path == str(tmp_path / "v" / "v_YoYo_g03_c01.avi")
        absent = records["ApplyEyeMakeup_v_ApplyEyeMakeup_g01_c01"]
        assert absent.path == str(tmp_path / "v" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g01_c01.avi")

    def test_some_folds_only(self, ucf: Path) -> None:
        lists = [ucf / "trainlist02.txt", ucf / "testlist02.txt"]
        annotations = read_ucf101(lists, ucf)
        assert annotations.folds == ("2",)
        assert [record.fold_splits for record in annotations.records].count(("test",)) == 2
        assert read_annotations("auto", lists) == annotations
        assert read_annotations("auto", ucf).folds == ("1", "2", "3")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("classInd.txt", "1 A\n3 B\n", r"classInd\.txt, line 2: line='3 B': must be 2 and"),
            ("classInd.txt", "1 A\n2 A\n", r"classInd\.txt, line 2: .*not named before"),
            ("classInd.txt", "", r"classInd\.txt: is empty"),
            ("classInd.txt", None, r"classInd\.txt: there is no such file"),
            ("testlist02.txt", None, r"has no testlist02\.txt; fold 2 needs it"),
            ("testlist01.txt", "v_YoYo_g01_c01.avi\n", r"testlist01\.txt, line 1: .*must be class/video"),
            ("testlist01.txt", "\nYoYo/a/b.avi\n", r"testlist01\.txt, line 2: .*must be class/video"),
            ("testlist01.txt", "Run/v_Run_g01_c01.avi\n", r"testlist01\.txt, line 1: .*class 'Run' does not fit"),
            ("trainlist01.txt", "YoYo/a.avi 1\n", r"trainlist01\.txt, line 1: .*number in classInd.txt is 2"),
            ("testlist01.txt", "YoYo/v_YoYo_g02_c01.avi\n", r"testlist01\.txt, line 1: video .* is already in .*train"),
            ("testlist01.txt", b"caf\xe9/a.avi\n", r"testlist01\.txt, line 1: .*is not UTF-8"),
        ],
    )
    def test_a_wrong_list_is_told_in_a_sentence(
        self, ucf: Path, name: str, text: str | bytes | None, message: str
    ) -> None:
        assert_refused(ucf, name, text, message, read_ucf101)

    def test_arguments_that_do_not_fit(self, ucf: Path, tmp_path: Path) -> None:
        with pytest.raises(AnnotationError, match="leave split out"):
            read_annotations("ucf101", ucf, split="train")
        with pytest.raises(AnnotationError, match=r"has no trainlist01\.txt"):
            read_ucf101(tmp_path, tmp_path)
        with pytest.raises(AnnotationError, match=r"other\.txt: is not called like an official list"):
            read_ucf101(write(tmp_path / "other.txt", "x"), tmp_path)
        with pytest.raises(AnnotationError, match="there is no such folder"):
            read_ucf101(ucf, tmp_path / "absent")


class TestHmdb51:
    def test_zero_is_unused_one_train_two_test(self, hmdb: Path, tmp_path: Path) -> None:
        touch(tmp_path / "v", "wave/#20_a b(c)_wave_u_nm_np1_fr_goo_1.avi")
        annotations = read_annotations("auto", hmdb, tmp_path / "v")
        assert annotations == read_hmdb51(hmdb, tmp_path / "v")
        assert (annotations.folds, annotations.classes) == (("1", "2", "3"), ("brush_hair", "wave"))
        brush, *waves = annotations.records
        assert (brush.key, brush.group) == (
            "brush_hair_April_09_brush_hair_u_nm_np1_ba_goo_0",
            "brush_hair/April_09",
        )
        assert brush.fold_splits == ("", "train", "test")
        assert [record.fold_splits for record in waves] == [
            ("train", "test", ""),
            ("test", "", "train"),
            ("", "train", "test"),
        ]
        assert {record.group for record in waves} == {"wave/#20_a b(c)"}
        assert waves[1].path == str(tmp_path / "v" / "wave" / "#20_a b(c)_wave_u_nm_np1_fr_goo_1.avi")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("wave_test_split1.txt", "a.avi 1\nb.avi 3\n", r"wave_test_split1\.txt, line 2: .*must be the name"),
            ("wave_test_split1.txt", "a.avi\n", r"line 1: .*must be the name"),
            ("wave_test_split1.txt", "wave/a.avi 1\n", r"line 1: .*must be the name"),
            ("wave_test_split1.txt", "a.avi 1\na.avi 2\n", r"line 2: video 'wave/a.avi' is already in .*line 1"),
            ("wave_test_split2.txt", None, r"has no wave_test_split2\.txt; other classes have split 2"),
        ],
    )
    def test_a_wrong_list_is_told_in_a_sentence(self, hmdb: Path, name: str, text: str | None, message: str) -> None:
        assert_refused(hmdb, name, text, message, read_hmdb51)

    def test_a_folder_without_lists(self, tmp_path: Path) -> None:
        with pytest.raises(AnnotationError, match=r"has no \{class\}_test_split1\.txt"):
            read_hmdb51(tmp_path, tmp_path)


class TestMmaction:
    def test_folders_are_the_classes(self, tmp_path: Path) -> None:
        train = write(
            tmp_path / "k_train_list_videos.txt", "yoga/aaaaaaaaaaa_000001_000011.mp4 1\narm wrestling/b.mp4 0\n"
        )
        val = write(tmp_path / "k_val_list_videos.txt", "yoga/c.mp4 1\n")
        annotations = read_annotations("auto", [train, val])
        assert annotations.classes == ("arm wrestling", "yoga")
        assert [(record.label, record.split, record.group) for record in annotations.records] == [
            ("yoga", "train", "aaaaaaaaaaa"),
            ("arm wrestling", "train", "arm_wrestling_b"),
            ("yoga", "val", "yoga_c"),
        ]
        assert annotations.records[1].path == str(tmp_path / "arm wrestling" / "b.mp4")
        with pytest.raises(AnnotationError, match=r"train_list_videos.txt: the list gives the split 'train', which"):
            read_mmaction([train, val], tmp_path, "test")

    def test_a_label_map_names_them(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "test.txt", "a.mp4 1\nb.mp4 0\n")
        names = write(tmp_path / "map.txt", "arm wrestling\nyoga\nzumba\n")
        annotations = read_annotations("mmaction", listed, classes=names)
        assert [record.label for record in annotations.records] == ["yoga", "arm wrestling"]
        assert annotations.classes == ("arm wrestling", "yoga", "zumba")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a/b.mp4\n", r"train\.txt, line 1: line='a/b.mp4': must be a path and the number"),
            ("a/b.mp4 0\na/c.mp4 x\n", r"train\.txt, line 2: .*must be a path and the number"),
            ("b.mp4 0\n", r"line 1: .*has no folder to name the class; give a label map"),
            ("a/b.mp4 0\nc/b.mp4 0\n", r"line 2: .*label 0 is 'a' before"),
            ("a/b.mp4 0\na/c.mp4 1\n", r"class 'a' has two labels"),
            ("a/b.mp4 0\na/b.mp4 0\n", r"line 2: path 'a/b.mp4' is already in .*line 1"),
            ("", r"is empty"),
        ],
    )
    def test_a_wrong_list_is_told_in_a_sentence(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(AnnotationError, match=message) as caught:
            read_mmaction(write(tmp_path / "train.txt", text), tmp_path)
        assert "\n" not in str(caught.value)

    def test_a_list_of_raw_frames(self, tmp_path: Path) -> None:
        touch(tmp_path, "v/run/a/img_00001.jpg", "v/run/b 2/img_00001.jpg")
        listed = write(tmp_path / "x_train_list_rawframes.txt", "run/a 240 0\nrun/b 2 0\nwalk/absent 17 1\n")
        options = ListOptions(frames_per_second=30)
        records = read_annotations("auto", listed, tmp_path / "v", options=options).records
        assert [(record.label, record.split, record.frames_per_second) for record in records] == [
            ("run", "train", 30),
            ("run", "train", 30),  # a folder whose name ends in a blank and a number
            ("walk", "train", None),
        ]
        assert [record.path for record in records] == [
            str(tmp_path / "v" / name) for name in ("run/a", "run/b 2", "walk/absent")
        ]

    def test_map_and_names_that_do_not_fit(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "train.txt", "a.mp4 2\n")
        with pytest.raises(AnnotationError, match=r"line 1: .*label 2 is not in .*map\.txt, whose last is 1"):
            read_mmaction(listed, tmp_path, label_map=write(tmp_path / "map.txt", "x\ny\n"))
        with pytest.raises(AnnotationError, match=r"list\.txt: its name has none of train, val and test"):
            read_mmaction(write(tmp_path / "list.txt", "a/b.mp4 2\n"), tmp_path)


class TestAnySuffix:
    """What a list names is taken whatever its name ends in."""

    NAMES = ("1.wmv", "2.3gp", "3.MTS", "4.bin", "5", "6 240")

    def test_mmaction(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"run/{name}" for name in self.NAMES))
        lines = [f"run/{name} 0\n" for name in self.NAMES]
        listed = write(tmp_path / "train.txt", "".join([*lines, "run\\7.mp4 0\n", "run/absent.wmv 0\n"]))
        paths = [record.path for record in read_mmaction(listed, tmp_path).records]
        assert paths == [str(tmp_path / "run" / name) for name in (*self.NAMES, "7.mp4", "absent.wmv")]

    def test_hmdb51(self, tmp_path: Path) -> None:
        touch(tmp_path, *(f"v/run/{name}" for name in self.NAMES[:3]), "v/run/8.mp4", "v/run/8.avi")
        touch(tmp_path, "v/run/9.b_np1.avi")
        lines = "".join(f"{name} 1\n" for name in (*self.NAMES[:5], "8.avi", "9.b_np1"))
        write(tmp_path / "lists" / "run_test_split1.txt", lines)
        records = read_hmdb51(tmp_path / "lists", tmp_path / "v").records
        names = [record.path.removeprefix(f"{tmp_path}/v/run/") for record in records]
        assert names == [*self.NAMES[:5], "8.avi", "9.b_np1.avi"]  # the suffix of the list before .mp4

    def test_ucf101(self, ucf: Path, tmp_path: Path) -> None:
        touch(tmp_path / "v", "YoYo/v_YoYo_g02_c01.wmv")
        records = {record.key: record for record in read_ucf101(ucf, tmp_path / "v").records}
        assert records["YoYo_v_YoYo_g02_c01"].path == str(tmp_path / "v" / "YoYo" / "v_YoYo_g02_c01.wmv")


def test_what_is_no_official_list(tmp_path: Path) -> None:
    touch(tmp_path, "v/train/a/1.mp4", "list.csv")
    assert detect_format(tmp_path / "v").name == "folders"
    assert detect_format(write(tmp_path / "list.csv", "path,label,split\n")).name == "csv"


def test_labels_that_differ_in_blanks_alone_get_a_word(tmp_path: Path) -> None:
    told = "labels that differ in the blanks around them alone are one class: 'run', 'run '"
    listed = read_csv(write(tmp_path / "l.csv", "path,label\na.mp4,run\nb.mp4,run \nc.mp4, walk\n"), split="train")
    assert ([record.label for record in listed.records], listed.notes) == (["run", "run", "walk"], (told,))
    rows = "run,aaaaaaaaaaa,7,17,train\nrun ,bbbbbbbbbbb,0,10,train\n"
    touch(tmp_path / "v", "aaaaaaaaaaa_000007_000017.mp4")
    assert told in read_kinetics_csv(write(tmp_path / "k.csv", HEADER + rows), tmp_path / "v").notes


@pytest.mark.parametrize(
    "place", ["train/{}.mp4", "train/arm wrestling/{}.mp4", "replacement/replacement_for_x/{}.mp4"]
)
def test_kinetics_as_cvdfoundation_and_activitynet_lay_it_out(tmp_path: Path, place: str) -> None:
    name = "aaaaaaaaaaa_000007_000017"
    touch(tmp_path / "v", place.format(name), "val/bbbbbbbbbbb_000000_000010.mp4")
    rows = "arm wrestling,aaaaaaaaaaa,7,17,train\nyoga,bbbbbbbbbbb,0,10,validate\n"
    one, two = read_kinetics_csv(write(tmp_path / "k.csv", HEADER + rows), tmp_path / "v").records
    assert one.path == str(tmp_path / "v" / place.format(name))
    assert (two.path, two.split) == (str(tmp_path / "v" / "val" / "bbbbbbbbbbb_000000_000010.mp4"), "val")


class TestParquet:
    def test_gives_the_same_as_csv(self, tmp_path: Path) -> None:
        columns = {"path": ["a.mp4", "b.mp4"], "label": ["x", "y"], "split": ["train", "val"], "group": ["g", "h"]}
        pq.write_table(pa.table(columns), tmp_path / "list.parquet")
        listed = write(tmp_path / "list.csv", "path,label,split,group\na.mp4,x,train,g\nb.mp4,y,val,h\n")
        assert read_annotations("auto", tmp_path / "list.parquet") == read_csv(listed)
        pq.write_table(
            pa.table({"path": ["a.mp4", "b.mp4"], "label": ["x", "y"], "fold": [1, 2]}), tmp_path / "f.parquet"
        )
        assert read_csv(tmp_path / "f.parquet").folds == ("1", "2")
        # pandas makes floats of whole numbers where one is missing
        columns = {"path": ["a.mp4", "b.mp4", "c.mp4"], "label": [3.0, 10.0, 2.5]}
        pq.write_table(pa.table(columns), tmp_path / "n.parquet")
        assert [one.label for one in read_csv(tmp_path / "n.parquet", split="train").records] == ["3", "10", "2.5"]

    def test_wrong_ones(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"path": ["a.mp4", "b.mp4"], "label": ["x", None]}), tmp_path / "a.parquet")
        with pytest.raises(AnnotationError, match=r"a\.parquet, line 2: label='': is empty"):
            read_csv(tmp_path / "a.parquet", split="train")
        table = pa.table({"path": ["a.mp4", "b.mp4"], "label": pa.array([1.0, float("nan")], from_pandas=False)})
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(AnnotationError, match=r"a\.parquet, line 2: label='': is empty"):
            read_csv(tmp_path / "a.parquet", split="train")
        with pytest.raises(AnnotationError, match=r"b\.parquet: cannot be read as Parquet"):
            read_csv(write(tmp_path / "b.parquet", "path,label\n"))
        with pytest.raises(AnnotationError, match=r"absent\.parquet: there is no such file"):
            read_annotations("auto", tmp_path / "absent.parquet")
