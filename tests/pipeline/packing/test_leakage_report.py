"""The split guard at the end of packing: a warning with counts and a list; with --strict no dataset."""

import csv
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import encode_frames
from pipeline.__main__ import main
from tests.datamodules.leakage.test_split_leakage import moving_texture


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos: 0 and its mirror image, 1 and its copy, 2 and 3 of one group, each pair on both sides of a split."""
    root = tmp_path_factory.mktemp("leaky")
    textures = {number: moving_texture(number, 40) for number in range(4)}
    for number, frames in textures.items():
        (root / f"{number}.mp4").write_bytes(encode_frames(frames, 10.0))
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in textures[0]]
    (root / "mirrored.mp4").write_bytes(encode_frames(mirrored, 10.0, crf=32))
    (root / "copy.mp4").write_bytes((root / "1.mp4").read_bytes())
    lines = ["0,train,a", "1,train,b", "2,train,c", "3,test,c", "mirrored,test,d", "copy,test,e"]
    rows = [f"{name}.mp4,x,{split},{group}" for name, split, group in (line.split(",") for line in lines)]
    (root / "list.csv").write_text("\n".join(["path,label,split,group", *rows]))
    (root / "clean.csv").write_text("\n".join(["path,label,split,group", *rows[:3], "3.mp4,x,test,other"]))
    return root


def words(leaky: Path, out: Path, *more: str, listed: str = "list.csv") -> list[str]:
    return ["pack", "--annotations", str(leaky / listed), "--out", str(out), "--processes", "1", *more]


def leaks(out: Path) -> list[dict[str, str]]:
    with (out / "split_guard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_on_both_sides_is_listed_and_counted(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(leaky, tmp_path / "out")) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert "1 whose group is on both sides of a split, 1 stored twice, on both sides of a split, 1 pairs" in warning
    assert f"{tmp_path / 'out' / 'split_guard.csv'} lists them" in warning
    found = leaks(tmp_path / "out")
    assert [(leak["kind"], leak["first"], leak["second"]) for leak in found] == [
        ("bytes", "1", "copy"),
        ("content", "0", "mirrored"),
        ("group", "2", "3"),
    ]
    assert found[1]["detail"].startswith("mirrored, ")
    index = DatasetIndex.open(tmp_path / "out")
    assert {len(hashes) for hashes in index.column("frame_hashes", index.rows("all"))} == {32}


@pytest.mark.parametrize("more", [(), ("--copy", "true")])
def test_strict_makes_no_dataset(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    assert main(words(leaky, out, "--strict", "true", *more)) != 0
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: out={out}: no dataset was made, the split guard found 1 whose group")
    assert not (out / "dataset.json").exists()
    assert len(leaks(out)) == 3
    assert main(words(leaky, out, *more)) == 0  # the shards are there; without --strict it is a dataset
    assert len(DatasetIndex.open(out)) == 6
    capsys.readouterr()
    assert main(words(leaky, out, "--strict", "true", *more)) != 0
    assert "the dataset of an earlier run stays as it is, but the split guard found" in capsys.readouterr().err
    assert len(DatasetIndex.open(out)) == 6


def test_a_clean_split_passes_strict(leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(leaky, tmp_path / "out", "--strict", "true", listed="clean.csv")) == 0
    assert "warning" not in capsys.readouterr().err
    assert leaks(tmp_path / "out") == []
