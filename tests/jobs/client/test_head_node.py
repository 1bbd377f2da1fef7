"""`up --host`: a head node that others can join, with its token alone. What is said of a cluster without a token."""

import json
import os
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.client import local_cluster, local_state
from pipeline.processes.machine import free_ports, network_interfaces
from tests.jobs.conftest import Run
from tests.pipeline.gray_videos import wait_for


@pytest.fixture
def address() -> str:
    """An address of this machine that others could reach."""
    outward = [place for place in network_interfaces().values() if place and not place.startswith("127.")]
    if not outward:
        pytest.skip("this machine has loopback alone")
    return outward[0]


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("0.0.0.0", "give the one address by which the other nodes reach this machine"),
        ("head.example", "give an IP address of this machine"),
        ("203.0.113.7", "not an address of this machine"),
    ],
)
def test_hosts_that_are_none(
    host: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    assert main(["up", "--host", host]) == 2
    assert f"error: host={host}: {message}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_head_node_and_another_that_joins(run_jobs: Run, folder: Path, address: str) -> None:
    ports = tuple(free_ports(address, 2))
    arguments = ["--num-cpus", "1", "--host", address, "--port", str(ports[0]), "--ray-port", str(ports[1])]
    started = run_jobs("up", *arguments)
    assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_STATE_DIR", str(folder / "state"))
        head = local_state.read_cluster()
    assert head is not None
    assert (head.address, head.join_address) == (f"http://{address}:{ports[0]}", f"{address}:{ports[1]}")
    assert f"RAY_AUTH_TOKEN_PATH={head.token_path} ray start --address={head.join_address}" in started.stdout
    assert stat.S_IMODE(Path(head.token_path).stat().st_mode) == 0o600
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{head.address}/api/jobs/", timeout=10)
    assert refused.value.code == 401
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": head.token_path,
        local_state.CLUSTER_MARK: head.mark,
    }
    join = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={head.join_address}", "--num-cpus=3"]
    joined = subprocess.run(
        [*join, "--disable-usage-stats"], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert joined.returncode == 0, joined.stdout + joined.stderr
    request = urllib.request.Request(
        f"{head.address}/api/cluster_status", headers={"Authorization": f"Bearer {head.token()}"}
    )

    def has_four_cpus() -> bool:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status = json.loads(answer.read())["data"]["clusterStatus"]
        return bool(status["loadMetricsReport"]["usage"].get("CPU", [0, 0])[1] == 4)

    wait_for(has_four_cpus)
    assert "no jobs on" in run_jobs("list").stdout
    other = run_jobs("up", "--host", address)
    assert other.stdout.startswith(f"a local Ray cluster takes jobs at {head.address}")
    assert run_jobs("down").returncode == 0
    assert not local_cluster.cluster_processes(head)


@pytest.fixture
def open_server(address: str) -> Iterator[str]:
    """What answers as a job server that asks for no token does, as far as the first question goes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "x"}'
            self.send_response(200 if self.path == "/api/version" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{address}:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_cluster_without_a_token_is_warned_of(
    open_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NO_PROXY", "*")
    main(["list", "--address", open_server])
    said = capsys.readouterr().err
    assert f"warning: the cluster at {open_server} asks for no token: anyone who reaches it can run code on it" in said
    assert "RAY_AUTH_MODE=token" in said
