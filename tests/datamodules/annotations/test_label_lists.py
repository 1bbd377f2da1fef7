"""Lists of several labels a video: a column of lists in any form, or a row for each label."""

import pandas as pd
import pytest

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.tables import AnnotationError
from datamodules.list_formats.read_annotations import read_annotations


def write(folder, *lines, name="list.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def labels(listed):
    return {record.path.rpartition("/")[2]: record.labels for record in listed.records}


def test_a_column_of_lists_in_json_in_pandas_form_or_with_semicolons(tmp_path):
    listed = read_csv(
        write(
            tmp_path,
            "path,labels,split",
            'a.mp4,"[""run"", ""a; b, c""]",train',
            "b.mp4,\"['run', 'jump']\",train",
            "c.mp4,jump; run ;jump,test",
            "d.mp4,,test",
            "e.mp4,[],test",
            'f.mp4,"[3, 10]",test',
        )
    )
    assert listed.task == "multi_label"
    assert labels(listed) == {
        "a.mp4": ("run", "a; b, c"), "b.mp4": ("run", "jump"), "c.mp4": ("jump", "run"), "d.mp4": (), "e.mp4": (),
        "f.mp4": ("3", "10"),
    }  # fmt: skip
    assert all(record.label == "" for record in listed.records)
    assert listed.records[0].class_names == ("run", "a; b, c")


def test_parquet_has_lists_and_tabs_separate_too(tmp_path):
    frame = pd.DataFrame({"path": ["a.mp4", "b.mp4"], "tags": [["run", "jump"], []], "split": ["train", "test"]})
    frame.to_parquet(tmp_path / "list.parquet")
    assert labels(read_csv(tmp_path / "list.parquet")) == {"a.mp4": ("run", "jump"), "b.mp4": ()}
    tabs = write(tmp_path, "path\tlabels\tsplit", "a.mp4\trun;jump\ttrain", name="list.tsv")
    assert labels(read_csv(tabs)) == {"a.mp4": ("run", "jump")}


def test_rows_of_a_video_are_united_where_that_is_said(tmp_path):
    lines = ["path,label,split", "a.mp4,run,train", "b.mp4,jump,test", "a.mp4,jump,train", "./a.mp4,run,train"]
    path = write(tmp_path, *lines)
    with pytest.raises(AnnotationError, match=r"line 4: path .*a.mp4' is already .* line 2.*--multi-label"):
        read_annotations("auto", path)
    listed = read_annotations("auto", path, options=ListOptions(multi_label=True))
    assert listed.task == "multi_label"
    assert labels(listed) == {"a.mp4": ("run", "jump"), "b.mp4": ("jump",)}
    assert [record.key for record in listed.records] == ["a", "b"]
    assert read_csv(write(tmp_path, "path,labels,split", "a.mp4,x;y,train", "a.mp4,z,train"), multi_label=True).records[
        0
    ].labels == ("x", "y", "z")


def test_one_label_each_is_noted_and_one_row_each_is_not_multi_label(tmp_path):
    listed = read_csv(write(tmp_path, "path,labels,split", "a.mp4,run,train"))
    assert listed.task == "multi_label"
    assert any("call the column label" in note for note in listed.notes)
    assert read_csv(write(tmp_path, "path,label,split", "a.mp4,run,train")).task == "single_label"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path,labels,split", 'a.mp4,"[[1]]",train'],
            r"line 2: labels='\[\[1\]\]': must be a JSON list of class names",
        ),
        (["path,labels,split", 'a.mp4,"[run, jump]",train'], "must be a JSON list of class names"),
        (
            ["path,labels,split", 'a.mp4,"[""run"", jump",train'],
            r"line 2: labels=.* must be a JSON list of class names",
        ),
        (
            ["path,labels,label,split", "a.mp4,x,y,train"],
            "besides a column label; keep only one",
        ),
        (
            ["path,label,split", "a.mp4,x,train", "a.mp4,y,test"],
            r"line 3: split='test': the same video has 'train' in ",
        ),
    ],
)
def test_what_is_no_list_of_labels_is_refused_in_one_line(tmp_path, lines, message):
    with pytest.raises(AnnotationError, match=message):
        read_csv(write(tmp_path, *lines), multi_label=True)


def test_other_formats_have_no_rows_to_unite(tmp_path):
    kinetics = write(tmp_path, "label,youtube_id,time_start,time_end,split", f"run,{'a' * 11},0,10,train")
    with pytest.raises(AnnotationError, match=r"multi_label=True: format kinetics has no such option .*csv"):
        read_annotations("auto", kinetics, options=ListOptions(multi_label=True))
