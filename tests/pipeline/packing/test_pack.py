"""Packing real small videos: what is kept, what is refused, and the same bytes for any number of processes."""

import hashlib
import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.annotations.records import VideoRecord
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import SplitCounts
from datamodules.encoding.transcoding import EncodeProfile
from datamodules.video.decoding import decode_frames
from pipeline.__main__ import main
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from pipeline.packing.shard_builder import run_part
from pipeline.packing.shard_plan import PackSettings, ShardPart, order_records, plan_parts
from tests.pipeline.gray_videos import (
    NUM_VIDEOS,
    command,
    digests,
    reasons,
    split_of,
    write_list,
)


def test_every_video_arrives_with_its_label_and_frames(originals: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "out", [originals / "list.csv"], name="gray", videos_per_shard=5))
    index = DatasetIndex.open(tmp_path / "out")
    assert (index.name, index.classes, index.folds, len(index)) == ("gray", ["run", "walk"], [], NUM_VIDEOS)
    assert [shard.name for shard in index.manifest.shards] == [
        "gray-test-000000.tar",
        "gray-train-000000.tar",
        "gray-train-000001.tar",
    ]
    for row in range(NUM_VIDEOS):
        entry = index.entry(row)
        number = int(entry.source.split("/")[1].removesuffix(".mp4"))
        assert (index.classes[entry.label], entry.split) == (("walk", "run")[number % 2], split_of(number))
        assert (entry.key, entry.group) == (entry.source.replace("/", "_").removesuffix(".mp4"), f"g{number % 3}")
        assert (entry.num_frames, entry.fps, entry.width, entry.height) == (10, 10.0, 48, 32)
        video = index.read_video(row)
        assert hashlib.sha256(video).hexdigest() == entry.content_sha256
        frames = decode_frames(video, range(10))
        assert np.abs(frames.astype(int) - 20 * number).max() <= 3
    assert reasons(tmp_path / "out") == {}
    assert index.rows("test").tolist() == [0, 1, 2, 3]


def test_webdataset_reads_what_was_packed(originals: Path, tmp_path: Path) -> None:
    import webdataset

    pack(PackOptions(tmp_path / "out", [originals / "list.csv"], videos_per_shard=5))
    index = DatasetIndex.open(tmp_path / "out")
    ours = {index.entry(row).key: index.read_video(row) for row in range(len(index))}
    tars = [str(tmp_path / "out" / shard.name) for shard in index.manifest.shards]
    assert {sample["__key__"]: sample["mp4"] for sample in webdataset.WebDataset(tars, shardshuffle=False)} == ours


def test_the_same_bytes_for_any_number_of_processes_and_order_of_the_list(originals: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "a" / "d", [originals / "list.csv"], videos_per_shard=3, processes=1))
    backwards = write_list(tmp_path / "backwards.csv", list(reversed(range(NUM_VIDEOS))))
    pack(PackOptions(tmp_path / "b" / "d", [backwards], originals, videos_per_shard=3, processes=2))
    assert digests(tmp_path / "a" / "d") == digests(tmp_path / "b" / "d")
    pack(PackOptions(tmp_path / "c" / "d", [originals / "list.csv"], videos_per_shard=3, seed=1))
    assert digests(tmp_path / "a" / "d") != digests(tmp_path / "c" / "d")
    identities = {DatasetIndex.open(tmp_path / name / "d").identity for name in "ac"}
    assert len(identities) == 1


def test_plan_puts_every_video_into_one_shard() -> None:
    records = [VideoRecord(f"{i}.mp4", f"k{i}", "a", "train" if i % 4 else "val", "g") for i in range(103)]
    cut = {"train": [19, 19, 19, 20], "val": [13, 13]}
    parts = plan_parts(order_records(records), "d", cut)
    assert [(part.shard, len(part.records)) for part in parts] == [
        ("d-train-000000.tar", 19),
        ("d-train-000001.tar", 19),
        ("d-train-000002.tar", 19),
        ("d-train-000003.tar", 20),
        ("d-val-000000.tar", 13),
        ("d-val-000001.tar", 13),
    ]
    placed = [record for part in parts for record in part.records]
    assert sorted(record.key for record in placed) == sorted(record.key for record in records)
    assert plan_parts(order_records(records[::-1]), "d", cut) == parts
    assert plan_parts(order_records(records, seed=1), "d", cut) != parts
    first = [int(record.key[1:]) for record in parts[0].records]
    assert max(first) - min(first) > 40  # neighbours in the list, of one class or source, are scattered


def test_sources_do_not_depend_on_how_the_folder_is_spelled(originals: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "out", [originals / "list.csv"], originals / "walk" / "..", copy=True))
    index = DatasetIndex.open(tmp_path / "out")
    assert {index.entry(row).source.split("/")[0] for row in range(len(index))} == {"run", "walk"}


def test_copy_keeps_the_original_bytes(originals: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "out", [originals / "list.csv"], copy=True))
    index = DatasetIndex.open(tmp_path / "out")
    for row in range(len(index)):
        assert index.read_video(row) == (originals / index.entry(row).source).read_bytes()
    assert index.manifest.encode == {"copy": True, "min_frames": 1}


