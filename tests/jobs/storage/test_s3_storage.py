"""A run whose storage is s3://, against moto's S3 server: checkpoints, metrics.csv on the next node, doctor; a job."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jobs.client import local_state
from jobs.storage.metrics_copy import MetricsCopy
from jobs.storage.run_folder import RunFolder
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.doctor.storage_check import check_storage
from pipeline.training.metrics_csv import METRICS_NAME, MetricsFile, read_metrics
from tests.jobs.conftest import SPEC, Run
from tests.jobs.own_module import CONFIG
from tests.jobs.training import fault_injection
from tests.pipeline.checkpoints.test_checkpoint_store import published, save, steps, store_in
from tests.s3_server import environment_for

URI = "s3://jobs/runs"


@pytest.fixture(scope="module", autouse=True)
def bucket(s3_server: tuple[subprocess.Popen[bytes], str]) -> Iterator[Any]:
    """A file system that sees s3://jobs, as do all processes that are started from here."""
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_for(s3_server[1]).items():
            patch.setenv(name, value)
        filesystem = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        filesystem.mkdir("jobs")
        yield filesystem


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of a node of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_checkpoints_are_kept_checked_and_removed(bucket: Any, node: Path) -> None:
    store = store_in(f"{URI}/kept")
    for step, score in ((1, 0.9), (2, 0.1), (3, 0.8), (4, 0.2), (5, None)):
        saved = save(store, step, score)
    assert steps(store) == [1, 3, 4, 5]
    assert torch.load(store.fetch(saved))["step"] == 5
    assert store.fetch(saved).is_relative_to(node)
    store.begin(5)
    assert not list(node.rglob("*step-*")), "what training has read is not kept on the node"
    run = "jobs/runs/kept/run"
    path = f"{run}/checkpoints/step-00000005.ckpt"
    content = bytearray(bucket.cat(path))
    content[len(content) // 2] ^= 1
    bucket.pipe(path, bytes(content))
    store = CheckpointStore(store.storage)
    found, damaged = store.find_newest_intact()
    assert found is not None
    assert found.step == 4
    said: list[str] = []
    store.rename_damaged(damaged, found, said.append)
    assert re.search(r"s3://jobs/.*step-00000005.ckpt is damaged \(the checksum of .*s3://jobs/runs/kept/run", said[0])
    assert bucket.exists(path + ".damaged")
    assert not bucket.exists(f"{run}/last.ckpt"), "a copy, which costs: made at the end"
    assert published(store) == {"best": 1, "last": 4}
    with pytest.raises(FileNotFoundError, match="a checkpoint at a URL has to be copied to this machine first"):
        read_checkpoint(Path(f"{URI}/kept/run/best.ckpt"))
    bucket.get(f"{run}/best.ckpt", str(node / "best.ckpt"))
    assert torch.load(node / "best.ckpt")["step"] == 1


def test_the_rows_go_on_on_another_node(bucket: Any, tmp_path: Path) -> None:
    run = RunFolder(URI, "moves")
    first = MetricsCopy(run, is_resumed=False)
    first.begin(tmp_path / "one")
    first.store()
    assert not bucket.exists("jobs/runs/moves/metrics.csv"), "nothing was logged"
    rows = MetricsFile(tmp_path / "one" / METRICS_NAME)
    for step in (10, 20, 30):
        rows.add(step, {"train/loss": 1.0, "attempt": 1})
    first.store()
    rows.add(40, {"train/loss": 1.0, "attempt": 1})
    second = MetricsCopy(run, is_resumed=True)
    second.begin(tmp_path / "two")
    rows = MetricsFile(tmp_path / "two" / METRICS_NAME, after=20)
    assert rows.dropped == 1
    rows.add(30, {"train/loss": 0.5, "attempt": 2})
    second.store()
    there = tmp_path / "there.csv"
    there.write_bytes(bucket.cat("jobs/runs/moves/metrics.csv"))
    assert [(row["step"], row["attempt"]) for row in read_metrics(there)] == [("10", "1"), ("20", "1"), ("30", "2")]
    MetricsCopy(run, is_resumed=False).begin(tmp_path / "three")
    assert not (tmp_path / "three").exists(), "another run begins"


def test_a_folder_needs_no_copies(tmp_path: Path) -> None:
    copy = MetricsCopy(RunFolder(str(tmp_path), "run"), is_resumed=True)
    copy.begin(tmp_path / "elsewhere")
    MetricsFile(tmp_path / "elsewhere" / METRICS_NAME).add(1, {})
    copy.store()
    assert not (tmp_path / "run").exists()


def test_doctor_tries_the_bucket() -> None:
    assert check_storage(URI) == f"{URI}: written, renamed, read and removed"
    with pytest.raises(ValueError, match=r"storage_path=s3://absent/runs: cannot be written .*absent.*credentials"):
        check_storage("s3://absent/runs")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_killed_on_a_node_that_is_lost(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, bucket: Any
) -> None:
    shutil.copy(Path(fault_injection.__file__), folder)
    content = yaml.safe_load(CONFIG)
    content["trainer"] |= {"log_every_n_steps": 1, "logger": False}
    content["trainer"]["callbacks"] = [{"class_path": "fault_injection.NodeLoss", "init_args": {"folder": str(folder)}}]
    (folder / "lost.yaml").write_text(yaml.safe_dump(content))
    arguments = ["submit", "--spec", SPEC, "--num_workers", "1", "--name", "lost", "--storage_path", URI, "--no_check"]
    arguments += ["--checkpoint_every_n_steps", "3", "--wait", "--", "fit", "--config", "lost.yaml"]
    finished = run_jobs(*arguments)
    assert finished.returncode == 0, finished.stdout
    assert re.findall(r"TRAINS from step (\d+)", finished.stdout) == ["0", "9"]
    assert finished.stdout.splitlines()[-1] == f"result: {URI}/lost/result.json"
    left = {path.removeprefix("jobs/runs/lost/") for path in bucket.find("jobs/runs/lost")}
    assert {"best.ckpt", "last.ckpt", "checkpoints/step-00000032.ckpt", "failures.jsonl", METRICS_NAME} <= left
    metrics = folder / "lost.csv"
    metrics.write_bytes(bucket.cat("jobs/runs/lost/metrics.csv"))
    attempts = {int(row["step"]): row["attempt"] for row in read_metrics(metrics)}
    assert attempts == {step: "1" if step <= 9 else "2" for step in range(1, 33)}
    assert [bool(row["val/top1"]) for row in read_metrics(metrics)] == [step % 16 == 0 for step in range(1, 33)]
    result = json.loads(bucket.cat("jobs/runs/lost/result.json"))
    assert result["metrics"]["last"]["step"] == 32
    assert not (folder / "runs").exists(), "nothing is left where the job was submitted"
    shutil.rmtree(RunFolder(URI, "lost").storage.node_folder())
