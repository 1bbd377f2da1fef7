"""Sharded checkpoints in the store: kept, replaced, left over by a kill; on a disk and in an object store."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.fs
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from lightning_modules.weights.sharded_checkpoint import CONTENT_NAME, read_whole_checkpoint
from pipeline.checkpoints.checkpoint_io import AtomicCheckpointIO, StoreCheckpointIO
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.storage import open_storage
from tests.process_group import one_rank, rank_variables  # noqa: F401 # fixtures
from tests.s3_server import environment_for, s3_server  # noqa: F401 # a fixture

LENGTH = 1000


def store_in(address: object) -> CheckpointStore:
    store = CheckpointStore(open_storage(f"{address}/run"), CheckpointOptions(keep_newest=2, keep_best=1))
    store.begin(0)
    return store


def save(store: CheckpointStore, step: int, score: float | None = None) -> StoreCheckpointIO:
    """Saves a checkpoint whose one weight is as many numbers that are `step`."""
    weight = distribute_tensor(torch.full((LENGTH,), float(step)), init_device_mesh("cpu", (1,)), [Shard(0)])
    content = {"state_dict": {"weight": torch.empty(LENGTH, device="meta")}, "step": step}
    metrics = {"step": step} | ({} if score is None else {"val/top1": score})
    writer = StoreCheckpointIO(store, step, metrics)
    writer.save_sharded(content, {"state_dict/weight": weight}, "")
    return writer


def read(path: Path) -> tuple[int, float]:
    content = read_whole_checkpoint(path, "it")
    return content["step"], content["state_dict"]["weight"].mean().item()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json")


def test_the_newest_and_the_best_are_kept(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    store = store_in(tmp_path)
    for step, score in {1: 0.9, 2: 0.1, 3: None, 4: 0.2}.items():
        assert save(store, step, score).failure is None
    kept = [f"step-{step:08d}.sharded" for step in (1, 3, 4)]
    assert names(tmp_path / "run" / "checkpoints") == kept
    newest, damaged = store.find_newest_intact()
    assert newest is not None
    assert (newest.step, newest.sharded, damaged) == (4, True, [])
    assert newest.bytes > 4 * LENGTH
    assert read(tmp_path / "run" / "last.ckpt") == (4, 4.0)
    assert read(tmp_path / "run" / "best.ckpt") == (1, 1.0)
    assert {label: each.step for label, each in store.publish().items()} == {"best": 1, "last": 4}


def test_a_checkpoint_of_the_same_step_takes_the_place_of_the_earlier_one(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    store = store_in(tmp_path)
    store.save(lambda path: torch.save({}, path), 3, {})
    save(store, 3)
    folder = tmp_path / "run" / "checkpoints" / "step-00000003.sharded"
    assert names(folder.parent) == [folder.name]
    [_, first] = names(folder)
    save(store, 3, 0.5)
    [_, second] = names(folder)
    assert first != second
    assert read(folder) == (3, 3.0)
    assert store.list_checkpoints()[0].metrics["val/top1"] == 0.5


def test_a_damaged_one_is_set_aside_for_the_one_before(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    store = store_in(tmp_path)
    save(store, 1)
    save(store, 2)
    [shard] = (tmp_path / "run" / "checkpoints" / "step-00000002.sharded").glob("shards-*/*.distcp")
    shard.write_bytes(shard.read_bytes()[:100])
    newest, damaged = store.find_newest_intact()
    assert newest is not None
    assert newest.step == 1
    said: list[str] = []
    store.rename_damaged(damaged, newest, said.append)
    assert "step-00000002.sharded is damaged" in said[0]
    assert names(tmp_path / "run" / "checkpoints") == ["step-00000001.sharded", "step-00000002.sharded.damaged"]
    assert [each.step for each in store.list_checkpoints()] == [1]


def test_what_a_kill_left_is_no_checkpoint_and_goes_at_the_next_start(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    store = store_in(tmp_path)
    save(store, 1)
    folder = tmp_path / "run" / "checkpoints"
    for left in ("step-00000001.sharded/shards-left", "step-00000002.sharded/shards-left"):
        (folder / left).mkdir(parents=True)
        (folder / left / "__0_0.distcp").write_bytes(b"half")
    (folder / "step-00000001.sharded" / ".content.ckpt.1.partial").write_bytes(b"half")
    assert [each.step for each in store.list_checkpoints()] == [1]
    removed = store.begin(1)
    assert sorted(removed) == ["step-00000001.sharded/shards-left", "step-00000002.sharded"]
    assert names(folder) == ["step-00000001.sharded"]
    assert len(names(folder / "step-00000001.sharded")) == 2
    assert read(folder / "step-00000001.sharded") == (1, 1.0)


def test_a_folder_that_is_lost_costs_a_warning_and_no_checkpoint(
    one_rank: None,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = store_in(tmp_path)
    save(store, 1)
    (tmp_path / "run").rename(tmp_path / "away")
    assert isinstance(save(store, 2).failure, OSError)
    assert "warning: the checkpoint of step 2 cannot be written" in capsys.readouterr().err
    (tmp_path / "away").rename(tmp_path / "run")
    assert [each.step for each in store.list_checkpoints()] == [1]


def test_lightnings_own_callbacks_save_a_folder(one_rank: None, tmp_path: Path) -> None:  # noqa: F811
    weight = distribute_tensor(torch.ones(LENGTH), init_device_mesh("cpu", (1,)), [Shard(0)])
    content = {"state_dict": {"weight": torch.empty(LENGTH, device="meta")}, "step": 1}
    AtomicCheckpointIO().save_sharded(content, {"state_dict/weight": weight}, tmp_path / "mine" / "a.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "mine" / "a.ckpt")["state_dict"]["weight"].sum() == LENGTH


KILLED = """
import os, signal, sys, threading, time, pathlib
import torch.distributed as dist
from tests.pipeline.checkpoints.test_sharded_saving import save, store_in
from pipeline.checkpoints import sharded_saving
dist.init_process_group("gloo", rank=0, world_size=1)
store = store_in(sys.argv[1])
save(store, 1)
folder = pathlib.Path(sys.argv[1], "run", "checkpoints", "step-00000002.sharded")
def watch():
    while not list(folder.glob(sys.argv[2])):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=watch).start()