def test_what_is_said_of_the_encoding_is_done_and_recorded(originals: Path, tmp_path: Path) -> None:
    pack(PackOptions(tmp_path / "out", [originals / "list.csv"], crf=40, key_frame_interval=4, fast_decode=False))
    index = DatasetIndex.open(tmp_path / "out")
    asked = {"crf": 40, "key_frame_interval": 4, "fast_decode": False}
    assert {name: index.manifest.encode[name] for name in asked} == asked
    data = index.read_video(0)
    assert all(setting in data for setting in (b"crf=40", b"cabac=1"))  # x264 writes its settings into the file
    with av.open(io.BytesIO(data)) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys == [number % 4 == 0 for number in range(len(keys))]


def test_folds(originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "folds.csv").open("w") as file:
        file.write("path,label,group,fold\n")
        for number in range(NUM_VIDEOS):
            label = ("walk", "run")[number % 2]
            file.write(f"{label}/{number}.mp4,{label},g{number % 3},{number % 3 + 1}\n")
    pack(PackOptions(tmp_path / "out", [tmp_path / "folds.csv"], originals, name="f"))
    index = DatasetIndex.open(tmp_path / "out")
    assert index.folds == ["1", "2", "3"]
    assert [shard.name for shard in index.manifest.shards] == ["f-all-000000.tar"]
    for fold in (1, 2, 3):
        test, train = set(index.rows("test", fold)), set(index.rows("train", fold))
        assert set(index.column("group", sorted(test))) == {f"g{fold - 1}"}
        assert (len(test), len(train), test & train) == (4, 8, set())
    assert index.manifest.fold_counts["2"] == {
        "test": SplitCounts(4, {"run": 2, "walk": 2}),
        "train": SplitCounts(8, {"run": 4, "walk": 4}),
    }
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["fold_counts"].keys() == {"1", "2", "3"}
    printed = capsys.readouterr().out
    assert "fold 3: 8 train, 4 test" in printed
    assert "videos a class in all: run 6, walk 6" in printed


def test_official_lists_of_ucf101(originals: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "classInd.txt").write_text("1 walk\n2 run\n")
    (tmp_path / "lists" / "trainlist01.txt").write_text("walk/2.avi 1\nrun/1.avi 2\n")
    (tmp_path / "lists" / "testlist01.txt").write_text("walk/4.avi\n")
    words = ["pack", "--format", "ucf101", "--annotations", str(tmp_path / "lists"), "--videos", str(originals)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    index = DatasetIndex.open(tmp_path / "out")
    assert (index.classes, index.folds) == (["walk", "run"], ["1"])
    assert index.column("key", index.rows("test", 1)) == ["walk_4"]
    assert set(index.column("key", index.rows("train", 1))) == {"walk_2", "run_1"}


def test_a_part_is_taken_for_done_only_if_made_of_the_same_in_the_same_way(originals: Path, tmp_path: Path) -> None:
    records = tuple(VideoRecord(str(originals / "run" / f"{n}.mp4"), f"run_{n}", "run", "train", "") for n in (5, 7))
    part = ShardPart("d-train-000000.tar", "train", records)
    settings = PackSettings(tmp_path, originals, EncodeProfile())
    assert not run_part(part, settings).reused
    again = run_part(part, settings)
    assert (again.reused, [row.key for row in again.rows]) == (True, ["run_5", "run_7"])
    assert not run_part(part, replace(settings, profile=EncodeProfile(crf=30))).reused
    assert not run_part(replace(part, records=records[:1]), settings).reused
    assert not run_part(replace(part, records=(replace(records[0], label="walk"),)), settings).reused


def test_classes_from_a_file(originals: Path, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("walk\nswim\nrun\n")
    pack(PackOptions(tmp_path / "out", [originals / "list.csv"], classes=names))
    index = DatasetIndex.open(tmp_path / "out")
    assert index.classes == ["walk", "swim", "run"]
    assert [index.entry(row).label for row in range(12)] == [
        {"walk": 0, "run": 2}[index.entry(row).source.split("/")[0]] for row in range(12)
    ]
    assert index.manifest.splits["test"].classes == {"walk": 2, "swim": 0, "run": 2}
    for text, message in [("walk\n", "label 'run' of the annotations"), ("walk\nrun\nwalk\n", "'walk' is there twice")]:
        names.write_text(text)
        with pytest.raises(ValueError, match=message):
            pack(PackOptions(tmp_path / "other", [originals / "list.csv"], classes=names))


def test_the_command_shows_progress_and_a_table(originals: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "out", originals), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].startswith(f"pack: {NUM_VIDEOS} of {NUM_VIDEOS} videos, ")
    assert "MB written, 0 refused" in done.stderr
    for words in ("MB before", "train", "total", f"wrote {tmp_path / 'out'} in"):
        assert words in done.stdout
    again = subprocess.run(command(tmp_path / "out", originals), capture_output=True, text=True, check=True)
    assert "5 of 5 shards from an earlier run" in again.stdout
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert manifest["encode"]["short_side"] == 256
    assert set(manifest["versions"]) == {"av", "libavcodec", "webdataset"}
