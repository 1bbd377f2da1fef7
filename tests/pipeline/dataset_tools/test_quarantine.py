"""Videos put in quarantine by a person: never read, and nothing else changes."""

import json
import pickle
import shlex
import shutil

import numpy as np
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.quarantine import QuarantineError, read_quarantine
from datamodules.loading.loader_options import log_once
from datamodules.loading.planned_loader import _quarantine_advice
from datamodules.video.decoding import DecodeError
from pipeline.__main__ import main
from tests.datamodules.storage.flaky_server import serving

SETTINGS = {"batch_size": 3, "num_frames": 8, "crop_size": 32, "flip_probability": 0.0}


@pytest.fixture
def data(motion_dataset, tmp_path, monkeypatch):
    """A copy of the dataset that may be changed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copytree(motion_dataset, tmp_path / "shards")
    return tmp_path / "shards"


def train(root, epoch=1, **settings):
    loader = ShardedVideoDataModule(str(root), **(SETTINGS | {"num_workers": 0} | settings)).train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def destroy(root, keys):
    """Overwrites the bytes of videos: whoever reads one fails."""
    index = DatasetIndex.open(root)
    for row in index.rows_of(keys):
        entry = index.entry(int(row))
        with (root / entry.shard).open("r+b") as shard:
            shard.seek(entry.video_offset)
            shard.write(b"\xff" * entry.video_size)


@pytest.mark.parametrize("workers", [0, 2])
def test_in_training_the_places_of_all_others_stay(data, workers):
    before = train(data)
    keys = [before[2].keys[1], before[5].keys[0], before[5].keys[1], before[5].keys[2]]
    identity = DatasetIndex.open(data).identity
    destroy(data, keys)
    assert main(["quarantine", "--data", str(data), "--keys", *keys, "--reason", "kills the decoder"]) == 0
    after = train(data, num_workers=workers, worker_start="forkserver")
    assert DatasetIndex.open(data).identity == identity
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        stay = [number for number, key in enumerate(old.keys) if key not in keys]
        assert new.keys == [old.keys[number] for number in stay]
        assert torch.equal(new.clips, old.clips[stay])
        assert new.num_skipped == 0  # max_skipped_fraction is for those that nobody knew of


def test_evaluation_leaves_them_out_and_says_so(data, caplog):
    index = DatasetIndex.open(data)
    keys = index.column("key", index.rows("test"))
    destroy(data, keys[3:5])
    module = ShardedVideoDataModule(str(data), **SETTINGS, num_workers=0)
    with pytest.raises(DecodeError, match=keys[3]):
        list(module.test_dataloader())
    assert main(["quarantine", "--data", str(data), "--keys", *keys[3:5]]) == 0
    log_once.cache_clear()
    with caplog.at_level("INFO", logger="pytorch_lightning"):  # `evaluate` quietens it in this process
        module = ShardedVideoDataModule(str(data), **SETTINGS, num_workers=0)
        read = [key for batch in module.test_dataloader() for key in batch.keys]
    assert read == [*keys[:3], *keys[5:]]
    assert "shards: 2 of 16 videos of test are quarantined and not read" in caplog.text


def test_add_and_undo(data, capsys):
    index = DatasetIndex.open(data)
    first, second = index.entry(0), index.entry(1)
    earlier = (data / "quarantine.csv").read_text() + "elsewhere.mp4,elsewhere,unreadable,as pack saw it\n"
    (data / "quarantine.csv").write_text(earlier)
    add = ["quarantine", "--data", str(data), "--keys", first.key, second.key]
    assert main(add) == 0
    assert f"2 of {len(index)} videos are quarantined now" in capsys.readouterr().out
    refusals = read_quarantine(data)
    assert refusals[first.key][:3] == (first.source, first.key, "by hand")
    assert set(refusals) == {first.key, second.key, "elsewhere"}
    assert DatasetIndex.open(data).quarantined.tolist() == [0, 1]
    assert main([*add[:-1], "--undo"]) == 0
    assert DatasetIndex.open(data).quarantined.tolist() == [1]
    assert main(["quarantine", "--data", str(data), "--keys", second.key, "--undo"]) == 0
    assert (data / "quarantine.csv").read_text() == earlier


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keys", "nobody"], "keys=nobody: not in the index of shards"),
        (["--keys", "FIRST", "--undo"], "not in"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(data, capsys, words, message):
    key = DatasetIndex.open(data).entry(0).key
    before = (data / "quarantine.csv").read_bytes()
    assert main(["quarantine", "--data", str(data), *[key if word == "FIRST" else word for word in words]]) == 2
    assert message in capsys.readouterr().err
    assert (data / "quarantine.csv").read_bytes() == before


def test_a_list_that_cannot_be_read_ends_the_run(data):
    (data / "quarantine.csv").write_text("video\nx\n")
    with pytest.raises(QuarantineError, match=r"quarantine\.csv: its header must be path,key,reason,detail"):
        DatasetIndex.open(data)


def test_of_a_dataset_at_a_url(data):
    key = DatasetIndex.open(data).entry(4).key
    with serving(data) as server:
        assert main(["quarantine", "--data", server.url, "--keys", key]) == 2
        assert main(["quarantine", "--data", str(data), "--keys", key]) == 0
        assert DatasetIndex.open(server.url).quarantined.tolist() == [4]
        (data / "quarantine.csv").unlink()
        assert DatasetIndex.open(server.url).quarantined.tolist() == []


def test_verify_stats_and_index_know_them(data, capsys, tmp_path):
    entry = DatasetIndex.open(data).entry(2)
    assert main(["quarantine", "--data", str(data), "--keys", entry.key]) == 0
    assert main(["verify", "--data", str(data)]) == 0
    assert "(1 quarantined)" in capsys.readouterr().out
    assert main(["stats", "--data", str(data)]) == 0
    assert f"never read, because quarantine.csv names them: {entry.split} 1" in capsys.readouterr().out
    assert main(["plan", str(data), "--split", entry.split, "--batch-size", "1"]) == 0
    assert "1 quarantined videos keep their places and are not read" in capsys.readouterr().out
    assert main(["index", "--shards", str(data), "--out", str(tmp_path / "again")]) == 0
    assert set(read_quarantine(tmp_path / "again")) == {entry.key}
    assert DatasetIndex.open(tmp_path / "again").quarantined.tolist() == [2]


def test_all_processes_of_a_run_leave_out_the_same(data):
    index = DatasetIndex.open(data)
    travelling = pickle.dumps(index)
    assert main(["quarantine", "--data", str(data), "--keys", index.entry(0).key]) == 0
    assert pickle.loads(travelling).quarantined.tolist() == []
    rows = DatasetIndex.open(data).readable_rows("all")
    assert np.array_equal(rows, np.arange(1, len(index)))
    assert json.loads((data / "dataset.json").read_text())["identity"] == index.identity


def test_the_command_that_a_lost_worker_names_is_one_that_works(data, capsys):
    index = DatasetIndex.open(data)
    words = shlex.split(_quarantine_advice(index, 3).partition("python -m pipeline ")[2])
    assert main(words) == 0
    assert DatasetIndex.open(data).quarantined.tolist() == [3]
    assert main(["quarantine", str(data), "--keys+=--a_000001"]) == 2  # as an id of YouTube's may begin
    assert "keys=--a_000001: not in the index" in capsys.readouterr().err
