"""A child process that is asked one thing, for a while: nothing on stdin, what it prints kept."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_child(
    command: Sequence[str], environment: Mapping[str, str], limit_s: float, folder: Path | None = None
) -> tuple[int, str, list[str]]:
    """Runs a command to its end.

    Args:
        command: its words.
        environment: all of its variables.
        limit_s: seconds until it is killed.
        folder: where it runs; None: here.

    Returns:
        Its exit status, its standard output, and the lines of its standard error that are not blank.

    Raises:
        TimeoutError: it took longer.
    """
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no end within {limit_s:g} s") from None
    return done.returncode, done.stdout, [line.rstrip() for line in done.stderr.splitlines() if line.strip()]
