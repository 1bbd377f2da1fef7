"""Tables that could be a Kinetics list or one of segments: the files that are there decide, and a note says so."""

from pathlib import Path

import pytest

from datamodules.list_formats.read_annotations import read_annotations
from tests.datamodules.annotations.test_readers import touch, write

HEADER = "video_id,start,end,label,split"
OWN = f"{HEADER}\nkitchen,1,3.5,wave,train\nkitchen,2,6,point,train\nstairs,0,4,wave,test\n"
YOUTUBE = f"{HEADER}\n---QUuC4vJs,84,94,testifying,train\n--GkrdYZ9Tc,0,10,washing feet,train\n"
CLIP = "---QUuC4vJs_000084_000094"


@pytest.mark.parametrize(
    ("text", "files", "name", "reason"),
    [
        (OWN, ["day1/kitchen.mp4"], "csv", "1 file there has a name of the list without times: kitchen"),
        (OWN, [], "csv", "no file of either kind is there, and its ids are not of YouTube's form"),
        (OWN.replace(",1,3.5", ".mp4,1,3.5"), [], "csv", "it names files, such as kitchen.mp4"),
        (OWN.replace("video_id", "filename,youtube_id").replace("n,", "n,x,").replace("s,0", "s,x,0"), ["kitchen.avi"],
         "csv", "1 file there has a name of the list without times: kitchen"),
        (YOUTUBE, ["testifying/" + CLIP + ".mp4"], "kinetics", f"the name of a clip with its times: {CLIP}"),
        (YOUTUBE, ["---QUuC4vJs_84.0_94.0.mp4"], "kinetics", "1 file there has the name of a clip with its times"),
        (YOUTUBE, [], "kinetics", "no file of either kind is there, and its ids are of YouTube's form"),
        (YOUTUBE, ["---QUuC4vJs.mp4", "--GkrdYZ9Tc.mp4"], "csv", "2 files there have a name of the list without times"),
        (OWN.replace("start,end", "time_start,time_end"), ["kitchen.mp4"], "csv", "1 file there has a name"),
    ],
)  # fmt: skip
def test_the_files_decide(tmp_path: Path, text: str, files: list[str], name: str, reason: str) -> None:
    listed = write(tmp_path / "list.csv", text)
    touch(tmp_path / "videos", "other.mp4", *files)
    found = read_annotations("auto", listed, tmp_path / "videos")
    note, *notes = found.notes
    other = "kinetics" if name == "csv" else "csv"
    assert reason in note
    assert f"; --format {other} reads it as " in note
    assert all(record.exact_times == (name == "csv") for record in found.records)
    chosen = read_annotations(name, listed, tmp_path / "videos")
    assert (found.records, notes) == (chosen.records, list(chosen.notes))


@pytest.mark.parametrize("header", ["path,start,end,label,split", "label,youtube_id,time_start,time_end,split"])
def test_tables_of_one_form_need_no_decision(tmp_path: Path, header: str) -> None:
    values = "a.mp4,1,3,wave,train" if header.startswith("path") else "wave,aaaaaaaaaaa,1,3,train"
    listed = write(tmp_path / "list.csv", f"{header}\n{values}\n")
    assert not read_annotations("auto", listed, tmp_path).notes
