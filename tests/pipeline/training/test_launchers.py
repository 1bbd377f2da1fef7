"""The same config on two processes, started by torchrun, by Lightning, and by Lightning's words for several nodes."""

import os
import socket
import subprocess
import sys

import pytest
import yaml
from pytorch_lightning.strategies import DDPStrategy

from lightning_modules.tasks.lightning_internals import ddp_options
from pipeline.processes.ddp_options import choose_ddp_options
from pipeline.training.lightning_cli import main
from pipeline.training.metrics_csv import read_metrics
from tests.conftest import REPOSITORY
from tests.pipeline.checkpoints.test_preemption import end
from tests.pipeline.training.test_lightning_cli import assert_same_weights, weights
from tests.pipeline.training.test_run import config  # noqa: F401 # a fixture

PYTHON = [sys.executable, "-m", "pipeline"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
TORCHRUN += ["--standalone", "-m", "pipeline"]
TWO = ["--trainer.strategy", "ddp", "--trainer.num_nodes", "1", "--trainer.devices", "2"]
TWO_NODES = ["--trainer.strategy", "ddp", "--trainer.num_nodes", "2", "--trainer.devices", "1"]


def run(*lines, **environments):
    """Runs command lines at the same time, to their end."""
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    clean |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    several = environments.get("environments") or [{}] * len(lines)
    processes = [
        subprocess.Popen(line, env=clean | more, stderr=subprocess.PIPE, text=True, start_new_session=True)
        for line, more in zip(lines, several, strict=True)
    ]
    for process in processes:
        status, error = end(process)
        assert status == 0, error


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_lightning_and_two_nodes_end_with_the_same_weights(config, tmp_path):  # noqa: F811
    """One epoch of 5 steps of 2 x 4 videos; a rank of torchrun's is killed once, and nobody types anything."""
    trainer, data = {"max_epochs": 1, "log_every_n_steps": 1}, {"num_workers": 1}
    die = {
        "class_path": "tests.pipeline.training.fault_injection.DieOnce",
        "init_args": {"step": 3, "folder": str(tmp_path)},
    }
    names = ("torchrun", "lightning", "nodes")
    changes = {name: {"callbacks": [die]} if name == "torchrun" else {} for name in names}
    words = {
        name: ["fit", "--config", config(name, trainer | changes[name], data, checkpoints={"every_n_steps": 1})]
        for name in names
    }
    # Without the variable the second attempt's ranks find the addresses of the first (pytorch issue 135712).
    restart = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    run([*TORCHRUN, *words["torchrun"], *TWO, "--ckpt_path", "last"], environments=[restart])
    assert (tmp_path / "died").exists()
    run([*PYTHON, *words["lightning"], *TWO])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    line = [*PYTHON, *words["nodes"], *TWO_NODES]
    run(line, line, environments=[shared | {"NODE_RANK": str(node)} for node in (0, 1)])
    ends = [tmp_path / name / "checkpoints" / "step-00000005.ckpt" for name in names]
    for other in ends[1:]:
        assert_same_weights(weights(ends[0]), weights(other))
    for name in names:  # one record each, whoever started the ranks
        rows = read_metrics(tmp_path / name / "metrics.csv")
        assert [row["samples"] for row in rows] == ["8", "16", "24", "32", "40"]
        assert not (tmp_path / name / "earlier").exists()
    assert {row["attempt"] for row in read_metrics(tmp_path / "torchrun" / "metrics.csv")} == {"1", "2"}


@pytest.mark.slow
def test_a_failed_fit_ends_the_ranks_that_it_started(config, tmp_path):  # noqa: F811
    fail = {
        "class_path": "tests.pipeline.training.fault_injection.FailBesideStuckRank",
        "init_args": {"step": 2, "folder": str(tmp_path)},
    }
    line = [*PYTHON, "fit", "--config", config(trainer={"callbacks": [fail]}), *TWO]
    done = subprocess.run(line, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 1
    assert "the machine is on fire" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ddp_options_that_are_given_hold_and_others_save_copies_and_messages():
    strategy = DDPStrategy()
    choose_ddp_options(strategy, set())
    assert ddp_options(strategy) == {"gradient_as_bucket_view": True, "forward_sync_buffers": False}
    given = {"broadcast_buffers": True, "gradient_as_bucket_view": False, "find_unused_parameters": True}
    strategy = DDPStrategy(**given)
    choose_ddp_options(strategy, given)
    assert ddp_options(strategy) == given


def test_the_options_of_a_strategy_are_kept_under_ray(tmp_path, capsys):
    hook = "torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook"
    given = {"ddp_comm_hook": hook, "find_unused_parameters": True, "bucket_cap_mb": 50}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"strategy": {"class_path": "DDPStrategy", "init_args": given}}}))
    demo, overlay = (str(REPOSITORY / name) for name in ("pipeline/configs/demo.yaml", "jobs/configs/ray.yaml"))
    with pytest.raises(SystemExit):
        main(["fit", "--config", demo, "--config", str(path), "--config", overlay, "--print_config"])
    strategy = yaml.safe_load(capsys.readouterr().out)["trainer"]["strategy"]
    assert strategy["class_path"] == "ray.train.lightning.RayDDPStrategy"
    assert {name: strategy["init_args"][name] for name in given} == given
