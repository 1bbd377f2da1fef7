"""Local Ray cluster: started when a job has no cluster, reachable from this machine alone, removed without a trace.

Every process listens on loopback, unless `host` is another address, which lets other nodes join; both kinds require a
token. `stop_cluster` ends only the descendants of the process that `start_cluster` started and the processes with the
cluster's mark in their environment: `ray stop` would end every cluster of the machine.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray  # its import makes the psutil that it brings importable

from jobs.client.local_state import (
    CLUSTER_MARK,
    LocalCluster,
    lock_state,
    read_cluster,
    remove_cluster_record,
    write_cluster,
    write_token,
)
from jobs.client.ray_head import HEAD_PORTS, LOOPBACK, check_host, ray_command, ray_environment
from pipeline.processes.machine import free_ports

# isort: split
import psutil

_MAX_START_ATTEMPTS = 3  # a port that was free may be taken before Ray binds it
_MAX_TEMPORARY_LENGTH = 30  # characters: Ray's socket paths below it must stay under the 107 of AF_UNIX


def start_cluster(
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    host: str = LOOPBACK,
    ports: tuple[int, int] = (0, 0),
    timeout_s: float = 120.0,
) -> LocalCluster:
    """Start a local cluster or the head node of a larger one, or return the local cluster that is running already.

    Args:
        num_cpus: The number of CPUs that Ray schedules, which may exceed the real number. None: all of this machine.
        num_gpus: The number of GPUs that Ray schedules. None: all GPUs that Ray finds.
        host: The address of this machine to listen on; if it is not loopback, other nodes can join.
        ports: The ports of the job server and of Ray itself, where other nodes join; 0: 8265 and 6379, or free ports
            on loopback.
        timeout_s: Seconds to wait until the cluster accepts jobs.

    Returns:
        The cluster, which accepts jobs.

    Raises:
        ValueError: `host` is not an address of this machine, or a cluster runs already at another address.
        RuntimeError: Ray did not start; the message holds the end of its log.
    """
    check_host(host)
    with lock_state():
        recorded = read_cluster()
        if recorded is not None:
            if is_alive(recorded):
                if urlsplit(recorded.address).hostname != host and host != LOOPBACK:
                    raise ValueError(
                        f"host={host}: a cluster is running at {recorded.address}; end it with `python -m jobs down`"
                    )
                _wait_for_job_server(recorded, timeout_s)
                return recorded  # num_cpus of a running cluster cannot change
            print(f"the cluster recorded at {recorded.address} has died; clearing up after it", file=sys.stderr)
            _end_cluster(recorded)
        failure = ""
        for _ in range(_MAX_START_ATTEMPTS):
            started = _try_to_start(num_cpus, num_gpus, host, ports, timeout_s)
            if isinstance(started, LocalCluster):
                return started
            failure = started
            if "port" not in failure.lower():
                break
        raise RuntimeError(f"Ray did not start on this machine: {failure}")


def stop_cluster() -> LocalCluster | None:
    """Stop the local cluster and its jobs, and remove its files.

    Returns:
        The cluster that was stopped; None if there was none.

    Raises:
        RuntimeError: processes of the cluster are still alive after SIGKILL.
    """
    with lock_state():
        recorded = read_cluster()
        if recorded is None:
            return None
        _end_cluster(recorded)
        return recorded


def check_resources(cluster: LocalCluster, num_cpus: int | None, num_gpus: int | None) -> None:
    """Raise ValueError if the cluster has another number of CPUs or GPUs than these; None accepts any number."""
    for count, actual, unit in ((num_cpus, cluster.num_cpus, "CPUs"), (num_gpus, cluster.num_gpus, "GPUs")):
        if count is not None and count != actual:
            existing = f"all {unit} of this machine" if actual is None else f"{actual} {unit}"
            raise ValueError(
                f"num_{unit.lower()}={count}: the cluster at {cluster.address} runs already, with {existing}; end it "
                "and its jobs with `python -m jobs down` first"
            )


def is_alive(cluster: LocalCluster) -> bool:
    """Whether the first process of the cluster is alive, even if it is too busy to answer."""
    return _first_process(cluster) is not None


def cluster_processes(cluster: LocalCluster) -> list[Any]:
    """The cluster's psutil processes: the first, its descendants, and all processes of this user with the mark."""
    found = {}
    first = _first_process(cluster)
    if first is not None:
        found = {each.pid: each for each in [first, *first.children(recursive=True)]}
    for each in psutil.process_iter():
        try:
            if each.pid != os.getpid() and each.environ().get(CLUSTER_MARK) == cluster.mark:
                found[each.pid] = each
        except psutil.Error:
            continue  # another user's, or gone
    return list(found.values())