for step in range(2, 500):
    save(store, step)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["shards-*", "shards-*/*.distcp", "shards-*/.metadata", ".content*", CONTENT_NAME])
def test_a_kill_in_the_middle_leaves_whole_checkpoints_alone(rank_variables: None, tmp_path: Path, seen: str) -> None:  # noqa: F811
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), seen], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    store = CheckpointStore(open_storage(f"{tmp_path}/run"))
    newest, damaged = store.find_newest_intact()
    assert newest is not None
    assert damaged == []
    assert read(store.fetch(newest)) == (newest.step, float(newest.step))
    store.begin(newest.step)
    assert list((tmp_path / "run" / "checkpoints").rglob("*.partial")) == []
    assert set(names(tmp_path / "run" / "checkpoints")) == {each.file for each in store.list_checkpoints()}


@pytest.fixture
def bucket(s3_server: tuple[object, str], monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    for name, value in environment_for(s3_server[1]).items():
        monkeypatch.setenv(name, value)
    filesystem, _ = pyarrow.fs.FileSystem.from_uri("s3://sharded/run?allow_bucket_creation=true")
    filesystem.create_dir("sharded")
    return "s3://sharded"


@pytest.mark.slow
def test_in_an_object_store(one_rank: None, bucket: str) -> None:  # noqa: F811
    store = store_in(bucket)
    for step, score in {1: 0.9, 2: 0.1, 3: None, 4: None}.items():
        assert save(store, step, score).failure is None
    save(store, 4, 0.3)
    assert [each.step for each in store.list_checkpoints()] == [1, 3, 4]
    newest, damaged = store.find_newest_intact()
    assert newest is not None
    assert damaged == []
    assert read(store.fetch(newest)) == (4, 4.0)
    assert len(store.storage.folders(newest.name)) == 1
    assert {label: each.step for label, each in store.publish().items()} == {"best": 1, "last": 4}
    for alias, step in {"best": 1, "last": 4}.items():
        assert read(store.storage.fetch(f"{alias}.ckpt")) == (step, float(step))
