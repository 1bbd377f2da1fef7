"""Packing of videos without a split: divided by class, group and content; resumed, indexed anew, in renditions."""

import csv
import shutil
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import encode_frames
from datamodules.splits.split_file import read_packed_splits
from pipeline.dataset_tools.index import index
from pipeline.dataset_tools.verify import verify
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.datamodules.leakage.test_split_leakage import moving_texture

PEOPLE = 5
SHARES = "train=0.6,val=0.2,test=0.2"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five people's clips, one each, and a copy of one clip at another quality under another name."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(2 * PEOPLE):
        path = folder / ("run", "walk")[number % 2] / f"p{number // 2}_{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_frames(moving_texture(number, 12), fps=10.0))
    (folder / "run" / "copy.mp4").write_bytes(encode_frames(moving_texture(4, 12), fps=10.0, crf=30))
    return folder


@pytest.fixture(scope="module")
def divided(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips packed with a division by people, in two shards and two sizes. Read-only."""
    folder = tmp_path_factory.mktemp("divided") / "shards"
    with (folder.parent / "printed.txt").open("w") as file, redirect_stdout(file):
        pack(options(clips, folder))
    return folder


def options(clips: Path, out: Path, **more: object) -> PackOptions:
    division = {"split": SHARES, "group_by": r"p\d", "videos_per_shard": 6, "short_side": [48, 32]} | more
    return PackOptions(out, None, clips, processes=1, **division)  # type: ignore[arg-type]


def splits_of(folder: Path) -> dict[str, str]:
    found = DatasetIndex.open(folder)
    return {found.entry(row).key: found.entry(row).split for row in range(len(found))}


def test_people_are_not_divided_and_classes_are_even(divided: Path) -> None:
    splits = splits_of(divided)
    people = {key: key.split("_")[1] for key in splits if key != "run_copy"}
    assert len({(person, splits[key]) for key, person in people.items()}) == PEOPLE
    assert splits["run_copy"] == splits["run_p2_4"]  # by its frames, although its name says nothing
    found = DatasetIndex.open(divided)
    assert {split: of.classes for split, of in found.manifest.splits.items()} == {
        "test": {"run": 1, "walk": 1},
        "train": {"run": 4, "walk": 3},
        "val": {"run": 1, "walk": 1},
    }
    assert found.entry(int(found.rows_of(["walk_p0_1"])[0])).group == "p0"
    assert {shard.split for shard in found.manifest.shards} == {"all"}
    packed = read_packed_splits(divided)
    assert packed is not None
    assert packed.values == splits
    assert (divided / "split_guard.csv").read_text().count("\n") == 1  # the header alone


def test_renditions_have_the_same_splits_and_all_is_well(divided: Path) -> None:
    assert splits_of(divided / "short32") == splits_of(divided)
    verify(str(divided), full=True, processes=1)


def test_the_same_command_again_changes_nothing(divided: Path, clips: Path, tmp_path: Path) -> None:
    here = shutil.copytree(divided, tmp_path / "shards")
    (here / "dataset.json").unlink()
    shutil.rmtree(here / "splits")
    (here / "shards-all-000001.tar").unlink()
    pack(options(clips, here))
    for name in ("dataset.json", "index.parquet", "splits/packed.csv", "splits/packed.json", "short32/index.parquet"):
        assert (here / name).read_bytes() == (divided / name).read_bytes()
    with pytest.raises(
        PackError, match=r"was divided otherwise \(split train=0.6,val=0.2,test=0.2, seed 0, group_by p"
    ):
        pack(options(clips, here, split="train=0.8,test=0.2"))


def test_the_index_is_made_anew_from_tars_and_packed_splits(
    divided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = shutil.copytree(divided, tmp_path / "shards", ignore=shutil.ignore_patterns(".parts", ".mapped-*"))
    before = DatasetIndex.open(here).identity
    for name in ("index.parquet", "dataset.json"):
        (here / name).unlink()
    index([str(here)])
    assert "splits from" in capsys.readouterr().out
    assert DatasetIndex.open(here).identity == before
    index([str(here)], out=tmp_path / "linked")
    assert DatasetIndex.open(tmp_path / "linked").identity == before
    verify(str(tmp_path / "linked"))
    shutil.rmtree(here / "splits")
    index([str(here)])
    assert "no video has a split: `python -m pipeline split" in capsys.readouterr().out
    assert set(splits_of(here).values()) == {"all"}
    (here / "splits").mkdir()
    (here / "splits" / "packed.csv").write_text("key,split\nrun_copy,train\n")
    with pytest.raises(ValueError, match=r"packed.csv: 10 videos of the tars are not in it, first"):
        index([str(here)])


def test_verify_finds_splits_that_do_not_fit(divided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = shutil.copytree(divided, tmp_path / "shards")
    path = here / "splits" / "packed.csv"
    lines = list(csv.reader(path.open()))
    lines[1][1] = "val" if lines[1][1] != "val" else "test"
    path.write_text("\n".join(",".join(line) for line in lines))
    (here / "splits" / "mine.csv").write_text("key,split\nrun_copy,train\n")
    with pytest.raises(ValueError, match="2 things are wrong"):
        verify(str(here))
    printed = capsys.readouterr().out
    assert f"splits/packed.csv: 1 videos have another split in index.parquet: {lines[1][0]}" in printed
    assert "splits/mine.csv: 10 of the 11 videos of shards are not in" in printed


def test_folds_hold_out_every_person_once(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(options(clips, tmp_path / "shards", split=None, folds=5, short_side=32))
    found = DatasetIndex.open(tmp_path / "shards")
    assert found.folds == ["0", "1", "2", "3", "4"]
    held_out = Counter(int(row) for fold in found.folds for row in found.rows("test", fold))
    assert held_out == Counter(range(len(found)))
    assert all(
        counts["test"].classes["walk"] == 1 and counts["train"].classes["walk"] == 4
        for counts in found.manifest.fold_counts.values()
    )
    assert "fold 0" in capsys.readouterr().out
    verify(str(tmp_path / "shards"), full=True, processes=1)


def test_the_closing_table_has_classes_splits_and_groups(divided: Path) -> None:
    printed = (divided.parent / "printed.txt").read_text().splitlines()
    cells = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in printed if line.startswith("│")}
    assert [cell.strip() for cell in cells["run"]] == ["4", "1", "1", "6", "5"]
    assert [cell.strip() for cell in cells["walk"]] == ["3", "1", "1", "5", "5"]
    assert [cell.strip() for cell in cells["groups"]] == ["3", "1", "1", "5", ""]
    assert "2 groups show the same as others and are kept together with them" in printed


def test_what_describes_no_division_is_refused(clips: Path, tmp_path: Path) -> None:
    for more, message in [
        ({"split": "train=0.8,test=0.1"}, "the shares sum to 0.9; they must sum to 1"),
        ({"split": "train=0.8,test"}, "'test' is not a name with a share between 0 and 1"),
        ({"split": "train=0.8,train=0.2"}, "train is there twice"),
        ({"split": "all=0.8,test=0.2"}, "all is the name of all videos"),
        ({"folds": 5}, "give one of the two"),
        ({"split": None, "folds": 1}, "folds=1: must be at least 2"),
        ({"group_by": "(p"}, "is not a regular expression"),
    ]:
        with pytest.raises(ValueError, match=message):
            options(clips, tmp_path / "shards", **more)
    with pytest.raises(ValueError, match=r"group_by='person': matches no path, such as 'run/copy.mp4'"):
        pack(options(clips, tmp_path / "shards", group_by="person"))
    rows = "".join(f"run/p{number // 2}_{number}.mp4,run,p{number // 2}\n" for number in (0, 2, 4))
    (tmp_path / "list.csv").write_text(f"path,label,group\n{rows}")
    with pytest.raises(PackError, match=r"group_by=.p\\\\d.: the list has a column group, which it would replace"):
        pack(replace(options(clips, tmp_path / "shards"), annotations=[tmp_path / "list.csv"]))
    assert not (tmp_path / "shards").exists()


def test_more_folds_than_groups_are_refused_and_the_shards_kept(divided: Path, clips: Path, tmp_path: Path) -> None:
    here = shutil.copytree(divided, tmp_path / "shards")
    (here / "dataset.json").unlink()
    with pytest.raises(ValueError, match="6 folds need as many groups, and the 11 videos are of 5: give fewer folds"):
        pack(options(clips, here, split=None, folds=6))
    assert not (here / "dataset.json").exists()
    pack(options(clips, here, split=None, folds=2))
    assert DatasetIndex.open(here).folds == ["0", "1"]
