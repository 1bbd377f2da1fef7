"""A Ray cluster of several nodes on this machine, without a job server: the driver is called as that would call it."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from jobs.spec.job_spec import JobSpec
from jobs.submission.submit import environment
from tests.jobs.conftest import REPOSITORY
from tests.pipeline.gray_videos import wait_for

NODE_ARGUMENTS = [
    "--node-ip-address=127.0.0.1",
    "--num-cpus=1",
    "--object-store-memory=100000000",
    "--disable-usage-stats",
]
NODE_ARGUMENTS += ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]


class Nodes:
    """Raylets with one CPU each, every one a process group; a token keeps others out.

    Args:
        folder: For what they write; a short path.
        code: Where the nodes import our packages from.
    """

    def __init__(self, folder: Path, code: Path = REPOSITORY) -> None:
        self._folder = folder
        self._code = code
        token = folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        dropped = ("RAY_", "WANDB_")
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self._environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}
        self._environment |= {"PYTHONPATH": str(code), "RAY_USAGE_STATS_ENABLED": "0"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            client_port = free.getsockname()[1]
        self.nodes: list[subprocess.Popen[bytes]] = []
        head = ["--head", "--port=0", "--include-dashboard=false", f"--temp-dir={folder / 'ray'}"]
        self._start([*head, f"--ray-client-server-port={client_port}"])
        address = folder / "ray" / "ray_current_cluster"
        wait_for(address.exists)
        self._environment["RAY_ADDRESS"] = address.read_text().strip()

    def add(self, hidden: Path | None = None) -> int:
        """Add a node; returns its number.

        Args:
            hidden: A folder that this node sees empty.
        """
        before = []
        if hidden is not None:
            script = f'mount -t tmpfs none "{hidden}" && exec "$@"'
            before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        self._start([f"--address={self._environment['RAY_ADDRESS']}"], before)
        return len(self.nodes) - 1

    def tasks(self, number: int) -> list[int]:
        """The process ids of the packing tasks that a node runs."""
        found = subprocess.run(["pgrep", "-f", "^ray::pack_part"], capture_output=True, text=True, check=False).stdout
        return [pid for pid in map(int, found.split()) if os.getsid(pid) == self.nodes[number].pid]

    def kill(self, number: int) -> None:
        """End all processes of a node at once, as a power cut does."""
        session = self.nodes[number].pid
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.getsid(int(entry.name)) == session:
                    os.kill(int(entry.name), signal.SIGKILL)
        self.nodes[number].wait()

    def terminate(self, number: int) -> None:
        """SIGTERM to the process that watches over a node, as an orchestrator sends before it takes a machine away."""
        self.nodes[number].terminate()

    def drive(
        self, origin: Path, args: Sequence[str], output: int | TextIO = subprocess.PIPE, **spec: Any
    ) -> subprocess.Popen[str]:
        """Start the driver of a job that was submitted in the folder `origin`; it prints to `output`."""
        job = origin / "job.json"
        job.write_text(json.dumps({"spec": {"storage_path": str(origin), **spec}, "origin": str(origin)}))
        command = [sys.executable, "-m", "jobs.driver", str(job), "--", *args]
        whole = self._environment | environment(JobSpec(**spec))
        return subprocess.Popen(command, cwd=self._code, env=whole, stdout=output, stderr=subprocess.STDOUT, text=True)

    def _start(self, arguments: Sequence[str], before: Sequence[str] = (), tries: int = 3) -> None:
        """Start a node; Ray itself gives up on one that is not registered within 30 s, as on a busy machine."""
        log = self._folder / f"{secrets.token_hex(4)}.log"
        command = [
            *before,
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            *arguments,
            *NODE_ARGUMENTS,
        ]
        with log.open("wb") as output:
            node = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        self.nodes.append(node)
        deadline = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if node.poll() is not None and tries > 1 and _was_too_slow(log.read_text(errors="replace")):
                self.nodes.pop()
                return self._start(arguments, before, tries - 1)
            if node.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the node did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)


def _was_too_slow(log: str) -> bool:
    return "Try increase" in log or "timed out during startup" in log
