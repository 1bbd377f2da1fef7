"""The store of checkpoints: what is kept, what is damaged, what is left over; on real files and real full disks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jobs.storage.checkpoint_store import CheckpointStore, NoCheckpointLeftError, SavedCheckpoint
from jobs.storage.run_folder import RunFolder


def weights(step: int, size: int = 1000) -> Callable[[Path], None]:
    return lambda path: torch.save({"step": step, "weights": torch.full((size,), float(step))}, path)


def store_in(folder: Path, keep: int = 2) -> CheckpointStore:
    store = CheckpointStore(RunFolder(str(folder), "run"), keep, "val/top1", "max")
    store.create()
    return store


def save(store: CheckpointStore, step: int, score: float | None = None) -> SavedCheckpoint:
    return store.save(weights(step), step, {"step": step} | ({} if score is None else {"val/top1": score}))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())


def steps(store: CheckpointStore) -> list[int]:
    return [each.step for each in store.saved()]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    scores = {1: 0.2, 2: 0.9, 3: None, 4: 0.8, 5: 0.1, 6: None, 7: 0.3, 8: None}
    for step, score in scores.items():
        save(store, step, score)
    assert steps(store) == [2, 4, 7, 8]
    assert files(tmp_path) == [f"step-{step:010d}.ckpt" for step in (2, 4, 7, 8)]
    assert [(label, each.step) for label, each in store.best_and_last()] == [("best", 2), ("last", 8)]


def test_less_is_better(tmp_path: Path) -> None:
    store = CheckpointStore(RunFolder(str(tmp_path), "run"), 1, "val/loss", "min")
    store.create()
    for step, loss in enumerate((0.5, 0.2, 0.4, 0.9)):
        store.save(weights(step), step, {"step": step, "val/loss": loss})
    assert steps(store) == [1, 3]


def test_without_a_metric_the_last_is_the_best(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert dict(store.best_and_last()) == {}
    for step in (1, 2, 3):
        save(store, step)
    assert [(label, each.step) for label, each in store.best_and_last()] == [("best", 3), ("last", 3)]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the weights: torch.load would not mind
    path.write_bytes(content)


def overwrite(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


@pytest.mark.parametrize(
    ("harm", "damage"),
    [
        (truncate, r"it has \d+ bytes of \d+"),
        (flip, "the checksum of .*data/0 does not fit"),
        (overwrite, "its table of contents cannot be read"),
        (Path.unlink, "it is missing"),
    ],
)
def test_a_damaged_one_is_said_and_the_one_before_taken(
    tmp_path: Path, harm: Callable[[Path], None], damage: str
) -> None:
    store = store_in(tmp_path)
    for step in (1, 2, 3):
        save(store, step)
    newest = tmp_path / "run" / "checkpoints" / "step-0000000003.ckpt"
    harm(newest)
    said: list[str] = []
    found = store.newest_whole(said.append)
    assert found is not None
    assert found.step == 2
    [line] = said
    assert line.endswith("step 2")
    assert re.search(damage, line), line
    assert steps(store) == [2], "it is no longer named"
    assert store.remove_orphans() == [], "and kept, renamed, for whoever wants to look"
    assert newest.with_name(newest.name + ".damaged").exists() == (harm is not Path.unlink)
    save(store, 3)
    assert steps(store) == [2, 3]


def test_none_is_whole(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.newest_whole(print) is None, "a run that begins"
    for step in (1, 2):
        truncate(Path(store.path(save(store, step))))
    with pytest.raises(NoCheckpointLeftError, match=r"name=run: none of the 2 .*\(the newest, step-0000000002"):
        store.newest_whole(print)
    assert dict(store.best_and_last()) == {}


def test_the_best_that_is_damaged_is_not_published(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for step, score in ((1, 0.5), (2, 0.9), (3, 0.1)):
        save(store, step, score)
    flip(tmp_path / "run" / "checkpoints" / "step-0000000002.ckpt")
    assert [(label, each.step) for label, each in store.best_and_last()] == [("best", 1), ("last", 3)]


def test_what_killed_attempts_left_is_removed_and_nothing_that_is_named(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for step in (1, 2):
        save(store, step)
    folder = tmp_path / "run" / "checkpoints"
    weights(3)(folder / "step-0000000003.ckpt")  # renamed, and killed before the record
    (folder / ".step-0000000003.ckpt.abc.partial").write_bytes(b"half")
    assert store.remove_orphans() == [".step-0000000003.ckpt.abc.partial", "step-0000000003.ckpt"]
    assert files(tmp_path) == ["step-0000000001.ckpt", "step-0000000002.ckpt"]
    assert store.remove_orphans() == []


def test_the_same_step_twice(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first, second = save(store, 1), save(store, 1)
    assert first.file != second.file
    assert torch.load(store.path(second))["step"] == 1
    assert len(files(tmp_path)) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_is_full(small_disk: Path) -> None:
    store = store_in(small_disk)
    saved = save(store, 1, 0.5)
    record = (small_disk / "run" / "checkpoints.json").read_bytes()
    with pytest.raises(OSError, match="No space left"):
        store.save(lambda path: path.write_bytes(b"x" * 2**21), 2, {})
    assert (small_disk / "run" / "checkpoints.json").read_bytes() == record
    assert files(small_disk) == [saved.file], "what was begun is removed, so that others have room"
    assert store.newest_whole(print) == saved
    (small_disk / "filler").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    with pytest.raises((OSError, RuntimeError)):  # torch has an error of its own, which the callback translates
        save(store, 2)
    assert store.newest_whole(print) == saved
    (small_disk / "filler").unlink()
    save(store, 3)
    assert steps(store) == [1, 3]


def test_a_storage_that_is_gone(small_disk: Path) -> None:
    store = store_in(small_disk)
    save(store, 1)
    subprocess.run(["umount", "-l", str(small_disk)], check=True)
    with pytest.raises(FileNotFoundError, match="is not there"):
        save(store, 2)
    assert list(small_disk.iterdir()) == [], "nothing is made where it was"
    with pytest.raises(FileNotFoundError, match="is not there"):
        store.newest_whole(print)


def test_a_killed_writer_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    saved = save(store, 1)
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.jobs.storage.test_checkpoint_store import *;"
        "store = store_in(Path(sys.argv[1]));"
        "store.save(lambda path: (path.write_bytes(b'half'), os.kill(os.getpid(), signal.SIGKILL)), 2, {})"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert len(files(tmp_path)) == 2
    assert [name.startswith(".step-0000000002") for name in store.remove_orphans()] == [True]
    assert store.newest_whole(print) == saved
    assert json.loads((tmp_path / "run" / "checkpoints.json").read_text())["checkpoints"][0]["step"] == 1
