"""Readers of plain lists, and the detection of the format."""

from pathlib import Path

import pytest

from datamodules.annotations.class_folders import read_class_folders
from datamodules.annotations.plain_lists import read_csv
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

    def test_the_lists_own_splits_are_not_replaced(self, tmp_path: Path) -> None:
        listed = write(tmp_path / "a.csv", "path,label,split\na.mp4,x,test\nb.mp4,x,\n")
        assert [record.split for record in read_csv(listed, split="test").records] == ["test", "test"]
        for given, option in (("train", "--split train"), ("all", "--split or --folds")):
            with pytest.raises(
                AnnotationError, match=rf"line 2: the list gives the split 'test', which {option} would"
            ):
                read_csv(listed, split=given)

    def test_a_misspelled_label_is_guessed(self, tmp_path: Path) -> None:
        with pytest.raises(AnnotationError, match=r"no column 'label'.*; did you mean 'lable'\?"):
            read_csv(write(tmp_path / "a.csv", "path,lable\na.mp4,x\n"))

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
            ("path,lable\na.mp4,x\n", "train", "line 1: no column 'label'; there are 'path', 'lable'"),
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
