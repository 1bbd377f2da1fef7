"""`python -m jobs serve`: a service that classifies uploaded videos, in the foreground until it is ended."""

import ipaddress
import os
import signal
import socket
import stat
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import ray

from jobs.client.local_cluster import is_alive, start_cluster, stop_cluster
from jobs.client.local_state import read_cluster, state_folder, write_token
from jobs.client.service_record import ServiceRecord, read_service, remove_service_record, write_service
from jobs.ray_internals import num_local_gpus
from jobs.service.classifier_replica import describe_network, open_served
from jobs.service.deployment import ClusterClassifier, connect_ray, deploy, refuse_missing_resources, undeploy
from jobs.service.gateway import Gateway, GatewayLimits
from jobs.service.http_server import HttpServer, listen
from jobs.service.replacement import replace_network, replica_fields
from jobs.service.service_commands import print_status, stop_service
from jobs.service.service_metrics import ServiceMetrics
from jobs.service.service_options import ServiceOptions
from jobs.service.uploads import UploadLimits
from pipeline.cli.terminal import print_text
from pipeline.processes.machine import num_processors

_TOKEN_MARK = "service"


def serve(options: ServiceOptions) -> int:
    """Run a service, or ask for its state, end it or change its network.

    Args:
        options: the network, replicas and limits, or what to do with the service that runs here.

    Returns:
        The exit status.

    Raises:
        FileNotFoundError: the checkpoint, the model or the token file does not exist.
        ValueError: options that do not go together, a port in use, too few CPUs or GPUs, or a network that cannot be
            opened; nothing was started.
        ConnectionError: there is no cluster at the address.
        RuntimeError: the replicas do not start.
    """
    if options.status:
        return print_status()
    if options.stop:
        return stop_service()
    if options.replace:
        return replace_network(options)
    return _run(options)


def _run(options: ServiceOptions) -> int:
    earlier = read_service()
    if earlier is not None and earlier.is_alive():
        raise ValueError(
            f"a service runs already at {earlier.url}; change its network with --replace, or end it with --stop"
        )
    with ExitStack() as cleanup:
        listening = cleanup.enter_context(listen(options.host, options.port))
        _refuse_missing_gpus(options)
        token_path = _token_path(options, listening)
        token = _read_token(token_path) if token_path is not None else None
        network = describe_network(options.network(), open_served(options.network()))
        owns_cluster = options.address is None and (not _local_cluster_runs() or _left_cluster(earlier))
        _end_by_signals()
        try:
            server = _start(options, listening, token, owns_cluster, cleanup)
            write_service(_record(options, server.url, token_path, owns_cluster))
            cleanup.callback(remove_service_record)
            cleanup.callback(server.stop)
            for line in _describe(options, server.url, network, token_path):
                print_text(line)
            while server.is_alive:
                time.sleep(1)
        except KeyboardInterrupt:
            print_text("ending after the requests that are accepted; again to end at once")
            cleanup.close()
            print_text("ended")
            return 0
        raise RuntimeError("the HTTP server has ended by itself")


def _start(
    options: ServiceOptions, listening: socket.socket, token: str | None, owns_cluster: bool, cleanup: ExitStack
) -> HttpServer:
    """Starts cluster, replicas and HTTP server; `cleanup` ends them in the reverse order."""
    if owns_cluster:
        cleanup.callback(stop_cluster)
        start_cluster(num_cpus=max(options.replicas * options.cpus_per_replica, num_processors()))
    connect_ray(options.address, None if options.address else read_cluster())
    cleanup.callback(_disconnect_ray)
    _end_by_signals()  # Ray has set its own handlers
    refuse_missing_resources(options)
    print_text(f"starting {options.replicas} replica{'s' if options.replicas > 1 else ''}")
    cleanup.callback(undeploy)
    deploy(options)
    metrics = ServiceMetrics()
    classifier = ClusterClassifier(metrics.retries.inc)
    cleanup.callback(classifier.close)
    uploads = UploadLimits(options.max_upload_bytes, options.upload_timeout_s)
    limits = GatewayLimits(uploads, options.max_accepted, options.answer_timeout_s)
    server = HttpServer(Gateway(classifier, limits, metrics).application(token), listening, options.max_accepted)
    server.start()
    return server


def _local_cluster_runs() -> bool:
    local = read_cluster()
    return local is not None and is_alive(local)


def _left_cluster(earlier: ServiceRecord | None) -> bool:
    """Whether the local cluster was started by a service whose command was killed."""
    return earlier is not None and earlier.started_cluster


def _record(options: ServiceOptions, url: str, token_path: Path | None, owns_cluster: bool) -> ServiceRecord:
    return ServiceRecord(
        url=url,
        pid=os.getpid(),
        start_time=psutil.Process().create_time(),
        token_path="" if token_path is None else str(token_path),
        address=options.address or "",
        replicas=replica_fields(options),
        started_cluster=owns_cluster,
    )


def _refuse_missing_gpus(options: ServiceOptions) -> None:
    needed, existing = options.replicas * options.gpus_per_replica, num_local_gpus()
    if options.address is None and needed > existing:
        raise ValueError(
            f"replicas={options.replicas}, gpus_per_replica={options.gpus_per_replica:g}: take {needed:g} GPUs, and "
            f"this machine has {existing}; ask for less, or give the cluster's --address"
        )


def _token_path(options: ServiceOptions, listening: socket.socket) -> Path | None:
    """The file of the token that requests must carry; None for none."""
    if options.token_file is not None:
        return options.token_file.absolute()
    if options.without_token or ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        return None
    path = state_folder() / f"token-{_TOKEN_MARK}"
    return path if path.exists() else write_token(_TOKEN_MARK)


def _read_token(path: Path) -> str:
    token = path.read_text(encoding="utf-8").strip()
    if not token or any(character.isspace() for character in token):
        raise ValueError(f"token_file={str(path)!r}: must contain one word, the token")
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ValueError(f"token_file={str(path)!r}: others can read it; `chmod 600` it")
    return token


def _describe(options: ServiceOptions, url: str, network: dict[str, Any], token_path: Path | None) -> list[str]:
    name, count = network["network"]["name"], len(network["labels"])
    lines = [f"{name}, of {count} classes, answers at {url}; its documentation is at {url}/docs"]
    header = ""
    if token_path is not None:
        lines.append(f"requests need the token that is in {token_path}")
        header = f' -H "Authorization: Bearer $(cat {token_path})"'
    lines.append(f"  curl -F video=@FILE{header} {url}/v1/classify")
    lines.append("Ctrl-C, or `python -m jobs serve --stop`, ends it after the requests that are accepted")
    return lines


def _disconnect_ray() -> None:
    ray.shutdown()


def _end_by_signals() -> None:
    """Makes SIGTERM, and SIGINT too, raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
