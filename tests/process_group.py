"""A process group of one rank in this process, in which parameters are in shards that are the whole of them."""

import os
import socket
from collections.abc import Iterator

import pytest
import torch.distributed as dist

_OF_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@pytest.fixture
def rank_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment variables of the only rank; in the end, whoever made the process group, there is none.

    Nor are there the variables of ranks that Lightning sets, which later processes would take for a launcher's.
    """
    before = {name: os.environ.get(name) for name in _OF_RANKS}
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def one_rank(rank_variables: None) -> None:
    """The process group."""
    dist.init_process_group("gloo", rank=0, world_size=1)
