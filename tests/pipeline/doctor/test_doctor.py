"""`doctor`: each check finds what it is there to find, on real files, sockets and processes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.doctor.check_results import CheckResult, SkippedCheck, combine_results, compare_versions, run_check
from pipeline.doctor.collective_check import check_collective
from pipeline.doctor.doctor import loader_memory, parse_plan, plan_from_configuration
from pipeline.doctor.machine_checks import (
    check_dataset,
    check_decoder,
    check_disk,
    check_gpu,
    check_shared_memory,
    check_wandb,
    installed_versions,
)
from pipeline.doctor.step_check import check_step, step_advice
from pipeline.doctor.storage_check import check_storage, missing_probes, new_token, remove_probe, write_probe
from pipeline.processes.killable_process import KillableProcess, ProcessDied
from pipeline.processes.machine import free_ports, network_interfaces
from tests.conftest import REPOSITORY


def skipped(text: str) -> SkippedCheck:
    return SkippedCheck(text)


def test_versions_that_differ_between_nodes_are_named():
    same = installed_versions()
    assert same["torch"]
    assert compare_versions({"one": same, "two": same}).status == "passed"
    found = compare_versions({"one": same, "two": same | {"torch": "1.0"}, "three": same | {"torch": "1.0", "av": ""}})
    assert found.status == "failed"
    assert f"torch {same['torch']} on one, 1.0 on two, three" in found.text
    assert f"av {same['av']} on one, two, none on three" in found.text
    assert "install the same everywhere" in found.text
    driver = compare_versions({"one": {"NVIDIA driver": "570.1"}, "two": {"NVIDIA driver": "550.9"}})
    assert (driver.status, {"NVIDIA driver", "CUDA", "cuDNN", "NCCL"} <= set(same)) == ("failed", True)


def test_findings_of_nodes_are_put_together():
    def node(*statuses):
        return [CheckResult(f"check {n}", status, f"{status} text") for n, status in enumerate(statuses)]

    found = combine_results({"a": node("passed", "passed", "skipped"), "b": node("passed", "failed", "skipped")})
    assert [each.status for each in found] == ["passed", "failed", "skipped"]
    assert [each.text for each in found] == ["on 2 of 2 nodes: passed text", "b: failed text", "skipped text"]
    many = combine_results({f"n{n}": node("failed") for n in range(9)})
    assert many[0].text == "n0, n1, n2, n3 and 5 more: failed text"
    assert combine_results({"a": node("passed"), "b": node("skipped")})[0].text == "on 1 of 2 nodes: passed text"


def test_examine_turns_what_happens_into_a_finding():
    def fails():
        raise OSError("no\n such  thing")

    def skips():
        raise skipped("not here")

    assert run_check("a", lambda: "fine") == CheckResult("a", "passed", "fine")
    assert run_check("a", fails) == CheckResult("a", "failed", "no such thing")
    assert run_check("a", skips) == CheckResult("a", "skipped", "not here")


def test_decoder():
    assert check_decoder("pyav").startswith("pyav ")
    with pytest.raises(ValueError, match="decoder='nosuch'"):
        check_decoder("nosuch")


def test_data(motion_dataset):
    assert "videos read in" in check_dataset(str(motion_dataset), "pyav")
    with pytest.raises(SkippedCheck):
        check_dataset(None, "pyav")
    with pytest.raises(ValueError, match="there is no such folder"):
        check_dataset(str(motion_dataset / "absent"), "pyav")


def test_a_shard_that_cannot_be_read(motion_dataset, tmp_path):
    spoilt = shutil.copytree(motion_dataset, tmp_path / "spoilt")
    shard = sorted(spoilt.glob("*-test-*.tar"))[0]
    content = bytearray(shard.read_bytes())
    content[600:] = bytes(len(content) - 600)
    shard.unlink()
    shard.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"test: video .* of {shard.name} in .* cannot be read.*`python -m pipeline ve"
    ):
        check_dataset(str(spoilt), "pyav")
    shard.unlink()
    with pytest.raises(ValueError, match=rf"shards are missing, first {shard.name}"):
        check_dataset(str(spoilt), "pyav")


def test_disk(tmp_path):
    assert str(tmp_path) in check_disk({"storage": str(tmp_path / "not" / "yet")}, {})
    with pytest.raises(ValueError, match=r"storage: .* GiB are free at .*, fewer than .*; make room"):
        check_disk({"storage": str(tmp_path)}, {"storage": 2**60})


def test_shared_memory_is_compared_with_what_loaders_may_hold(tmp_path):
    """24 clips of 64 frames of 224 x 224 pixels; 11 workers with 2 batches ahead and 3 that training holds."""
    options = {"batch_size": 24, "num_workers": 11, "num_frames": 64, "crop_size": 224}
    assert loader_memory(options) == 24 * 64 * 224 * 224 * 3 * 11 * 5
    assert loader_memory(options | {"pixels": "i420", "prefetch_factor": 1}) == 24 * 64 * 224 * 224 * 3 // 2 * 11 * 4
    assert loader_memory({}) == 8 * 16 * 112 * 112 * 3 * 2 * 5  # the defaults of the data module
    assert check_shared_memory(2**20, 8, str(tmp_path)).endswith("loaders may hold 0.01 GiB of batches")
    with pytest.raises(ValueError, match=r"loaders may hold 8388608\.00 GiB of batches: make it larger .*--shm-size"):
        check_shared_memory(2**50, 8, str(tmp_path))
    for size, folder in ((0, tmp_path), (1, tmp_path / "absent")):
        with pytest.raises(SkippedCheck):
            check_shared_memory(size, 1, str(folder))


def test_storage_is_left_as_it_was(tmp_path):
    assert "written, renamed, read and removed" in check_storage(str(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []


def test_storage_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"storage_path=.*/file: cannot be written \(.*give a folder"):
        check_storage(str(tmp_path / "file"))
    with pytest.raises(ValueError, match="storage_path=nosuch://a/b"):
        check_storage("nosuch://a/b")


def test_a_read_only_storage_path(tmp_path):
    """As another user where this one is root, to whom modes mean nothing."""
    folder = tmp_path / "storage"
    folder.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)
    command = ["from pipeline.doctor.storage_check import check_storage", f"check_storage({str(folder)!r})"]
    if os.getuid() == 0:
        command.insert(1, "import os; os.setgid(65534); os.setuid(65534)")
    done = subprocess.run([sys.executable, "-c", "; ".join(command)], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1
    assert f"ValueError: storage_path={folder}: cannot be written (Permission denied)" in done.stderr


def test_what_other_nodes_wrote_is_looked_for(tmp_path):
    token = new_token()
    write_probe(str(tmp_path), token, "one")
    assert missing_probes(str(tmp_path), token, ["one", "two"], timeout_s=0.1) == ["two"]
    assert missing_probes(str(tmp_path / "elsewhere"), token, ["one"], timeout_s=0) == ["one"]
    remove_probe(str(tmp_path), token, "one")
    assert list(tmp_path.iterdir()) == []


def test_wandb(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SkippedCheck):
        check_wandb(False, None)
    assert "offline" in check_wandb(True, "auto")
    assert "no server is needed" in check_wandb(None, "disabled")
    with pytest.raises(ValueError, match="has no key: set WANDB_API_KEY"):
        check_wandb(True, "online")
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_ports('127.0.0.1', 1)[0]}")
    with pytest.raises(ValueError, match=r"does not answer .*refused.*wandb_mode: offline"):
        check_wandb(True, "online")


def test_gpu():
    import torch

    if torch.cuda.is_available():
        assert "GiB" in check_gpu(True)
        return
    with pytest.raises(SkippedCheck):
        check_gpu(None)
    with pytest.raises(ValueError, match=r"sees no GPU: .*gpus_per_worker: 0"):
        check_gpu(True)


def test_a_wrong_interface_is_named_with_those_there_are(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    with pytest.raises(
        ValueError, match=r"nosuch0.*; set GLOO_SOCKET_IFNAME \(now 'nosuch0'\).*goes through lo"
    ) as found:
        check_collective(0, 1, f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}", "gloo", 30)
    assert network_interfaces()["lo"] == "127.0.0.1"
    assert "there are lo (127.0.0.1)" in str(found.value)


def test_a_rank_that_never_comes_costs_the_time_limit():
    with pytest.raises(ValueError, match=r"rank 0 of 2, gloo at 127\.0\.0\.1:\d+: .*; set GLOO_SOCKET_IFNAME"):
        check_collective(0, 2, f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}", "gloo", 2)


def test_two_ranks_meet(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    address, said = f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}", {}
    ranks = [
        threading.Thread(target=lambda n: said.update({n: check_collective(n, 2, address, "gloo", 60)}), args=(rank,))
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert said[0].startswith("2 ranks over gloo in ")


def write_config(path: Path, root: Path, **data: object) -> Path:
    data = {"root": str(root), "batch_size": 4, "crop_size": 32, "flip_probability": 0.0, "num_workers": 1} | data
    content = {
        "model": {"class_path": "C3D", "init_args": {"width": 2, "num_frames": 16, "crop_size": 32}},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": {"accelerator": "cpu", "devices": 8, "num_nodes": 4, "max_epochs": 50},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_one_real_step(motion_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "c.yaml", motion_dataset)
    told = check_step(["--config", str(config)], 200)
    assert told.startswith("clips (4, 16, 32, 32, 3) uint8; a step takes ")
    assert "GiB of memory" in told
    assert list(tmp_path.iterdir()) == [config], "no logs, no checkpoints"
    with pytest.raises(ValueError, match="crop_size"):
        check_step(["--config", str(config), "--data.init_args.crop_size=0"], 200)


def test_a_step_that_does_not_end():
    with pytest.raises(ValueError, match=r"two steps took longer than 0\.1 s: make the batch smaller"):
        check_step(["--config", "any.yaml"], 0.1)


def test_a_batch_that_is_too_big_is_to_be_made_smaller():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    told = step_advice(caught.value)
    assert told.startswith("one step does not fit into this machine's memory: lower data.init_args.batch_size or num_w")
    assert f"you tried to allocate {2**60} bytes" in told
    on_gpu = RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    assert "into the GPU (CUDA out of memory. Tried to allocate 20.00 GiB.): lower data.init_args.batch_size" in (
        step_advice(on_gpu)
    )
    with KillableProcess() as child, pytest.raises(ProcessDied) as died:
        child.call(signal.raise_signal, signal.SIGKILL, timeout=10)
    assert "lower data.init_args.batch_size" in step_advice(died.value)


def test_what_a_configuration_says():
    assert (
        plan_from_configuration({"data": {"class_path": "own.Data", "init_args": {"root": "x"}}}, ["--config=a"]).data
        is None
    )
    loggers = [{"class_path": "WandbLogger", "init_args": {"offline": True}}]
    told = plan_from_configuration(
        {"data": {"class_path": "ShardedVideoDataModule", "init_args": {"root": "x"}}, "trainer": {}}, []
    )
    assert (told.data, told.wandb, told.gpu) == ("x", False, None)
    assert (told.precision, told.is_foreign) == (None, False)
    assert (told.shared_memory_bytes, told.num_ranks) == (loader_memory({}), None)
    assert plan_from_configuration({"trainer": {"devices": 4}}, []).num_ranks == 4
    for accelerator, gpu in (("gpu", True), ("cuda", True), ("cpu", False), ("auto", None)):
        trainer = {"accelerator": accelerator, "precision": "bf16-mixed"}
        told = plan_from_configuration({"trainer": trainer, "model": {"class_path": "lightning_modules.C3D"}}, [])
        assert (told.gpu, told.precision, told.is_foreign) == (gpu, "bf16-mixed", False)
    assert plan_from_configuration({"model": {"class_path": "mine.Network"}}, []).is_foreign
    assert plan_from_configuration({"trainer": {"logger": loggers}}, []).wandb is False
    loggers[0]["init_args"] = {}
    assert plan_from_configuration({"trainer": {"logger": loggers, "accelerator": "gpu"}}, []).wandb is True


def test_a_configuration_that_cannot_be_read_is_a_finding(tmp_path):
    (tmp_path / "c.yaml").write_text("trainer: {max_epox: 1}")
    plan, [finding] = parse_plan(["--config", str(tmp_path / "c.yaml"), "--storage-path", "runs"])
    assert (plan.config, plan.storage_path, finding.check, finding.status) == ((), "runs", "configuration", "failed")
    assert "max_epox" in finding.text


@pytest.mark.slow
def test_the_command(motion_dataset, tmp_path):
    config = write_config(tmp_path / "c.yaml", motion_dataset)

    def doctor(*words: object) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pipeline", "doctor", *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, cwd=tmp_path)

    well = doctor("--config", config, "--storage-path", "runs")
    assert well.returncode == 0, well.stdout + well.stderr
    assert well.stdout.strip().splitlines()[-1] == "10 passed, 0 failed, 2 skipped"
    (tmp_path / "file").write_text("")
    ill = doctor("--data", tmp_path / "absent", "--storage-path", "file")
    assert ill.returncode == 1
    assert ill.stdout.strip().splitlines()[-1].startswith("6 passed, 2 failed")
    assert "Traceback" not in ill.stdout + ill.stderr