def _try_to_start(
    num_cpus: int | None, num_gpus: int | None, host: str, ports: tuple[int, int], timeout_s: float
) -> LocalCluster | str:
    """Try once to start a cluster; return it, or the reason why it did not start."""
    mark = secrets.token_hex(4)
    temporary = tempfile.gettempdir() if len(tempfile.gettempdir()) <= _MAX_TEMPORARY_LENGTH else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="arp-", dir=temporary))  # mode 0700: Ray makes what is inside 0777
    token_path = write_token(mark)
    port, client_port = free_ports(host, 2)
    port, ray_port = (port, 0) if host == LOOPBACK else HEAD_PORTS
    port, ray_port = ports[0] or port, ports[1] or ray_port
    command = ray_command(folder, host, ray_port=ray_port, port=port, client_port=client_port)
    command += [] if num_cpus is None else [f"--num-cpus={num_cpus}"]
    command += [] if num_gpus is None else [f"--num-gpus={num_gpus}"]
    log = folder / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=ray_environment(mark, token_path, f"http://{host}:{port}", host == LOOPBACK),
            start_new_session=True,  # Ctrl-C in this terminal is not for the cluster
        )
    start_time = psutil.Process(process.pid).create_time()
    join_address = "" if host == LOOPBACK else f"{host}:{ray_port}"
    address = f"http://{host}:{port}"
    cluster = LocalCluster(
        address, process.pid, start_time, mark, str(folder), str(token_path), join_address, num_cpus, num_gpus
    )
    write_cluster(cluster)  # from here on `stop_cluster` finds it, also if this process is killed
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if "Ray runtime started" in log.read_text(errors="replace") and _accepts_token(cluster, cluster.token()):
            if not _accepts_token(cluster, "none"):
                return cluster
            _end_cluster(cluster)
            return f"Ray {ray.__version__} asks for no token: 2.52 is the first that does"
        time.sleep(0.2)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    reason = "; ".join(lines[-3:]) if process.poll() is not None else f"it did not answer within {timeout_s:g} s"
    _end_cluster(cluster)
    return reason


def _first_process(cluster: LocalCluster) -> Any | None:
    try:
        process = psutil.Process(cluster.pid)
        same = abs(process.create_time() - cluster.start_time) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same else None


def _wait_for_job_server(cluster: LocalCluster, timeout_s: float) -> None:
    """Raise RuntimeError if the cluster does not answer in time; it is not ended, because its jobs may be running."""
    deadline = time.monotonic() + timeout_s
    while not _accepts_token(cluster, cluster.token()):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"the local cluster at {cluster.address} does not answer within {timeout_s:g} s; "
                "end it, and its jobs, with `python -m jobs down`"
            )
        time.sleep(0.5)


def _accepts_token(cluster: LocalCluster, token: str) -> bool:
    """Whether the job server answers, and accepts this token."""
    try:
        request = urllib.request.Request(f"{cluster.address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:  # refused, timed out, 401
        return False


def _end_cluster(cluster: LocalCluster) -> None:
    """End all processes of a cluster with SIGTERM, then SIGKILL; then remove its folder, token and record."""
    for method, timeout_s in (("terminate", 3), ("kill", 30)):  # Ray's own shutdown in order takes its raylet 30 s
        members = cluster_processes(cluster)
        for member in members:
            with contextlib.suppress(psutil.Error):  # gone meanwhile
                getattr(member, method)()
        psutil.wait_procs(members, timeout=timeout_s)
    if remaining := [each.pid for each in cluster_processes(cluster) if each.status() != psutil.STATUS_ZOMBIE]:
        raise RuntimeError(f"processes of the cluster are still there after SIGKILL: {remaining}")
    if Path(cluster.folder).name.startswith("arp-"):  # a record that was tampered with removes nothing else
        shutil.rmtree(cluster.folder, ignore_errors=True)
    remove_cluster_record()
