"""A process group of one rank in this process, in which parameters are in shards that are the whole of them."""

import socket
from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture
def rank_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment variables of the only rank; in the end, whoever made the process group, there is none."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture
def one_rank(rank_variables: None) -> None:
    """The process group."""
    dist.init_process_group("gloo", rank=0, world_size=1)
