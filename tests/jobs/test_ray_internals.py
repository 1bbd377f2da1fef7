"""What is used of Ray's private interfaces is there, and does what we take it for."""

import importlib
import inspect
import logging
import typing
from pathlib import Path

import pytest
from ray import serve
from ray._private import state
from ray._private.utils import write_ray_address
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.version import DeploymentVersion
from ray.train.v2._internal.execution import context
from ray.train.v2._internal.execution.worker_group.thread_runner import ThreadRunner

from jobs import ray_internals
from jobs.training.attempts import SigtermTorchConfig


def test_the_exception_of_a_rank_is_unwrapped() -> None:
    raised, runner = ValueError("of the user"), ThreadRunner()

    def fail() -> None:
        raise raised

    runner.run(fail)  # as Ray Train runs a training function; its thread ends when the error is there
    runner._thread.join(timeout=10)
    error = runner.get_error()
    assert error is not None
    assert type(error) is not ValueError
    assert ray_internals.user_exception(error) is raised
    assert ray_internals.user_exception(raised) is raised


@pytest.mark.parametrize("name", [*ray_internals.FAILURE_LOGGERS, *ray_internals.CLIENT_LOGGERS])
def test_a_logger_that_is_quietened_is_there(name: str) -> None:
    module = importlib.import_module(name)
    loggers = [each for each in vars(module).values() if isinstance(each, logging.Logger)]
    assert name in [logger.name for logger in loggers]


def test_the_message_about_reports_begins_as_it_did() -> None:
    assert f'f"{ray_internals.REPORT_MESSAGE} ' in inspect.getsource(context)


def test_the_backend_hears_when_training_starts() -> None:
    backend = SigtermTorchConfig().backend_cls
    assert issubclass(backend, ray_internals.torch_backend())
    assert "worker_group" in inspect.signature(ray_internals.torch_backend().on_training_start).parameters


def test_gpus_and_the_largest_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_internals.num_local_gpus() >= 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert ray_internals.num_local_gpus() == 0
    assert ray_internals.max_upload_bytes() == 100 * 2**20


def test_the_state_knows_the_nodes_that_are_drained() -> None:
    assert isinstance(state.state, state.GlobalState)
    returned = inspect.signature(state.state.get_draining_nodes).return_annotation
    assert typing.get_args(returned) == (str, int)


def test_a_deployment_keeps_the_version_it_is_given() -> None:
    class Replica:
        pass

    deployment = serve.deployment(Replica, user_config={"a": 1})
    fixed = ray_internals.fixed_version(deployment, "1")
    assert (deployment.version, fixed.version, fixed.user_config) == (None, "1", {"a": 1})
    versions = [DeploymentVersion("1", DeploymentConfig(user_config={"a": number}), {}) for number in (1, 2)]
    assert versions[0].requires_actor_reconfigure(versions[1])
    assert not versions[0].requires_actor_restart(versions[1])


def test_the_local_cluster_says_its_address(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="does not say its address"):
        ray_internals.cluster_address(str(tmp_path))
    (tmp_path / "r").mkdir()
    write_ray_address("127.0.0.1:6379", str(tmp_path / "r"))  # what `ray start` calls
    assert ray_internals.cluster_address(str(tmp_path)) == "127.0.0.1:6379"
