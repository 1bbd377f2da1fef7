"""Reader of class folders: classes, splits, and what is left out or refused."""

import os
from pathlib import Path

import pytest

from datamodules.annotations.class_folders import read_class_folders
from datamodules.annotations.tables import AnnotationError
from tests.datamodules.annotations.test_readers import touch, write


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


def test_shares_of_folders_that_are_divided_already_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "run").mkdir(parents=True)
        (tmp_path / split / "run" / "a.mp4").touch()
    with pytest.raises(
        AnnotationError, match=r"has folders of splits already \(test, train\); leave --split and --folds"
    ):
        read_class_folders(tmp_path, "all")
