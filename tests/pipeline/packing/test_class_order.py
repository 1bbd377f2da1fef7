"""Which number each class gets: the same by `pack` and by `index`, and a checkpoint's where that is asked for."""

import shlex
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.dataset_tools.index import index
from pipeline.packing.class_order import order_classes, sort_labels
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.pipeline.gray_videos import make_video


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "0", "100", "9"], ["0", "9", "10", "100"]),
        (["-1", "10", "0"], ["-1", "0", "10"]),
        (["10", "9", "run"], ["10", "9", "run"]),
        (["07", "10", "7"], ["07", "7", "10"]),
        (["3.0", "10"], ["10", "3.0"]),
        (["²", "10", "9"], ["10", "9", "²"]),
        ([], []),
    ],
)
def test_order_of_labels_by_hand(labels, expected):
    assert sort_labels(labels) == order_classes(labels, (), None) == expected


@given(st.sets(st.integers(-1000, 1000)))
def test_whole_numbers_are_in_the_order_of_their_values(numbers):
    assert sort_labels(map(str, numbers)) == [str(number) for number in sorted(numbers)]


def test_pack_and_index_number_alike(tmp_path: Path, capsys) -> None:
    """Twelve videos of the labels 0 to 11: of label n class n, by the list and by the tars alone."""
    lines = ["path,label,split"]
    for number in range(12):
        (tmp_path / f"{number}.mp4").write_bytes(make_video(number, 8))
        lines.append(f"{number}.mp4,{number},train")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    pack(PackOptions(tmp_path / "shards", [tmp_path / "list.csv"], tmp_path, processes=1))
    assert "videos a class in train: 0 1, 1 1, 2 1, 3 1, " in capsys.readouterr().out
    (tmp_path / "alone").mkdir()
    for tar in (tmp_path / "shards").glob("*.tar"):
        shutil.copy(tar, tmp_path / "alone")
    index([str(tmp_path / "alone")], processes=1)
    for folder in ("shards", "alone"):
        dataset = DatasetIndex.open(tmp_path / folder)
        assert dataset.classes == [str(number) for number in range(12)]
        entries = [dataset.entry(row) for row in range(len(dataset))]
        assert {Path(entry.source).stem: entry.label for entry in entries} == {str(n): n for n in range(12)}


def two_of_eight(folder: Path) -> Path:
    """A dataset of two test videos, of two of the classes that `motion_checkpoint` has."""
    for number in range(2):
        (folder / f"{number}.mp4").write_bytes(make_video(number, 24))
    (folder / "list.csv").write_text("path,label,split\n0.mp4,moving up,test\n1.mp4,growing,test")
    pack(PackOptions(folder / "shards", [folder / "list.csv"], folder, processes=1))
    return folder / "shards"


def test_some_of_a_checkpoint_s_classes_are_evaluated_as_the_error_says(
    motion_checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = two_of_eight(tmp_path)
    words = [
        "evaluate",
        "--checkpoint",
        str(motion_checkpoint),
        "--data",
        str(data),
        "--num_clips",
        "1",
        "--out",
        "out",
    ]
    words += ["--num_workers", "0"]
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "only checkpoint " in line
    assert "'moving down', 'moving left', 'moving right' and 3 more; number them as the checkpoint does" in line
    first, second = line.partition("without packing again: ")[2].split(" && ")
    assert second == f"python -m pipeline index {data} --classes classes.txt"
    command = first.removesuffix(" > classes.txt")
    assert command == f"python -m pipeline weights classes {motion_checkpoint}"
    assert main(shlex.split(command)[3:]) == 0
    (tmp_path / "classes.txt").write_text(capsys.readouterr().out)
    assert main(shlex.split(second)[3:]) == 0
    dataset = DatasetIndex.open(data)
    assert len(dataset.classes) == 8
    assert {dataset.classes[dataset.entry(row).label] for row in range(2)} == {"moving up", "growing"}
    assert main(words) == 0
    assert (tmp_path / "out" / "report.json").is_file()


def test_classes_of_published_weights_are_told_without_getting_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["weights", "classes", "i3d-kinetics400-rgb"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert (len(told), told[0], told[-1]) == (400, "abseiling", "zumba")
    assert list(tmp_path.iterdir()) == []
    for name, message in (("c3d-sports1m", "does not name its classes"), ("absent.pt", "no such file")):
        assert main(["weights", "classes", name]) == 2
        assert message in capsys.readouterr().err
