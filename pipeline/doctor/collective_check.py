"""Checks that ranks reach each other in an all-reduce, within a time limit; each rank is a child that can be killed."""

import contextlib
import os
import re
import socket
import time
from datetime import timedelta

from pipeline.processes.killable_process import KillableProcess, ProcessHung
from pipeline.processes.machine import network_interfaces

NUM_VALUES = 2**22  # float32 values: 16 MiB
_ENFORCED = re.compile(r"\[enforce fail at \S+\] (?:\S+ != \S+\. )?")  # place in gloo's source, cut from its messages


def check_collective(
    rank: int, world_size: int, address: str, backend: str, limit_s: float, local_rank: int | None = None
) -> str:
    """Takes part in an all-reduce, as one rank.

    Args:
        rank: rank of this process.
        world_size: number of ranks; the other ranks must call this function at about the same time.
        address: host:port of rank 0, a free port there.
        backend: `gloo` or `nccl`.
        limit_s: time limit in seconds.
        local_rank: number of the GPU of this rank, for nccl; default: `rank`, all ranks being on this machine.

    Returns:
        A sentence with the seconds that the process group and an all-reduce took.

    Raises:
        ValueError: it failed or took too long; the message names the variable that chooses the network interface.
    """
    with KillableProcess() as child:  # killed at the end, as an incomplete process group may hang at exit
        try:
            gpu = rank if local_rank is None else local_rank
            return child.call(run_rank, rank, world_size, address, backend, limit_s, gpu, timeout=limit_s + 30)
        except ProcessHung:
            reason = f"no answer within {limit_s:g} s"
        except Exception as error:
            reason = _ENFORCED.sub("", " ".join(str(error).split()) or type(error).__name__)[:300]
    raise ValueError(
        f"rank {rank} of {world_size}, {backend} at {address}: {reason}; {interface_advice(address, backend)}"
    )


def interface_advice(address: str, backend: str) -> str:
    """Advice on the environment variable that chooses the network interface, and on its value."""
    names_of = {"nccl": ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"], "gloo": ["GLOO_SOCKET_IFNAME"]}[backend]
    variable = " and ".join(f"{name} (now {os.environ.get(name)!r})" for name in names_of)
    host, interfaces = address.rpartition(":")[0], network_interfaces()
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing: determines the route
        own_address = probe.getsockname()[0]
        route_interfaces = [name for name, address in interfaces.items() if address == own_address]
        if route_interfaces:
            interfaces = {name: address for name, address in interfaces.items() if address} or interfaces
            route = f"the way to {host} goes through {route_interfaces[0]}"
            names = _format_interfaces(interfaces)
            return f"set {variable} on the nodes: {route}; there are {names}"
    names = _format_interfaces(interfaces)
    return f"set {variable} to the interface between the nodes: {names}"


def _format_interfaces(interfaces: dict[str, str]) -> str:
    return ", ".join(f"{name} ({address})" if address else name for name, address in interfaces.items())


def run_rank(rank: int, world_size: int, address: str, backend: str, limit_s: float, gpu: int = 0) -> str:
    """The part of `check_collective` in the child, with the same arguments; it does not destroy its process group."""
    import torch
    import torch.distributed as dist

    began = time.monotonic()
    if backend == "nccl":
        torch.cuda.set_device(gpu)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if backend == "nccl" else backend,  # as a run on GPUs, whose ranks agree through gloo
        init_method=f"tcp://{address}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=limit_s),
    )
    dist.all_reduce(torch.ones(1))
    values = torch.ones(NUM_VALUES, device="cuda" if backend == "nccl" else "cpu")
    dist.all_reduce(values)
    ready = time.monotonic()
    dist.all_reduce(values)
    last = float(values[-1])  # waits for the device
    if last != world_size**2:
        raise RuntimeError(f"the sum is {last}, not {world_size**2}")
    return (
        f"{world_size} ranks over {backend} in {ready - began:.1f} s; "
        f"an all-reduce of {values.numel() * 4 / 2**20:.0f} MiB takes {time.monotonic() - ready:.3f} s"
    )
