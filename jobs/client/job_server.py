"""Connection to a cluster's job server, with an error message of one sentence for each way in which it fails."""

import contextlib
import ipaddress
import logging
import os
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from jobs.client.local_cluster import is_alive, start_cluster
from jobs.client.local_resources import describe_cpus
from jobs.client.local_state import LocalCluster, read_cluster
from jobs.ray_internals import CLIENT_LOGGERS
from pipeline.processes.machine import num_processors

_RESPONSE_TIMEOUT_S = 10.0  # seconds to wait for a server before calling it unreachable
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
for _name in CLIENT_LOGGERS:  # they set their own level
    logging.getLogger(_name).setLevel(logging.WARNING)
_TOKEN_ADVICE = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's token file"


def connect(address: str | None = None, *, start_with_cpus: int | None = None) -> tuple[JobSubmissionClient, str]:
    """Connect to the job server at `address`, else at RAY_ADDRESS, else to the local cluster of this machine.

    Args:
        address: The address of the job server, such as http://head:8265; host:port and Ray's own forms ("auto",
            host:6379) are accepted too.
        start_with_cpus: If there is no cluster, start a local one with at least this number of CPUs; None: raise.

    Returns:
        The client, and the address of its job server.

    Raises:
        ValueError: the address has none of these forms.
        ConnectionError: there is no cluster, nothing answers at the address, or the cluster refuses the token.
    """
    check_address(address)
    configured, local = _configured_address(address), read_cluster()
    if configured is not None and not is_local_address(address):
        return _connect_to_remote(configured), configured
    if local is None or not is_alive(local):
        if start_with_cpus is None:
            raise ConnectionError(
                "there is no Ray cluster to talk to: give --address or RAY_ADDRESS, or start one on this machine with "
                "`python -m jobs up`"
            )
        local = start_cluster(num_cpus=max(start_with_cpus, num_processors()))
        cpus = describe_cpus(local.num_cpus or num_processors())
        print(f"started a local Ray cluster at {local.address} {cpus}; `python -m jobs down` stops it", flush=True)
    return _make_client(local.address, local), local.address


def check_address(address: str | None) -> None:
    """Raise ValueError for a malformed address, in the argument or in RAY_ADDRESS; does not use the network."""
    configured = _configured_address(address)
    if configured is None or configured == "auto" or ("://" in configured and urlsplit(configured).netloc):
        return
    host, _, port = configured.rpartition(":")
    if not (host and port.isdecimal() and "/" not in host):
        shown = configured.rpartition("@")[2]
        bare = shown.partition("://")[2] if "://" in shown else shown
        host = bare.strip("/").partition(":")[0] or "head"
        raise ValueError(f"address={shown}: not a job server's address; give http://{host}:8265, or the port it has")


def is_local_address(address: str | None) -> bool:
    """Whether `connect(address)` uses the local cluster, or would start it."""
    configured, local = _configured_address(address), read_cluster()
    return configured is None or (local is not None and configured.rstrip("/") == local.address)


def would_start_cluster(address: str | None) -> bool:
    """Whether `connect(address)` would start a local cluster."""
    local = read_cluster()
    return is_local_address(address) and (local is None or not is_alive(local))


def describe_address(address: str | None, num_cpus: int) -> str:
    """Describe the cluster that `connect(address, start_with_cpus=num_cpus)` would use, without talking to it."""
    if not is_local_address(address):
        return str(_configured_address(address))
    local = read_cluster()
    if local is None or would_start_cluster(address):
        return f"a local one, which would be started {describe_cpus(max(num_cpus, num_processors()))}"
    return f"the one at {local.address} that was started here"


def split_message(job: JobDetails) -> tuple[str, str]:
    """Split Ray's message of a job into its first line and the end of the log, which Ray appends if the job failed."""
    message, _, log = (job.message or "").strip().partition(", last available logs")
    return _first_line(message), log.partition("\n")[2]


