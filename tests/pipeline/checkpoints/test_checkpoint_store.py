"""The store of checkpoints: what is kept, what is damaged, what is left over; on real files and real full disks."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_record import CheckpointRecord
from pipeline.checkpoints.checkpoint_store import CheckpointStore, NoIntactCheckpointError
from pipeline.checkpoints.storage import LocalStorage, open_storage


def weights(step: int, size: int = 1000) -> Callable[[Path], None]:
    return lambda path: torch.save({"step": step, "weights": torch.full((size,), float(step))}, path)


def store_in(address: object, keep_newest: int = 2, keep_best: int = 2, **best: str) -> CheckpointStore:
    options = CheckpointOptions(keep_newest=keep_newest, keep_best=keep_best, **best)  # type: ignore[arg-type]
    store = CheckpointStore(open_storage(f"{address}/run"), options)
    store.begin(0)
    return store


def save(store: CheckpointStore, step: int, score: float | None = None) -> CheckpointRecord:
    return store.save(weights(step), step, {"step": step} | ({} if score is None else {"val/top1": score}))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run" / "checkpoints").iterdir() if path.suffix != ".json")


def published(store: CheckpointStore) -> dict[str, int]:
    return {label: each.step for label, each in store.publish().items()}


def find_newest_intact(store: CheckpointStore) -> CheckpointRecord | None:
    return store.find_newest_intact()[0]


def steps(store: CheckpointStore) -> list[int]:
    return [each.step for each in store.list_checkpoints()]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    scores = {1: 0.2, 2: 0.9, 3: None, 4: 0.8, 5: 0.1, 6: None, 7: 0.3, 8: None}
    for step, score in scores.items():
        save(store, step, score)
    assert steps(store) == [2, 4, 7, 8]
    assert files(tmp_path) == [f"step-{step:08d}.ckpt" for step in (2, 4, 7, 8)]
    for alias, step in {"best": 2, "last": 8}.items():
        assert (tmp_path / "run" / f"{alias}.ckpt").resolve() == tmp_path / "run" / f"checkpoints/step-{step:08d}.ckpt"
    assert published(store) == {"best": 2, "last": 8}
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert torch.load(tmp_path / "moved" / "best.ckpt")["step"] == 2, "links are relative"


def test_less_is_better(tmp_path: Path) -> None:
    store = store_in(tmp_path, 1, 1, monitor="val/loss", monitor_mode="min")
    for step, loss in enumerate((0.5, 0.2, 0.4, 0.9)):
        store.save(weights(step), step, {"step": step, "val/loss": loss})
    assert steps(store) == [1, 3]
    assert published(CheckpointStore(store.storage)) == {"best": 1, "last": 3}, "whoever reads needs no options"


def test_without_a_metric_the_last_is_the_best(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert published(store) == {}
    for step in (1, 2, 3):
        save(store, step)
    assert published(store) == {"best": 3, "last": 3}


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
    newest = tmp_path / "run" / "checkpoints" / "step-00000003.ckpt"
    harm(newest)
    found, damaged = store.find_newest_intact()
    assert found is not None
    assert found.step == 2
    said: list[str] = []
    store.rename_damaged(damaged, found, said.append)
    [line] = said
    assert line.endswith("step 2")
    assert re.search(damage, line), line
    assert steps(store) == [2], "of two that are kept"
    assert store.begin(2) == [], "and kept, renamed, for whoever wants to look"
    assert (tmp_path / "run" / "last.ckpt").resolve().name == "step-00000002.ckpt"
    assert newest.with_name(newest.name + ".damaged").exists() == (harm is not Path.unlink)
    save(store, 3)
    assert steps(store) == [2, 3]
    assert store.find_newest_intact() == (store.list_checkpoints()[-1], [])


def test_none_is_whole(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.find_newest_intact() == (None, []), "a run that begins"
    for step in (1, 2):
        truncate(store.fetch(save(store, step)))
    with pytest.raises(NoIntactCheckpointError, match=r"none of the 2 .*run/checkpoints can be read \(step-00000002"):
        store.find_newest_intact()
    assert published(store) == {}


def test_the_best_that_is_damaged_is_not_published(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for step, score in ((1, 0.5), (2, 0.9), (3, 0.1)):
        save(store, step, score)
    flip(tmp_path / "run" / "checkpoints" / "step-00000002.ckpt")
    assert published(store) == {"best": 1, "last": 3}


def test_what_killed_attempts_left_is_removed_and_no_checkpoint(tmp_path: Path) -> None:
    store = store_in(tmp_path, keep_newest=3)
    for step in (1, 2):
        save(store, step)
    folder = tmp_path / "run" / "checkpoints"
    weights(3)(folder / "step-00000003.ckpt")  # renamed, and killed before the record: it counts
    (folder / ".step-00000004.ckpt.abc.partial").write_bytes(b"half")
    (folder / "notes.txt").touch()
    assert store.begin(3) == [".step-00000004.ckpt.abc.partial"]
    assert files(tmp_path) == ["notes.txt", *(f"step-{step:08d}.ckpt" for step in (1, 2, 3))]
    assert find_newest_intact(store) == store.list_checkpoints()[-1]
    assert store.begin(3) == []


def test_the_course_that_was_left_goes_when_there_is_a_new_checkpoint(tmp_path: Path) -> None:
    store = store_in(tmp_path, keep_newest=5)
    for step in (2, 4, 6, 8):
        save(store, step, step / 10)
    store.begin(4)
    assert steps(store) == [2, 4, 6, 8], "until then they are the only ones of their course"
    save(store, 5)
    assert steps(store) == [2, 4, 5]
    assert published(store) == {"best": 4, "last": 5}


def test_the_same_step_twice(tmp_path: Path) -> None:
    """Before and after its validation; and killed between file and record, which then has the size of before."""
    store = store_in(tmp_path)
    save(store, 1)
    store.save(weights(1, size=2000), 1, {"val/top1": 0.5})
    assert (len(files(tmp_path)), store.list_checkpoints()[0].metrics) == (1, {"val/top1": 0.5})
    weights(1, size=3000)(store.fetch(store.list_checkpoints()[0]))
    assert find_newest_intact(store) == store.list_checkpoints()[0]


def test_a_record_that_cannot_be_read_costs_the_scores_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    save(store, 1, 0.9)
    (tmp_path / "run" / "checkpoints" / "checkpoints.json").write_text("{half")
    assert steps(store) == [1]
    save(store, 2, 0.1)
    assert published(store) == {"best": 2, "last": 2}


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
    record = small_disk / "run" / "checkpoints" / "checkpoints.json"
    before = record.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        store.save(lambda path: path.write_bytes(b"x" * 2**21), 2, {})
    assert record.read_bytes() == before
    assert files(small_disk) == [saved.file], "what was begun is removed, so that others have room"
    assert find_newest_intact(store) == saved
    (small_disk / "filler").write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    with pytest.raises((OSError, RuntimeError)):  # torch has an error of its own, which the callback translates
        save(store, 2)
    assert find_newest_intact(store) == saved
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
        store.find_newest_intact()


def test_a_killed_writer_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    saved = save(store, 1)
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from tests.pipeline.checkpoints.test_checkpoint_store import *;"
        "store = store_in(Path(sys.argv[1]));"
        "store.save(lambda path: (path.write_bytes(b'half'), os.kill(os.getpid(), signal.SIGKILL)), 2, {})"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert len(files(tmp_path)) == 2
    assert [name.startswith(".step-00000002") for name in store.begin(1)] == [True]
    assert find_newest_intact(store) == saved
    assert json.loads((tmp_path / "run/checkpoints/checkpoints.json").read_text())["checkpoints"][0]["step"] == 1


def test_a_file_system_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What link and symlink raise on exFAT, SMB and buckets that are mounted; there is none of them here to mount."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    storage = LocalStorage(tmp_path)
    (tmp_path / "a.ckpt").write_text("a")
    for refused in ((), ("symlink_to",), ("symlink_to", "hardlink_to")):
        for name in refused:
            monkeypatch.setattr(Path, name, refuse)
        (tmp_path / "last.ckpt").unlink(missing_ok=True)
        for _ in range(2):
            storage.link("a.ckpt", "last.ckpt")
        assert (tmp_path / "last.ckpt").read_text() == "a"
        assert (tmp_path / "last.ckpt").is_symlink() == (not refused)
        assert (tmp_path / "a.ckpt").stat().st_nlink == (2 if len(refused) == 1 else 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "last.ckpt"]
