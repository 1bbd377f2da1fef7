"""What is checked and prepared before anything reaches a cluster."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ray.job_submission import JobSubmissionClient

from jobs.client import local_state
from jobs.client.job_log import follow
from jobs.client.job_server import is_local_address
from jobs.client.local_cluster import check_resources
from jobs.client.local_resources import check_gpus, describe_cpus
from jobs.spec.job_spec import JobSpec
from jobs.submission.preflight import (
    check_configuration,
    check_dataset_folder,
    check_network_folders,
    check_verb,
    replaced_settings,
)
from jobs.submission.submit import environment, overlay, prepare_job
from jobs.submission.upload import stage_upload
from pipeline.processes.machine import num_processors
from tests.jobs.own_module import write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_the_staged_copy_alone_says_the_configuration(project: Path, tmp_path: Path) -> None:
    args = stage_upload(["fit", "--config", "mine.yaml", "--model.delay", "2"], project, tmp_path / "staged")
    (project / "own_module.py").unlink()  # only the copy is read
    assert "delay: 2.0" in check_configuration(args, tmp_path / "staged", project)


def test_a_module_that_stays_behind_is_missed_at_once(project: Path, tmp_path: Path) -> None:
    args = stage_upload(["fit", "--config", "mine.yaml"], project, tmp_path / "staged", exclude=["own_module.py"])
    with pytest.raises(ValueError, match=r"the configuration cannot be read: .*own_module") as caught:
        check_configuration(args, tmp_path / "staged", project)
    assert "\n" not in str(caught.value)


def test_a_misspelt_option(project: Path, tmp_path: Path) -> None:
    args = stage_upload(["fit", "--config", "mine.yaml", "--trainer.max_epox", "2"], project, tmp_path / "staged")
    with pytest.raises(ValueError, match=r"the configuration cannot be read: .*max_epox"):
        check_configuration(args, tmp_path / "staged", project)


def test_a_module_that_works_when_it_is_imported(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "own_module.py").write_text("import time\n\ntime.sleep(1000)\n")
    args = stage_upload(["fit", "--config", "mine.yaml"], project, tmp_path / "staged")
    monkeypatch.setattr("jobs.submission.preflight.CHECK_TIMEOUT_S", 0.5)
    with pytest.raises(ValueError, match=r"the configuration cannot be read: took more than 0\.5 s; does a module"):
        check_configuration(args, tmp_path / "staged", project)


@pytest.mark.parametrize("verb", ["fit", "predict", "pack", "evaluate", "features", "linear", "synthesize"])
def test_verbs_that_can_be_jobs(verb: str) -> None:
    check_verb([verb])


def test_the_environment_of_a_job() -> None:
    variables = environment(JobSpec(cpus_per_worker=4, threads_per_worker=2, env={"A": "b"}, wandb_mode="disabled"))
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "2"
    assert (variables["A"], variables["WANDB_MODE"]) == ("b", "disabled")
    assert "WANDB_MODE" not in environment(JobSpec()), "auto is decided on the node"


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    def check(class_path: str, root: str, **more: str) -> None:
        check_dataset_folder(yaml.safe_dump({"data": {"class_path": class_path, "init_args": {"root": root, **more}}}))

    ours = "datamodules.ShardedVideoDataModule"
    with pytest.raises(ValueError, match="absent: there is no such folder"):
        check(ours, str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="not a finished dataset"):
        check(ours, str(tmp_path))
    check(ours, "s3://bucket/absent", split_file="mine")
    check("own_module.Data", str(tmp_path / "absent"))
    check_dataset_folder("model: {}")


@pytest.mark.parametrize("option", ["encoder", "network"])
def test_the_folder_of_a_network_is_where_the_nodes_see_it(tmp_path: Path, option: str) -> None:
    def check(name: str, is_local: bool) -> list[str]:
        return check_network_folders(yaml.safe_dump({"model": {"init_args": {option: name}}}), is_local)

    there = f"transformers:{tmp_path}"
    assert check("transformers:microsoft/resnet-50", False) == check("small", False) == check(there, True) == []
    [note] = check(there, False)
    assert note == f"model.init_args.{option}={there} is read on the nodes and does not travel; each must have it"
    with pytest.raises(ValueError, match="absent: there is no such folder"):
        check(f"{there}/absent", True)
    resumed = {"model": {"init_args": {option: f"{there}/absent"}}, "ckpt_path": "last.ckpt"}
    assert check_network_folders(yaml.safe_dump(resumed), True) == []
    with pytest.raises(ValueError, match="nodes do not have it; give its path on storage"):
        check("transformers:./resnet", False)


def test_a_split_file_that_is_not_there(motion_dataset: Path) -> None:
    options = {"root": str(motion_dataset), "split_file": "mine"}
    resolved = yaml.safe_dump({"data": {"class_path": "datamodules.ShardedVideoDataModule", "init_args": options}})
    with pytest.raises(ValueError, match="split_file=mine: there is no"):
        check_dataset_folder(resolved)


def test_which_cluster_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert is_local_address(None)
    local_state.write_cluster(
        local_state.LocalCluster("http://127.0.0.1:9", 1, 1.0, "mark", str(tmp_path), str(tmp_path))
    )
    assert is_local_address("http://127.0.0.1:9/")
    assert not is_local_address("http://head:8265")
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert not is_local_address(None)


def test_a_cluster_that_runs_already_with_others() -> None:
    running = local_state.LocalCluster("http://127.0.0.1:9", 1, 1.0, "mark", "folder", "token", num_cpus=3)
    check_resources(running, None, None)
    check_resources(running, 3, None)
    with pytest.raises(ValueError, match=r"num_cpus=5: the cluster at http://127\.0\.0\.1:9 runs already, with 3 CPUs"):
        check_resources(running, 5, None)
    with pytest.raises(ValueError, match=r"num_gpus=1: .* with all GPUs of this machine; end it and its jobs with"):
        check_resources(running, 3, 1)


def test_a_local_cluster_that_would_not_have_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as on a machine without
    spec = JobSpec(num_workers=32, cpus_per_worker=12, gpus_per_worker=1)
    with (
        pytest.raises(ValueError, match=r"take 32 GPUs, and a local cluster on this machine would have 0; give the"),
        prepare_job(spec, ["fit"], read_config=False),
    ):
        pass
    check_gpus(JobSpec(num_workers=32))


def test_cpus_that_are_shared_are_said() -> None:
    assert describe_cpus(num_processors()) == f"with {num_processors()} CPUs"
    assert f"of which this machine has {num_processors()}: its workers share them" in describe_cpus(
        num_processors() + 2
    )


class NewCluster(BaseHTTPRequestHandler):
    """A job server that says its version and knows no job."""

    def do_GET(self) -> None:
        known = self.path == "/api/version"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(b'{"version": "4", "ray_version": "2.56.1"}' if known else b"no such job")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def new_cluster() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NewCluster) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(("gone", "said"), [(True, r"has gone \(Connection refused\)"), (False, "was started anew")])
def test_a_cluster_that_goes_while_its_job_is_followed(
    new_cluster: ThreadingHTTPServer, gone: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.client.job_log.MAX_REQUESTS", 1)
    address = f"http://127.0.0.1:{new_cluster.server_port}"
    client = JobSubmissionClient(address)
    if gone:
        new_cluster.shutdown()
        new_cluster.server_close()
    with pytest.raises(ConnectionError, match=f"the cluster at {address} {said}.*`python -m jobs resume a-0123` takes"):
        follow(client, "a-0123")


def test_settings_that_the_spec_replaces_are_said() -> None:
    spec = JobSpec(num_workers=2)
    assert replaced_settings("trainer: {strategy: auto, devices: auto, num_nodes: 1, accelerator: cpu}", spec) == []
    assert replaced_settings("trainer: {max_epochs: 1}", spec) == []
    kept = "trainer: {strategy: {class_path: pytorch_lightning.strategies.DDPStrategy, init_args: {dim: 0}}}"
    assert replaced_settings(kept, spec) == []
    said = replaced_settings("trainer: {strategy: fsdp, devices: 8, num_nodes: 4, accelerator: gpu}", spec)
    assert [note.split()[0] for note in said] == [
        "trainer.strategy=fsdp",
        "trainer.devices=8",
        "trainer.num_nodes=4",
        "trainer.accelerator=gpu",
    ]
    assert replaced_settings("trainer: {accelerator: gpu}", JobSpec(gpus_per_worker=1)) == []


def test_the_overlay_holds_what_the_spec_says() -> None:
    spec = JobSpec(gpus_per_worker=1, monitor="val/loss", monitor_mode="min", checkpoint_every_n_steps=7, keep_best=0)
    content = yaml.safe_load(overlay(spec))
    assert content["trainer"]["accelerator"] == "gpu"
    said = {"every_n_steps": 7, "keep_best": 0, "monitor": "val/loss", "monitor_mode": "min"}
    assert content["checkpoints"] == said, "what it does not say is left to the command"
    assert "checkpoints" not in yaml.safe_load(overlay(JobSpec()))
