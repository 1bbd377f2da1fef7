"""Whether processes reach each other in a collective, within a time limit: each rank is a child that can be killed."""

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from datetime import timedelta

from pipeline.processes.machine import network_interfaces

VALUES = 2**22  # float32: 16 MiB
_ENFORCED = re.compile(r"\[enforce fail at \S+\] (?:\S+ != \S+\. )?")  # where in gloo's source it was noticed


def check_collective(rank: int, world_size: int, address: str, backend: str, limit_s: float) -> str:
    """Takes part in an all-reduce, as one rank.

    Args:
        rank: of this process.
        world_size: ranks in all; the others must call this at about the same time.
        address: host:port of rank 0, free there.
        backend: `gloo` or `nccl`.
        limit_s: seconds until the rank is given up.

    Returns:
        How long it took.

    Raises:
        ValueError: it failed or took too long; the message names the variable that chooses the network interface.
    """
    command = [sys.executable, "-m", "pipeline.doctor.collective_check", str(rank), str(world_size), address, backend]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [*command, str(limit_s)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit_s + 30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {limit_s:g} s"
    else:
        if done.returncode == 0:
            return done.stdout.strip().splitlines()[-1]
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        reason = _ENFORCED.sub("", lines[-1])[:300]
    raise ValueError(f"rank {rank} of {world_size}, {backend} at {address}: {reason}; {advice(address, backend)}")


def advice(address: str, backend: str) -> str:
    """Which variable to set to which interface, in words."""
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    host, here = address.rpartition(":")[0], network_interfaces()
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, 9))  # sends nothing: asks which way there is
        own = way.getsockname()[0]
        through = [name for name, place in here.items() if place == own]
        if through:
            here = {name: place for name, place in here.items() if place} or here
            ours = f"the way to {host} goes through {through[0]}"
            return f"set {variable} (now {os.environ.get(variable)!r}) on the nodes: {ours}; there are {_told(here)}"
    return f"set {variable} (now {os.environ.get(variable)!r}) to the interface between the nodes: {_told(here)}"


def _told(here: dict[str, str]) -> str:
    return ", ".join(f"{name} ({place})" if place else name for name, place in here.items())


def main() -> None:
    """One rank: RANK WORLD_SIZE HOST:PORT BACKEND LIMIT_S."""
    parser = argparse.ArgumentParser()
    for name, kind in (("rank", int), ("world_size", int), ("address", str), ("backend", str), ("limit_s", float)):
        parser.add_argument(name, type=kind)
    given = parser.parse_args()
    import torch
    import torch.distributed as dist

    try:
        began = time.monotonic()
        if given.backend == "nccl":
            torch.cuda.set_device(given.rank % torch.cuda.device_count())  # two ranks of one machine: a GPU each
        dist.init_process_group(
            given.backend,
            init_method=f"tcp://{given.address}",
            rank=given.rank,
            world_size=given.world_size,
            timeout=timedelta(seconds=given.limit_s),
        )
        values = torch.ones(VALUES, device="cuda" if given.backend == "nccl" else "cpu")
        dist.all_reduce(values)
        ready = time.monotonic()
        dist.all_reduce(values)
        last = float(values[-1])  # waits for the device
        if last != given.world_size**2:
            raise RuntimeError(f"the sum is {last}, not {given.world_size**2}")
    except Exception as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr, flush=True)
        os._exit(1)  # a half-made process group may hang at exit
    mebibytes = values.numel() * 4 / 2**20
    print(
        f"{given.world_size} ranks over {given.backend} in {ready - began:.1f} s; "
        f"an all-reduce of {mebibytes:.0f} MiB takes {time.monotonic() - ready:.3f} s",
        flush=True,
    )
    os._exit(0)


if __name__ == "__main__":
    main()
