"""Tars that this pipeline did not write, with odd names: labels, keys and captions are whole or refused by name."""

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from webdataset import WebDataset

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.quarantine import QUARANTINE_NAME, read_quarantine
from datamodules.loading.planned_loader import _quarantine_advice
from datamodules.storage.plain_text import printable
from pipeline.__main__ import main
from tests.pipeline.test_odd_text import KEYS, LABELS, VIDEO, labels_of, write_odd_tar


def test_keys_and_labels_of_others_tars_come_out_as_they_went_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = dict(zip(KEYS, LABELS, strict=False))
    about = {key: json.dumps({"label": label}).encode() for key, label in samples.items()}
    tar = write_odd_tar(tmp_path / "some-train.tar", about, "json")
    assert [sample["__key__"] for sample in WebDataset(str(tar), shardshuffle=False)] == KEYS
    assert main(["index", str(tmp_path), "--label-from", "json:label", "--processes", "1"]) == 0
    assert labels_of(tmp_path) == samples
    assert main(["verify", str(tmp_path), "--full", "--processes", "1"]) == 0
    capsys.readouterr()
    assert main(["plan", str(tmp_path), "--rank", "0", "--batch-size", "20"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert all(printable(key) in printed for key in KEYS)
    assert main(["plan", str(tmp_path)]) == 0
    assert "\x1b" not in printed + capsys.readouterr().out
    # into quarantine and out, through the file; as the command that a failed run prints says it
    for row, key in enumerate(KEYS):
        command = _quarantine_advice(DatasetIndex.open(tmp_path), row).partition("python -m pipeline ")[2]
        assert command == printable(command)
        words = ["bash", "-c", f"printf '%s\\0' {command}"]
        typed = subprocess.run(words, capture_output=True, check=True).stdout.decode().split("\0")[:-1]
        assert typed[-1] == key
        assert main([typed[0], "--reason", "=odd", *typed[1:]]) == 0
    assert set(read_quarantine(tmp_path)) == set(KEYS)
    assert {refusal.reason for refusal in read_quarantine(tmp_path).values()} == {"=odd"}
    assert len(DatasetIndex.open(tmp_path).quarantined) == len(KEYS)
    assert main(["quarantine", str(tmp_path), "--undo", "--", *KEYS]) == 0
    assert len(DatasetIndex.open(tmp_path).quarantined) == 0


@pytest.mark.parametrize(
    ("extension", "texts", "cause"),
    [
        ("cls", [number.to_bytes(4, "little") for number in range(40)], "holds a control character"),
        ("cls", [b"\x80\x04K\x78.", b"\x80\x04K\x79."], r".cls is not UTF-8: b'\x80\x04K"),
        ("txt", ["à".encode("latin-1"), "é".encode("latin-1")], r".txt is not UTF-8: b'\xe"),
        ("json", [b'{"label": "\\ud83d"}'], "is not UTF-8"),
        ("json", [b'{"label": "a\\u0000b"}'], r"'a\x00b', which holds a control character"),
        ("json", [b'{"label": 3.5}', b'{"label": true}', b'{"label": NaN}'], "not a name or a whole number"),
        ("json", [b'{"label": '], "is not JSON"),
        ("cls", [b" \n", b""], "which is empty"),
    ],
)
def test_a_label_that_is_no_text_is_refused_with_its_bytes(
    tmp_path: Path, extension: str, texts: list[bytes], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "json:label" if extension == "json" else extension
    samples = {f"{number:03d}": text for number, text in enumerate(texts)}
    write_odd_tar(tmp_path / "a-train.tar", samples, extension)
    assert main(["index", str(tmp_path), "--label-from", place, "--processes", "1"]) == 2
    assert f"no video in 1 tars can be used ({len(texts)} left out; first " in capsys.readouterr().err
    good = b'{"label": 7.0}' if extension == "json" else "\ufeff7\r\n".encode()
    write_odd_tar(tmp_path / "a-train.tar", samples | {"good": good}, extension)
    assert main(["index", str(tmp_path), "--label-from", place, "--processes", "1"]) == 0
    assert labels_of(tmp_path) == {"good": "7"}
    refused = read_quarantine(tmp_path)
    assert refused.keys() == samples.keys()
    assert all(refusal.reason == "no label" and cause in refusal.detail for refusal in refused.values())


def test_a_caption_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a-train.tar", "w") as tar:
        for key, caption in (("bad", b"caf\xe9"), ("good", "café".encode())):
            for name, content in ((f"{key}.mp4", VIDEO), (f"{key}.cls", b"1"), (f"{key}.txt", caption)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    assert main(["index", str(tmp_path), "--label-from", "cls", "--processes", "1"]) == 0
    assert DatasetIndex.open(tmp_path).column("captions", [0]) == [["café"]]
    [refusal] = read_quarantine(tmp_path).values()
    assert (refusal.key, refusal.reason) == ("bad", "bad caption")
    assert r"b'caf\xe9'" in refusal.detail


def test_names_that_are_not_utf8_are_listed_with_their_bytes(tmp_path: Path) -> None:
    """Two keys, of which a careless program makes one; a member whose extension is none."""
    samples = {f"caf{os.fsdecode(byte)}": b"1" for byte in (b"\xe9", b"\xe8")} | {"good": b"1"}
    tar = write_odd_tar(tmp_path / "a-train.tar", samples)
    with tarfile.open(tar, "a") as more:
        for name, content in (("odd.\udce9.mp4", VIDEO), ("odd.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            more.addfile(member, io.BytesIO(content))
    assert main(["index", str(tmp_path), "--label-from", "cls", "--processes", "1"]) == 0
    refused = read_quarantine(tmp_path)
    found = {*labels_of(tmp_path), *refused}
    assert found == {sample["__key__"] for sample in WebDataset(str(tar), shardshuffle=False)}
    assert {key: refusal.reason for key, refusal in refused.items()} == dict.fromkeys(
        [*[*samples][:2], "odd"], "bad key"
    )
    assert rb"b'caf\xe8'" in (tmp_path / QUARANTINE_NAME).read_bytes()
    assert main(["stats", str(tmp_path)]) == main(["verify", str(tmp_path)]) == 0


def test_files_of_no_sample_and_labels_made_one_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = {"a": b"run", "b": b"run ", "c": b"Run", "__m__/d": b"run", ".hidden": b"run"}
    write_odd_tar(tmp_path / "a-train.tar", samples)
    assert main(["index", str(tmp_path), "--label-from", "cls", "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "4 files are in the tars and in no sample, as webdataset reads them: 'a-train.tar/__m__/d.mp4', " in printed
    assert "labels that differ in the blanks around them alone are one class: 'run', 'run '" in printed
    assert labels_of(tmp_path) == {"a": "run", "b": "run", "c": "Run"}


def test_keys_that_begin_again_in_each_tar_get_a_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        write_odd_tar(tmp_path / f"a-train-{number}.tar", {"0000": b"run", "0001": b"walk" if number else b"\xff"})
    words = ["index", str(tmp_path), "--label-from", "cls", "--processes", "1"]
    assert main(words) == 2
    assert "key '0000' is in a-train-0.tar and in a-train-1.tar" in (told := capsys.readouterr().err)
    assert "--key-prefix shard" in told
    assert main([*words, "--key-prefix", "shard"]) == 0
    assert labels_of(tmp_path) == {"a-train-0/0000": "run", "a-train-1/0000": "run", "a-train-1/0001": "walk"}
    assert list(read_quarantine(tmp_path)) == ["a-train-0/0001"]
    assert main(["verify", str(tmp_path), "--full", "--processes", "1"]) == 0
    # a sample left out of one tar must not hide another's that is good
    write_odd_tar(tmp_path / "a-train-0.tar", {"0001": b"\xff"})
    write_odd_tar(tmp_path / "a-train-1.tar", {"0001": b"walk"})
    assert main(words) == 2
    assert "key '0001' is in" in capsys.readouterr().err


def test_what_an_earlier_index_refused_for_another_place_of_labels_is_off_the_list(tmp_path: Path) -> None:
    write_odd_tar(tmp_path / "a-train.tar", {"x/a": b"run", "b": b"walk"})
    assert main(["index", str(tmp_path), "--label-from", "folder", "--processes", "1"]) == 0
    assert list(read_quarantine(tmp_path)) == ["b"]
    assert main(["quarantine", str(tmp_path), "x/a"]) == 0
    assert main(["index", str(tmp_path), "--label-from", "cls", "--processes", "1"]) == 0
    assert labels_of(tmp_path) == {"x/a": "run", "b": "walk"}
    assert list(read_quarantine(tmp_path)) == ["x/a"]  # a person's own line stays


def test_compressed_tars_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = write_odd_tar(tmp_path / "a-train.tar", {"a": b"run"})
    subprocess.run(["gzip", "--keep", str(tar)], check=True)
    tar.rename(tmp_path / "b-train.tar")
    options = ["--label-from", "cls", "--processes", "1"]
    assert main(["index", str(tmp_path / "a-train.tar.gz"), *options]) == 2
    assert "a-train.tar.gz: is compressed" in capsys.readouterr().err
    assert main(["index", str(tmp_path), *options]) == 0
    assert "1 compressed tars are left out, first a-train.tar.gz" in capsys.readouterr().err


def test_a_folder_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "set [1]").mkdir()
    write_odd_tar(tmp_path / "set [1]" / "a-train.tar", {"a": b"run"})
    assert main(["index", str(tmp_path / "set [1]" / "*.tar"), "--label-from", "cls", "--processes", "1"]) == 0
