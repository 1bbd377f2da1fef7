"""Lists and folders without labels: their videos, splits and keys; and labels that are missing by mistake."""

import numpy as np
import pytest
from PIL import Image

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.read_annotations import read_annotations
from tests.pipeline.gray_videos import make_video


def write_list(folder, text):
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


def test_a_list_without_labels_is_one_split(tmp_path):
    listed = read_csv(write_list(tmp_path, "path,notes\na.mp4,x\nb/c.mp4,\n"))
    assert [(record.key, record.label, record.class_names, record.split) for record in listed.records] == [
        ("a", "", (), "all"),
        ("b_c", "", (), "all"),
    ]
    assert listed.task == "single_label"
    assert any("no column label" in note for note in listed.notes)


def test_its_own_splits_folds_and_segments_count(tmp_path):
    split = read_csv(write_list(tmp_path, "path,split,start,end\na.mp4,train,0,1\na.mp4,train,1,2\nb.mp4,test,,\n"))
    assert [record.split for record in split.records] == ["train", "train", "test"]
    assert len({record.key for record in split.records}) == 3
    folds = read_csv(write_list(tmp_path, "path,fold\na.mp4,1\nb.mp4,2\n"))
    assert folds.folds == ("1", "2")
    assert {record.label for record in folds.records} == {""}
    given = read_csv(write_list(tmp_path, "path\na.mp4\n"), split="train")
    assert given.records[0].split == "train"


@pytest.mark.parametrize("name", ["lable", "Klass", "class_id"])
def test_a_misspelled_label_is_no_missing_one(tmp_path, name):
    with pytest.raises(AnnotationError, match="no column 'label'"):
        read_csv(write_list(tmp_path, f"path,{name},split\na.mp4,run,train\n"))


def test_an_empty_label_beside_others_is_an_error_with_its_line(tmp_path):
    with pytest.raises(AnnotationError, match=r"line 3: label='': is empty; give every video a label, or remove"):
        read_csv(write_list(tmp_path, "path,label,split\na.mp4,run,train\nb.mp4,,train\n"))
    with pytest.raises(AnnotationError, match="no column 'label'"):
        read_csv(write_list(tmp_path, "path,split\na.mp4,train\n"), multi_label=True)


def test_a_folder_of_files(tmp_path):
    for name in ("b.mp4", "deep/er/a b.mp4", "deep/v_Jump_g03_c02.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(make_video(3))
    (tmp_path / "notes.txt").write_text("none")
    listed = read_annotations("files", videos=tmp_path)
    assert [(record.key, record.group) for record in listed.records] == [
        ("b", "b"),
        ("deep_er_a_b", "deep_er_a_b"),
        ("deep_v_Jump_g03_c02", "Jump_g03"),
    ]
    assert {(record.label, record.split) for record in listed.records} == {("", "all")}
    assert any("notes.txt" in note for note in listed.notes)
    assert {record.split for record in read_annotations("files", videos=tmp_path, split="train").records} == {"train"}


def test_a_folder_of_folders_of_images(tmp_path):
    for name in ("one", "below/two"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(AnnotationError, match="has no video"):
        read_annotations("files", videos=tmp_path)
    listed = read_annotations("files", videos=tmp_path, options=ListOptions(frames_per_second=12))
    assert [(record.key, record.frames_per_second) for record in listed.records] == [("below_two", 12), ("one", 12)]
