"""Checking packed datasets: whole ones pass, and every kind of damage is found, named and given a remedy."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_table import INDEX_SCHEMA, identity_of
from datamodules.encoding.transcoding import encode_frames
from pipeline.__main__ import main
from pipeline.dataset_tools.index import index
from tests.pipeline.dataset_tools.test_index import video2dataset_sample, write_tar

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(folded_dataset: Path, tmp_path: Path) -> Path:
    """A copy of a small dataset of ours, to spoil: twelve videos of ten frames, three folds, one shard."""
    return shutil.copytree(folded_dataset, tmp_path / "data")


@pytest.fixture
def look(data: Path, capsys: Capture) -> Callable[..., str]:
    """Runs verify on the spoiled dataset: what it prints, the last line being the error; "" where all is well."""

    def run(*options: str) -> str:
        status = main(["verify", "--data", str(data), "--processes", "1", *options])
        printed = capsys.readouterr()
        assert (status == 0) == ("all is well with 1 shards and 12 videos" in printed.out)
        assert "Traceback" not in printed.err
        return "" if status == 0 else printed.out + printed.err.splitlines()[-1]

    return run


def shard_of(data: Path) -> Path:
    [shard] = data.glob("*.tar")
    return shard


def change_index(data: Path, change: Callable[[list[dict[str, Any]]], None], identity: bool = False) -> None:
    """Rewrites index.parquet; with `identity`, dataset.json and the index agree on the new identity."""
    path = data / "index.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    metadata = dict(table.schema.metadata)
    if identity:
        content = json.loads((data / "dataset.json").read_text())
        classes = content["classes"]
        content["identity"] = identity_of(
            (row["key"], row["split"], row["fold_splits"], [classes[row["label"]]], row["content_sha256"])
            for row in rows
        )
        (data / "dataset.json").write_text(json.dumps(content))
        metadata[b"identity"] = content["identity"].encode()
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA.with_metadata(metadata)), path)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def test_a_whole_dataset_passes(motion_dataset: Path, capsys: Capture, look: Callable[..., str]) -> None:
    assert look() == ""
    assert look("--full") == ""
    assert main(["verify", "--data", str(motion_dataset)]) == 0
    printed = capsys.readouterr()
    assert "5 shards and 64 videos" in printed.out
    assert "verify: byte ranges: 64 of 64 videos" in printed.err


def test_a_flipped_byte_needs_the_full_check(data: Path, look: Callable[..., str]) -> None:
    found = DatasetIndex.open(data)
    entry = found.entry(4)
    flip(shard_of(data), entry.video_offset + entry.video_size // 2)
    assert look() == ""
    text = look("--full")
    assert f"{entry.shard}: its sha256 is not the one in dataset.json" in text
    assert f"{entry.shard}, {entry.key}: " in text
    assert "copy it here again, or run the same pack command again" in text
    assert "error: 2 things are wrong among 1 shards and 12 videos" in text


def test_a_cut_tar(data: Path, look: Callable[..., str]) -> None:
    shard = shard_of(data)
    size = shard.stat().st_size
    os.truncate(shard, size // 2)
    text = look()
    assert f"{shard.name}: has {size // 2} bytes, dataset.json says {size}" in text
    assert f"{shard.name}: truncated, the end of the tar is missing\n" in text
    os.truncate(shard, size // 2 - 100)
    assert f"{shard.name}: not a whole tar file" in look("--full")


def test_a_missing_shard_and_a_stray_one(data: Path, look: Callable[..., str]) -> None:
    shard = shard_of(data)
    shard.rename(shard.with_name("other.tar"))
    for options in ([], ["--full"]):
        text = look(*options)
        assert f"{shard.name}: is missing" in text
        assert "other.tar: is not in dataset.json" in text
        assert "error: 2 things are wrong" in text


def test_an_index_that_points_elsewhere(data: Path, look: Callable[..., str]) -> None:
    key = DatasetIndex.open(data).entry(5).key

    def swap(rows: list[dict[str, Any]]) -> None:
        for name in ("video_offset", "video_size"):
            rows[0][name], rows[1][name] = rows[1][name], rows[0][name]
        rows[3]["video_offset"] += 512
        rows[5]["video_size"] = len(description)
        rows[5]["video_offset"] = shard_of(data).read_bytes().index(description)

    [sample] = [s for s in webdataset.WebDataset(str(shard_of(data)), shardshuffle=False) if s["__key__"] == key]
    description = sample["json"]
    change_index(data, swap)
    text = look()
    assert text.count("index.parquet says") == 3
    assert f"is {key}.json of {len(description)} bytes" in text
    assert "no file begins at byte" in text
    assert f"rebuild the index: python -m pipeline index --shards {data}" in text
    index([str(data)])
    assert look("--full") == ""


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("key", "walk_0", "2 videos have a key that another has too"),
        ("label", 7, "1 videos have a label outside of the 2 classes"),
        ("shard", "x.tar", "1 videos are in shards that dataset.json does not list"),
        ("split", "val", "1 videos have another split than their shard"),
        ("fold_splits", ["test"], "1 videos do not have 3 folds"),
        ("video_size", 10**9, "videos lie outside of their shard or overlap"),
        ("num_frames", 0, "1 videos have no size, frames, rate, duration or pixel aspect"),
        ("pixel_aspect", float("inf"), "1 videos have no size, frames, rate, duration or pixel aspect"),
        ("content_sha256", "0" * 64, "as identity"),
    ],
)
def test_a_changed_row(data: Path, look: Callable[..., str], column: str, value: object, problem: str) -> None:
    position = 1 if column != "key" else DatasetIndex.open(data).column("key", range(12)).index("walk_2")  # type: ignore[union-attr, arg-type]
    change_index(data, lambda rows: rows[position].update({column: value}))
    assert problem in look()


def test_videos_that_overlap(data: Path, look: Callable[..., str]) -> None:
    key = DatasetIndex.open(data).entry(7).key
    change_index(data, lambda rows: rows[6].update(video_size=rows[7]["video_offset"] - rows[6]["video_offset"]))
    assert f"1 videos lie outside of their shard or overlap: {key}\n" in look()


def test_a_row_too_few(data: Path, capsys: Capture) -> None:
    change_index(data, lambda rows: rows.pop() and None)
    assert main(["verify", "--data", str(data), "--full", "--processes", "1"]) == 2
    printed = capsys.readouterr().out
    assert f"has 11 videos in {shard_of(data).name}, dataset.json says 12" in printed
    assert "is in the tar and not in index.parquet" in printed


def test_consistent_lies_are_found_by_the_tar(data: Path, look: Callable[..., str]) -> None:
    """A label and a frame count changed everywhere but in the tar: only the full check can know."""

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["group"] = "another"
        rows[2]["num_frames"] = 11

    change_index(data, change, identity=True)
    assert look() == ""
    text = look("--full")
    assert "its group in index.parquet is not as in the tar" in text
    assert "has 10 frames of 48x32 at 10 fps, index.parquet says 11 frames" in text


def test_another_rate_or_pixel_shape_than_the_videos_is_found(data: Path, look: Callable[..., str]) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["variable_rate"] = True
        rows[1]["pixel_aspect"] = 16 / 11

    change_index(data, change)
    assert look() == ""
    text = look("--full")
    assert "its variable_rate in index.parquet is not as in the tar" in text
    assert "has 10 frames of 48x32 at 10 fps, index.parquet says 10 frames of 48x32 at 10 fps on average\n" in text
    assert "index.parquet says 10 frames of 48x32 at 10 fps, pixel aspect 1.455\n" in text


def test_a_manifest_of_other_counts(data: Path, look: Callable[..., str]) -> None:
    path = data / "dataset.json"
    content = json.loads(path.read_text())
    content["splits"]["all"]["classes"]["run"] += 1
    content["shards"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    assert "has 6 videos of 'run' in split all, dataset.json says 7" in look()
    assert "its sha256 is not" in look("--full")


def test_no_index_and_no_dataset(data: Path, look: Callable[..., str]) -> None:
    (data / "index.parquet").write_bytes(b"PAR1 nonsense")
    assert "index.parquet: damaged" in look()
    (data / "index.parquet").unlink()
    text = look()
    assert "no index.parquet beside dataset.json" in text
    assert "rebuild the index" in text
    (data / "dataset.json").unlink()
    assert "no dataset.json in it" in look()


def test_wrong_options_are_one_sentence(look: Callable[..., str]) -> None:
    assert "processes=0: must be at least 1" in look("--full", "--processes", "0")
    assert "timeout=0.0: must be above 0" in look("--full", "--timeout", "0")


def test_others_videos_that_do_not_decode(tmp_path: Path, capsys: Capture) -> None:
    """Probing takes a video with a damaged frame; decoding it all does not, and its bytes are as they were indexed."""
    samples = {f"{n:08d}": video2dataset_sample(n, "run") for n in range(2)}
    noise = np.random.default_rng(0).integers(0, 256, (10, 32, 48, 3), dtype=np.uint8)
    video = bytearray(encode_frames(list(noise), fps=8))
    with av.open(io.BytesIO(video)) as container:
        sixth = [packet for packet in container.demux() if packet.size][5]
    video[sixth.pos : sixth.pos + sixth.size] = b"\xff" * sixth.size
    samples["00000001"]["mp4"] = bytes(video)
    write_tar(tmp_path / "a-train.tar", samples)
    index([str(tmp_path)], label_from="json:video_metadata.label", processes=1)
    assert main(["verify", "--data", str(tmp_path)]) == 0
    capsys.readouterr()
    status = main(["verify", "--data", str(tmp_path), "--full", "--processes", "1"])
    printed = capsys.readouterr()
    assert (status, "a-train.tar, 00000001: does not decode" in printed.out) == (2, True)
    assert f"-> leave them out: python -m pipeline quarantine {tmp_path} KEY ..." in printed.out
    assert main(["quarantine", "--data", str(tmp_path), "--keys", "00000001"]) == 0
    assert main(["verify", "--data", str(tmp_path), "--full", "--processes", "1"]) == 0
    assert "(1 quarantined)" in capsys.readouterr().out


def test_keys_too_long_for_a_header_are_found(tmp_path: Path) -> None:
    keys = ["k" * 150, "schlägerei", "folder/1"]
    write_tar(tmp_path / "a-train.tar", {key: video2dataset_sample(n, "run") for n, key in enumerate(keys)})
    index([str(tmp_path)], label_from="json:video_metadata.label", processes=1)
    assert DatasetIndex.open(tmp_path).column("key", range(3)) == keys  # type: ignore[arg-type]
    assert main(["verify", "--data", str(tmp_path), "--full", "--processes", "1"]) == 0


def test_counts_of_folds_are_held_against_the_index(data: Path, look: Callable[..., str]) -> None:
    content = json.loads((data / "dataset.json").read_text())
    content["fold_counts"]["1"]["test"]["classes"]["run"] += 1
    (data / "dataset.json").write_text(json.dumps(content))
    assert "has 2 videos of 'run' in split test of fold 1, dataset.json says 3" in look()
