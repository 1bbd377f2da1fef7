"""Tests of split files: reading, writing, names and errors."""

from pathlib import Path

import pytest

from datamodules.splits.split_file import (
    SplitFileError,
    read_packed_splits,
    read_split_file,
    write_split_file,
)


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / "splits" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_written_file_is_read_by_name_and_by_path(tmp_path: Path) -> None:
    values = {"b": "test", "a": "train", "=1+1": "train", " c ": ""}
    path = tmp_path / "splits" / "mine.csv"
    write_split_file(path, "split", values, dict.fromkeys(values, "g"), {"seed": 0})
    by_name, by_path = read_split_file("mine", tmp_path), read_split_file(str(path), "elsewhere")
    assert by_name is not None
    assert by_path is not None
    assert (by_name.values, by_name.column, by_name.folds) == (values, "split", [])
    assert (by_name.name, by_path.name) == ("mine", str(path))
    assert by_name.reference.sha256 == by_path.reference.sha256
    assert by_name.splits_of("a") == ("train", ())


def test_the_digest_depends_on_the_splits_alone(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        found = read_split_file(str(write(tmp_path, text)), "")
        assert found is not None
        return found.reference.sha256

    first = digest("key,split\na,train\nb,test\n")
    assert first == digest("﻿note;split;key\r\nx;test;b\r\ny; train ;a\r\n")  # as a spreadsheet writes it
    assert first == digest("key\tsplit\na\ttrain\nb\ttest\n")
    assert len({first, digest("key,split\na,test\nb,train\n"), digest("key,fold\na,train\nb,test\n")}) == 3


def test_groups_of_a_file_have_a_digest_of_their_own(tmp_path: Path) -> None:
    texts = [
        "key,split\na,train\nb,test\n",
        "key,split,group\na,train,x\nb,test,\n",
        "group,key,split\ny,a,train\n,b,test\n",
    ]
    files = [read_split_file(str(write(tmp_path, text)), "") for text in texts]
    assert [file and file.groups for file in files] == [None, {"a": "x", "b": ""}, {"a": "y", "b": ""}]
    references = [file.reference for file in files if file is not None]
    assert len({reference.sha256 for reference in references}) == 1
    assert len({reference.groups_sha256 for reference in references}) == 3
    assert references[0].groups_sha256 is None


def test_folds_hold_out_their_videos(tmp_path: Path) -> None:
    found = read_split_file(str(write(tmp_path, "key,fold\na,10\nb,2\nc,1\n")), "")
    assert found is not None
    assert found.folds == ["1", "2", "10"]
    assert found.splits_of("b") == ("all", ("train", "test", "train"))


def test_packed_is_the_split_of_the_index(tmp_path: Path) -> None:
    assert read_split_file("packed", tmp_path) is None
    assert read_packed_splits(tmp_path) is None
    write(tmp_path, "key,split\na,train\n", "packed")
    packed = read_packed_splits(tmp_path)
    assert packed is not None
    assert packed.values == {"a": "train"}
    assert read_split_file("packed", tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,label\na,run\n", "its header must have key and either split or fold, and is 'key,label'"),
        ("key,split,fold\na,train,1\n", "must have key and either split or fold"),
        ("key,split\n,train\n", "line 2: the key is empty"),
        ("key,split\na,train\na,test\n", "line 3: key 'a' is there twice"),
        ("key,fold\na,1\nb,\n", "line 3: the fold of b is empty"),
        ("key,fold\na,1\nb,1\n", "names 1 folds; there must be at least two"),
        ("key,split\na,all\n", "line 2: all is the name of all videos"),
        ("key,split\na,\n", "gives no video a split"),
        ("", "its header must have key"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SplitFileError, match=message) as caught:
        read_split_file("mine", tmp_path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, "key,split\na,train\n")
    with pytest.raises(SplitFileError, match=r"split_file=other: there is no .*other.csv; there are mine; `python"):
        read_split_file("other", tmp_path)
    with pytest.raises(SplitFileError, match=r"split_file=.*absent.csv: there is no such file; correct the path"):
        read_split_file(str(tmp_path / "absent.csv"), tmp_path)
    (tmp_path / "splits" / "latin.csv").write_bytes(b"key,split\n\xe9,train\n")
    with pytest.raises(SplitFileError, match="not a CSV file in UTF-8"):
        read_split_file("latin", tmp_path)
