"""Start of a Ray head node: its command line, its environment, its address."""

import ipaddress
import os
import sys
from pathlib import Path

from jobs.client.local_state import CLUSTER_MARK
from pipeline.processes.machine import free_ports

LOOPBACK = "127.0.0.1"
HEAD_PORTS = (8265, 6379)  # the job server, and Ray itself, where other nodes join: Ray's defaults
_LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: addresses stay 127.0.0.1, on Linux too
# Of a process that calls `ray.init` on the local cluster; Ray reads them when it is imported.
LOCAL_DRIVER_VARIABLES = {"RAY_AUTH_MODE": "token", _LOOPBACK_SWITCH: "0"}
OBJECT_STORE_BYTES = 256 * 2**20  # nothing of ours travels through the object store


def ray_command(folder: Path, host: str, *, ray_port: int, port: int, client_port: int) -> list[str]:
    """The command that starts a head node and does not return (`--block`).

    Args:
        folder: The folder for Ray's sessions, sockets and logs.
        host: The address that all its processes listen on.
        ray_port: The port where other nodes join; 0: any free port.
        port: The port of the job server.
        client_port: The port of Ray's client server.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--node-ip-address={host}"]
    command += [f"--port={ray_port}", f"--dashboard-host={host}", f"--dashboard-port={port}"]
    command += ["--dashboard-agent-listen-port=0"]
    command += [f"--ray-client-server-port={client_port}", "--min-worker-port=0", "--max-worker-port=0"]
    command += [f"--temp-dir={folder / 'r'}", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"]
    return [*command, "--log-style=record", "--log-color=false"]


def ray_environment(mark: str, token_path: Path, address: str, is_loopback: bool) -> dict[str, str]:
    """The environment of the cluster's processes: that of this process, without variables that would mislead Ray."""
    dropped = ("PYTHONPATH", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    binaries = str(Path(sys.executable).parent)
    environment |= {
        CLUSTER_MARK: mark,
        "PATH": os.pathsep.join([binaries, environment.get("PATH", os.defpath)]),  # the entrypoint of a job is `python`
        **LOCAL_DRIVER_VARIABLES,
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "RAY_API_SERVER_ADDRESS": address,  # else Ray's own parts look for a cluster, and may find another one
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if not is_loopback:
        del environment[_LOOPBACK_SWITCH]
    return environment


def check_host(host: str) -> None:
    """Raise ValueError if `host` is not an IP address of this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"host={host}: give an IP address of this machine, such as 10.0.0.5") from None
    if address.is_unspecified:
        raise ValueError(f"host={host}: give the one address by which the other nodes reach this machine")
    try:
        free_ports(host, 1)
    except OSError as error:
        raise ValueError(f"host={host}: not an address of this machine ({error.strerror})") from None
