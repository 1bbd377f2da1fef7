"""Indexing tars alone: ours come back as they were; others' get labels, groups and splits from where they have them."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import read_manifest
from datamodules.dataset.quarantine import read_quarantine
from datamodules.dataset.tar_members import split_member_name
from datamodules.encoding.transcoding import encode_frames
from datamodules.storage.errors import ShardFormatError
from datamodules.video.decoding import decode_frames
from pipeline.__main__ import main
from pipeline.dataset_tools.index import index
from tests.datamodules.video.odd_files import numbered_video
from tests.datamodules.video.test_video_streams import two_streams
from tests.pipeline.gray_videos import make_video


def write_tar(path: Path, samples: Mapping[str, Mapping[str, Any]]) -> Path:
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for key, members in samples.items():
            writer.write({"__key__": key, **members})
    return path


def video2dataset_sample(number: int, label: object) -> dict[str, bytes]:
    """What video2dataset writes of a video."""
    about = {
        "key": f"{number:08d}",
        "url": f"https://example.org/{number // 2}",
        "status": "success",
        "caption": "a man",
    }
    about["video_metadata"] = {"label": label}  # type: ignore[assignment]
    return {"mp4": make_video(number), "json": json.dumps(about).encode(), "txt": b"a man"}


def indexed(root: Path) -> dict[str, tuple[str, str, str, int]]:
    found = DatasetIndex.open(root)
    entries = [found.entry(row) for row in range(len(found))]
    return {entry.key: (found.classes[entry.label], entry.split, entry.group, entry.num_frames) for entry in entries}


def test_our_dataset_comes_back_as_it_was(motion_dataset: Path, tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    for path in motion_dataset.glob("*.tar"):
        shutil.copy2(path, tars)
    index([str(tars)])
    assert pq.read_table(tars / "index.parquet").equals(
        pq.read_table(motion_dataset / "index.parquet"), check_metadata=True
    )
    before, after = read_manifest(motion_dataset), read_manifest(tars)
    assert after.name == "shards"
    assert (after.encode, after.versions) == ({}, {})  # the tars do not say
    assert replace(after, encode=before.encode, versions=before.versions) == before
    # with a dataset.json there, what tars cannot say is kept, and the order of the classes too
    content = json.loads((tars / "dataset.json").read_text())
    (tars / "dataset.json").write_text(json.dumps(content | {"classes": before.classes[::-1], "encode": {"crf": 1}}))
    index([str(tars / "*.tar")])
    again = read_manifest(tars)
    assert (again.classes, again.encode, again.identity) == (before.classes[::-1], {"crf": 1}, before.identity)


def test_folds_come_back(folded_dataset: Path, tmp_path: Path) -> None:
    index([str(folded_dataset)], tmp_path / "links", folds=["a", "b", "c"])
    found, before = DatasetIndex.open(tmp_path / "links"), DatasetIndex.open(folded_dataset)
    assert (found.folds, found.identity) == (["a", "b", "c"], before.identity)
    assert found.rows("test", "b").tolist() == before.rows("test", 1).tolist()
    assert all((tmp_path / "links" / shard.name).is_symlink() for shard in found.manifest.shards)
    assert found.read_video(3) == before.read_video(3)
    with pytest.raises(ValueError, match="the tars have 3 folds"):
        index([str(folded_dataset)], tmp_path / "links", folds=["a", "b"])


def test_video2dataset_tars(tmp_path: Path) -> None:
    labels = ["run", "walk", "run", "walk", "run", "walk"]
    for shard, split in enumerate(("train", "validation")):
        samples = {f"{n:08d}": video2dataset_sample(n, labels[n]) for n in range(3 * shard, 3 * shard + 3)}
        write_tar(tmp_path / f"kinetics_{split}_{shard:05d}.tar", samples)
    options = ["--label-from", "json:video_metadata.label", "--group-from", "json:url", "--processes", "1"]
    assert main(["index", "--shards", str(tmp_path), *options]) == 0
    assert indexed(tmp_path) == {
        f"{n:08d}": (labels[n], "train" if n < 3 else "val", f"https://example.org/{n // 2}", 10) for n in range(6)
    }
    found = DatasetIndex.open(tmp_path)
    entry = found.entry(4)
    assert (entry.fps, entry.width, entry.height, entry.duration_s) == (10.0, 48, 32, 1.0)
    assert entry.source == "kinetics_validation_00001.tar/00000004.mp4"
    assert found.read_video(4) == make_video(4)
    assert np.abs(decode_frames(found.read_video(4), [9]).astype(int) - 80).max() <= 3
    assert main(["verify", "--data", str(tmp_path), "--full", "--processes", "1"]) == 0


@pytest.mark.parametrize(
    ("label_from", "expected"), [("cls", ["swim", "run"]), ("txt", ["a man", "a dog"]), ("folder", ["jump", "walk"])]
)
def test_other_places_of_labels(tmp_path: Path, label_from: str, expected: list[str]) -> None:
    samples = {
        "set.v1/jump/a": {"mp4": make_video(0), "cls": b"1\n", "txt": b"a man"},
        "set.v1/walk/b": {"seg.MP4": make_video(1), "cls": b"0", "txt": b"a dog"},
    }
    write_tar(tmp_path / "some.tar", samples)
    (tmp_path / "names.txt").write_text("run\nswim\n")
    names = tmp_path / "names.txt" if label_from == "cls" else None
    index([str(tmp_path / "some.tar")], None, label_from, split="train", classes=names, processes=1)
    assert {key: label for key, (label, *_) in indexed(tmp_path).items()} == dict(zip(samples, expected, strict=True))
    # the keys are those that webdataset gives
    assert [
        sample["__key__"] for sample in webdataset.WebDataset(str(tmp_path / "some.tar"), shardshuffle=False)
    ] == list(samples)


@pytest.mark.parametrize("place", ["json:about.tags", "cls"])
def test_lists_of_labels_make_a_dataset_of_several_labels(tmp_path: Path, place: str) -> None:
    tags: list[object] = [["run", "jump", "run"], "walk", [], [" jump "], ["run", None]]
    for split, numbers in (("train", (0, 1)), ("test", (2, 3, 4))):
        samples: dict[str, dict[str, Any]] = {}
        for n in numbers:
            text = json.dumps(tags[n]).strip('"')
            member = (
                {"json": json.dumps({"about": {"tags": tags[n]}}).encode()} if ":" in place else {"cls": text.encode()}
            )
            samples[f"{n}"] = {"mp4": make_video(n), **member}
        write_tar(tmp_path / f"a-{split}.tar", samples)
    assert main(["index", str(tmp_path), "--label-from", place, "--processes", "1"]) == 0
    manifest, found = read_manifest(tmp_path), DatasetIndex.open(tmp_path)
    assert (manifest.task, manifest.classes) == ("multi_label", ["jump", "run", "walk"])
    names = {entry.key: [manifest.classes[label] for label in entry.labels] for entry in map(found.entry, range(4))}
    assert names == {"0": ["jump", "run"], "1": ["walk"], "2": [], "3": ["jump"]}
    refused = read_quarantine(tmp_path)["4"]
    assert (refused.reason, refused.detail) == ("no label", f"{place} is None, not a name or a whole number")
    for verb in (["verify", str(tmp_path), "--full", "--processes", "1"], ["stats", str(tmp_path)]):
        assert main(verb) == 0


def test_lists_of_numbers_are_positions_in_the_file_of_classes(tmp_path: Path) -> None:
    samples = {f"{n}": {"mp4": make_video(n), "cls": text} for n, text in enumerate([b"[1, 0]", b"[2.0]"])}
    write_tar(tmp_path / "a-train.tar", samples)
    (tmp_path / "names.txt").write_text("run\nswim\njump\n")
    index([str(tmp_path)], label_from="cls", classes=tmp_path / "names.txt", processes=1)
    found = DatasetIndex.open(tmp_path)
    assert (found.classes, [found.entry(row).labels for row in range(2)]) == (["run", "swim", "jump"], [(0, 1), (2,)])


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {str(n): {"mp4": make_video(0), "cls": str(n).encode()} for n in (10, 9, 2)})
    index([str(tmp_path)], label_from="cls", split="test", processes=1)
    assert read_manifest(tmp_path).classes == ["2", "9", "10"]


def test_what_cannot_be_used_is_left_out_by_name(tmp_path: Path) -> None:
    samples = {
        "good": {"mp4": make_video(1), "cls": b"0"},
        "damaged": {"mp4": b"no video" * 100, "cls": b"0"},
        "unlabeled": {"mp4": make_video(2)},
        "text": {"cls": b"1"},
    }
    write_tar(tmp_path / "a-train.tar", samples)
    index([str(tmp_path)], label_from="cls", processes=1)
    assert list(indexed(tmp_path)) == ["good"]
    reasons = {key: refusal.reason for key, refusal in read_quarantine(tmp_path).items()}
    assert reasons == {"damaged": "unreadable", "unlabeled": "no label", "text": "no video"}
    with pytest.raises(ValueError, match=r"no video in 1 tars can be used \(4 left out; first .*: no label"):
        index([str(tmp_path)], label_from="json:label", processes=1)


def test_wrong_input_is_one_sentence(tmp_path: Path, motion_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = write_tar(tmp_path / "00000.tar", {"00000000": video2dataset_sample(0, "run")})
    whole = tar.read_bytes()

    def complaint(*words: str) -> str:
        assert main(["index", "--shards", *words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "first sample has .json (keys key, url, status, caption, video_metadata), .mp4, .txt" in complaint(str(tar))
    assert "its name says no split; give --split" in complaint(str(tar), "--label-from", "txt")
    assert "label_from='speech'" in complaint(str(tar), "--label-from", "speech")
    assert "give --label-from too" in complaint(str(tar), "--split", "train")
    assert "there is no tar" in complaint(str(tmp_path / "nowhere" / "*.tar"))
    assert "say with --out" in complaint(str(tar), str(motion_dataset))
    (tmp_path / "x").mkdir()
    shutil.copy2(tar, tmp_path / "x" / "00001.tar")
    twice = complaint(str(tar), str(tmp_path / "x"), "--out", str(tmp_path / "y"), "--label-from=txt", "--split=train")
    assert "key '00000000' is in 00000.tar and in 00001.tar" in twice
    tar.write_bytes(whole[: len(whole) // 2])
    for more in ([], ["--label-from", "txt", "--split", "train"]):
        assert "00000.tar: not a whole tar file" in complaint(str(tar), *more)
    assert not (tmp_path / "dataset.json").exists()


def test_an_unfinished_pack_is_not_taken_for_whole(motion_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(motion_dataset, tmp_path / "copy")
    (tmp_path / "copy" / "dataset.json").unlink()
    with pytest.raises(ValueError, match="packing has not finished there"):
        index([str(tmp_path / "copy")])


def test_a_cut_shard_of_ours_is_named(motion_dataset: Path, tmp_path: Path) -> None:
    [first, *_] = sorted(motion_dataset.glob("*.tar"))
    cut = tmp_path / first.name
    cut.write_bytes(first.read_bytes()[: -tarfile.RECORDSIZE])
    with pytest.raises(ShardFormatError, match=f"{first.name}: .*copy the shard again"):
        index([str(tmp_path)])


def test_keys_end_at_the_first_dot_of_the_name() -> None:
    assert split_member_name("a.b/c/001.left.MP4") == ("a.b/c/001", "left.mp4")
    assert split_member_name("001.json") == ("001", "json")
    assert split_member_name("folder/nothing") is None
    assert split_member_name(".hidden") is None


def test_a_sample_with_two_videos_is_left_out(tmp_path: Path) -> None:
    video = encode_frames([np.zeros((32, 48, 3), np.uint8)] * 2, fps=8)
    samples = {"a": {"left.mp4": video, "right.mp4": video, "cls": b"0"}, "b": {"mp4": video, "cls": b"0"}}
    write_tar(tmp_path / "a-train.tar", samples)
    index([str(tmp_path)], label_from="cls", processes=1)
    assert list(indexed(tmp_path)) == ["b"]
    [refusal] = read_quarantine(tmp_path).values()
    assert (refusal.key, refusal.reason) == ("a", "two videos")
    assert "a.left.mp4 and a.right.mp4" in refusal.detail


def test_a_word_of_further_streams_and_of_clocks_that_restart(tmp_path, capsys):
    webm = {"deadline": "realtime", "cpu_used": 8}
    files = {
        "joined.webm": 2 * numbered_video("libvpx", "webm", range(10), **webm),
        "two.mp4": two_streams("mp4", (range(10), (96, 72)), (range(10), (48, 32))),
    }
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for name, data in files.items():
            for member, content in ((name, data), (f"{Path(name).stem}.cls", b"run")):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    assert main(["index", str(tmp_path), "--label-from", "cls"]) == 0
    printed = capsys.readouterr().out
    assert "clocks that restart or jump: 1 video (joined), 1 place" in printed
    assert "further video streams: 1 video (two), 1 stream" in printed
