"""`serve --status` and `serve --stop`: commands about the service that runs on this machine."""

import contextlib
import os
import signal
import time

import requests
from prometheus_client.parser import text_string_to_metric_families

from jobs.client.service_record import ServiceRecord, read_service, remove_service_record
from pipeline.cli.terminal import print_text

_ANSWER_S = 10.0
_STOP_S = 900.0  # longer than accepted requests may take


def print_status() -> int:
    """Prints the state of the service; exit status 0 if it answers, else 1."""
    service = read_service()
    if service is None or not service.is_alive():
        print_text("no service runs here")
        return 1
    health = _get(service, "/healthz")
    lines = {"service": service.url, "state": "answers" if health.ok else health.json()["error"]}
    if health.ok:
        network = _get(service, "/v1/labels").json()
        lines["network"] = f"{network['network']['name']}, {len(network['labels'])} classes"
    lines |= _figures(_get(service, "/metrics").text)
    lines["replicas"] = str(service.replicas["replicas"])
    lines["token"] = service.token_path or "none"
    for name, value in lines.items():
        print_text(f"{name + ':':<12} {value}")
    return 0 if health.ok else 1


def stop_service() -> int:
    """Ends the service after the requests that it has accepted."""
    service = read_service()
    if service is None:
        print_text("no service runs here")
        return 0
    if service.is_alive():
        os.kill(service.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while service.is_alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the service (process {service.pid}) has not ended after {_STOP_S:g} s")
            time.sleep(0.2)
    else:
        _clear_up(service)
    print_text(f"ended the service at {service.url}")
    return 0


def _clear_up(service: ServiceRecord) -> None:
    """Ends what a service has left whose command was killed."""
    from jobs.client.local_cluster import stop_cluster  # here: they import ray
    from jobs.service.deployment import connect_service, undeploy

    with contextlib.suppress(ConnectionError, RuntimeError):
        connect_service(service)
        undeploy()
    if service.started_cluster:
        stop_cluster()
    remove_service_record()


def _get(service: ServiceRecord, path: str) -> requests.Response:
    session = requests.Session()
    session.trust_env = False  # never by way of a proxy
    try:
        return session.get(service.url + path, headers=service.headers(), timeout=_ANSWER_S)
    except requests.RequestException:
        raise ConnectionError(f"the service at {service.url} does not answer within {_ANSWER_S:g} s") from None


def _figures(metrics: str) -> dict[str, str]:
    """Requests by status, and those that wait, from the text of /metrics."""
    answered, waiting = [], "0"
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "classify_requests_total":
                answered.append((sample.labels["status"], f"{sample.value:g}"))
            if sample.name == "classify_accepted_requests":
                waiting = f"{sample.value:g}"
    return {
        "answered": ", ".join(f"{count} with {status}" for status, count in sorted(answered)) or "none yet",
        "in work": waiting,
    }