def find_job(client: JobSubmissionClient, job_name: str | None) -> JobDetails:
    """Find a job by its id or its run's name (the newest of that name); None: the newest job.

    Raises:
        ValueError: there is no such job; the message lists the newest ids.
    """
    jobs = list_jobs(client)
    if not jobs:
        raise ValueError("there are no jobs on this cluster; `python -m jobs submit` makes one")
    if job_name is None:
        return jobs[0]
    for each in jobs:
        if job_name == each.submission_id or job_name == (each.metadata or {}).get("name"):
            return each
    newest = ", ".join(str(each.submission_id) for each in jobs[:5])
    raise ValueError(f"job={job_name}: there is no such job on this cluster; the newest are: {newest}")


def list_jobs(client: JobSubmissionClient) -> list[JobDetails]:
    """List the jobs that were submitted to the cluster, the newest first."""
    submitted = [each for each in client.list_jobs() if each.submission_id]
    return sorted(submitted, key=lambda each: each.start_time or 0, reverse=True)


def stop_job(client: JobSubmissionClient, job_id: str, *, timeout_s: float) -> JobDetails:
    """Stop a job, and wait until it has ended.

    Raises:
        TimeoutError: the job has not ended within `timeout_s` seconds.
    """
    client.stop_job(job_id)
    deadline = time.monotonic() + timeout_s
    while not (info := client.get_job_info(job_id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{job_id} was stopped, but is still {info.status} after {timeout_s:g} s")
        time.sleep(0.3)
    return info


def _configured_address(address: str | None) -> str | None:
    return address or next((os.environ[name] for name in _ADDRESS_VARIABLES if os.environ.get(name)), None)


def _connect_to_remote(address: str) -> JobSubmissionClient:
    """Connect to a cluster that was not started on this machine."""
    url = address if "://" in address else f"http://{address}"
    if urlsplit(url).scheme in ("http", "https"):
        try:
            response = requests.get(f"{url.rstrip('/')}/api/version", timeout=_RESPONSE_TIMEOUT_S)
        except requests.exceptions.InvalidURL:
            raise ValueError(f"address={address}: not an address; give one like http://head:8265") from None
        except requests.exceptions.RequestException as error:
            if address == url:
                raise ConnectionError(
                    f"address={address}: no Ray job server answers there ({connection_error_reason(error)})"
                ) from None
            url = address  # host:port may be Ray's own port rather than its job server's
        else:
            if response.status_code not in (200, 401, 403):
                raise ConnectionError(f"address={address}: what answers there is no Ray job server: {response.reason}")
            if response.status_code == 200 and not _is_loopback(url):
                print(
                    f"warning: the cluster at {address} asks for no token: anyone who reaches it can run code on it "
                    "and read what it sees; start Ray there with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH",
                    file=sys.stderr,
                )
    return _make_client(url, None)


def _make_client(url: str, local: LocalCluster | None) -> JobSubmissionClient:
    """Connect with the token of the local cluster, or with the token that Ray's own variables name."""
    headers = {"Authorization": f"Bearer {local.token()}"} if local else None
    if local:  # never by way of a proxy
        host = urlsplit(local.address).hostname
        os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", host]))
    try:
        with _unset_variables(_ADDRESS_VARIABLES):  # Ray lets them override the address it is given
            return JobSubmissionClient(url, headers=headers)
    except AuthenticationError:
        raise ConnectionError(
            f"address={url}: the cluster refuses us, it asks for its token: {_TOKEN_ADVICE}"
        ) from None
    except (RuntimeError, ConnectionError, requests.exceptions.RequestException) as error:
        raise ConnectionError(
            f"address={url}: no Ray job server answers there ({connection_error_reason(error)})"
        ) from None


@contextlib.contextmanager
def _unset_variables(names: tuple[str, ...]) -> Iterator[None]:
    removed = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(removed)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connection_error_reason(error: BaseException) -> str:
    """Describe a connection error in a few words."""
    reason = _first_line(str(error))
    for known_reason in ("Connection refused", "timed out", "Name or service not known", "No route to host"):
        if known_reason in reason:
            return known_reason
    return reason[:200]


def _first_line(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")
