"""Captions on their way: list or tar, json of the shard, index, batch."""

import json
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.records import as_captions
from datamodules.annotations.tables import AnnotationError
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import FORMAT_VERSION, read_manifest
from pipeline.dataset_tools.index import index
from pipeline.dataset_tools.verify import verify
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.pipeline.dataset_tools.test_index import video2dataset_sample, write_tar
from tests.pipeline.gray_videos import make_video

TOLD = {
    "walk_0": ["a man walks", "somebody  is walking"],
    "run_1": ["a dog, running"],
    "walk_2": [],
    "run_3": ["the end"],
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos packed from a CSV list: one with two captions, two with one, one with none. Read-only."""
    folder = tmp_path_factory.mktemp("told")
    lines = ["path,label,split,caption"]
    for number, (key, captions) in enumerate(TOLD.items()):
        (folder / f"{key}.mp4").write_bytes(make_video(number))
        cell = json.dumps(captions) if len(captions) > 1 else "".join(captions)
        lines.append(f'{key}.mp4,{key.partition("_")[0]},{"val" if number == 3 else "train"},"{_quoted(cell)}"')
    (folder / "list.csv").write_text("\n".join(lines))
    pack(PackOptions(folder / "shards", [folder / "list.csv"], folder, processes=1))
    return folder / "shards"


def _quoted(cell: str) -> str:
    return cell.replace('"', '""')


def test_blanks_are_made_single_and_what_is_no_text_is_no_caption() -> None:
    assert as_captions(" a\n b ") == ("a b",)
    assert as_captions(["a", " ", 3, "b"]) == ("a", "b")
    assert as_captions(None) == as_captions({"a": "b"}) == ()


def test_packing_keeps_captions_in_json_and_index(told: Path) -> None:
    jsons = {}
    for path in told.glob("*.tar"):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".json"):
                    jsons[name.removesuffix(".json")] = json.load(tar.extractfile(name)).get("caption")
    assert jsons["walk_0"] == ["a man walks", "somebody is walking"]
    assert jsons["run_1"] == "a dog, running"
    assert jsons["walk_2"] is None
    opened = DatasetIndex.open(told)
    rows = {opened.entry(row).key: row for row in range(len(opened))}
    for described in (opened, pickle.loads(pickle.dumps(opened))):
        assert described.captions(rows["walk_0"]) == ["a man walks", "somebody is walking"]
        assert described.captions(rows["walk_2"]) == ["walk"]  # the name of its class
    assert opened.column("captions", [rows["walk_2"], rows["run_1"]]) == [[], ["a dog, running"]]
    assert read_manifest(told).format_version == FORMAT_VERSION
    verify(told, full=True)


def test_a_wrong_caption_is_a_finding(told: Path, tmp_path: Path) -> None:
    for path in told.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(tmp_path / "index.parquet")
    others = pa.array([["something else"]] * len(table), table.schema.field("captions").type)
    pq.write_table(table.set_column(len(table.schema) - 1, "captions", others), tmp_path / "index.parquet")
    with pytest.raises(ValueError, match="4 things are wrong"):
        verify(tmp_path, full=True)


def test_tars_alone_give_the_captions_back(told: Path, tmp_path: Path) -> None:
    index([str(told)], out=tmp_path / "again")
    again, packed = pq.read_table(tmp_path / "again" / "index.parquet"), pq.read_table(told / "index.parquet")
    assert again.column("captions").to_pylist() == packed.column("captions").to_pylist()


def test_without_captions_everything_is_as_it_was(motion_dataset: Path) -> None:
    opened = DatasetIndex.open(motion_dataset)
    assert read_manifest(motion_dataset).format_version == FORMAT_VERSION
    assert "captions" not in pq.read_schema(motion_dataset / "index.parquet").names
    assert opened.captions(0) == [opened.classes[opened.entry(0).label]]
    assert opened.column("captions", [0, 1]) == [[], []]


def test_video2dataset_tars_keep_json_captions_or_else_the_txt(tmp_path: Path) -> None:
    samples = {f"{number:08d}": video2dataset_sample(number, "walk") for number in range(3)}
    about = json.loads(samples["00000001"]["json"])
    samples["00000001"]["json"] = json.dumps(about | {"caption": None}).encode()
    samples["00000001"]["txt"] = b"from the txt"
    del samples["00000002"]["txt"]
    write_tar(tmp_path / "them-train.tar", samples)
    index([str(tmp_path)], label_from="json:video_metadata.label")
    opened = DatasetIndex.open(tmp_path)
    assert opened.column("captions", [0, 1, 2]) == [["a man"], ["from the txt"], ["a man"]]


def test_what_is_the_label_is_no_caption_too(tmp_path: Path) -> None:
    write_tar(tmp_path / "them-train.tar", {"00000000": video2dataset_sample(0, "walk")})
    index([str(tmp_path)], label_from="json:caption")
    assert not DatasetIndex.open(tmp_path).has_captions


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_carry_captions_where_they_are_asked_for(told: Path, num_workers: int) -> None:
    settings = {"batch_size": 3, "num_frames": 4, "crop_size": 16, "num_workers": num_workers, "test_split": "val"}
    data = ShardedVideoDataModule(str(told), captions=True, **settings)
    [batch] = data.train_dataloader()
    wanted = {"walk_0": ["a man walks", "somebody is walking"], "run_1": ["a dog, running"], "walk_2": ["walk"]}
    assert dict(zip(batch.keys, batch.captions, strict=True)) == wanted
    assert batch.videos_of_clips == batch.video_index.tolist() == [0, 1, 2]
    [tested] = data.test_dataloader()
    assert tested.captions == [["the end"]]
    assert tested.videos_of_clips is None  # only training needs them on the host
    moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert data.on_after_batch_transfer(moved, 0).captions == batch.captions
    [without] = ShardedVideoDataModule(str(told), **settings).test_dataloader()
    assert without.captions is None


def test_captions_survive_pinning(told: Path) -> None:
    """What the loader does to every batch where there is a GPU: it rebuilds the named tuple member by member."""
    from torch.utils.data._utils.pin_memory import pin_memory

    data = ShardedVideoDataModule(str(told), captions=True, num_frames=4, crop_size=16, num_workers=0)
    [batch] = data.train_dataloader()
    if torch.cuda.is_available():
        assert pin_memory(batch).captions == batch.captions
    else:
        assert pin_memory(batch.captions) == batch.captions


def test_the_words_of_training_are_those_of_the_training_split(told: Path, motion_dataset: Path) -> None:
    wanted = ["a dog, running", "a man walks", "somebody is walking", "walk"]
    assert sorted(ShardedVideoDataModule(str(told)).training_captions) == wanted
    plain = ShardedVideoDataModule(str(motion_dataset))
    assert set(plain.training_captions) == set(plain.class_names)


def test_parquet_lists_take_a_column_of_lists(tmp_path: Path) -> None:
    columns = {"path": ["a.mp4", "b.mp4"], "label": ["x", "x"], "split": ["train"] * 2}
    pq.write_table(pa.table(columns | {"caption": [["one", "two"], None]}), tmp_path / "list.parquet")
    assert [record.captions for record in read_csv(tmp_path / "list.parquet").records] == [("one", "two"), ()]


def test_a_list_of_other_things_than_strings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('path,label,split,caption\na.mp4,x,train,"[1, 2]"\n')
    with pytest.raises(AnnotationError, match="line 2: caption='\\[1, 2\\]': must be one sentence"):
        read_csv(tmp_path / "list.csv")
