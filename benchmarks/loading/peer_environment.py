"""A virtual environment for the peers of a benchmark, apart from this project's own; made once in a folder."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def peer_python(folder: Path, name: str, *requirements: list[str]) -> tuple[Path, dict[str, str]]:
    """The interpreter of an environment with what can be installed, and what could not be.

    Args:
        folder: outside the repository; the environment is in folder/name.
        name: of the environment.
        *requirements: groups of pip's arguments, each installed in one go, in order; one may fail alone.

    Returns:
        The interpreter, and pip's last line for each group that failed, by its first requirement.
    """
    place = folder / name
    python = place / "bin" / "python"
    failures: dict[str, str] = {}
    said = False
    if not python.exists():
        venv.create(place, with_pip=True)
    for number, group in enumerate(requirements):
        done = place / f"installed-{number}"
        wanted = " ".join(group)
        if done.exists() and done.read_text(encoding="utf-8") == wanted:
            continue
        if not said:
            said = True
            print(f"installing {name} into {place}", flush=True)
        command = [str(python), "-m", "pip", "install", "-q", *group]
        run = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        if run.returncode == 0:
            done.write_text(wanted, encoding="utf-8")
        else:
            failures[group[0]] = (run.stderr.strip().splitlines() or ["pip failed without a word"])[-1]
            print(f"{wanted}: not installed: {failures[group[0]]}", file=sys.stderr)
    return python, failures


def installed(python: Path, *packages: str) -> str:
    """The versions that an interpreter's environment has of them, and its own, in one line."""
    asks = (
        "import importlib.metadata as m, platform, sys; "
        "has = {one.metadata['Name'].lower(): one.version for one in m.distributions()}; "
        "said = [f'{name} {has[name]}' if name in has else f'no {name}' for name in sys.argv[1:]]; "
        "print(f'Python {platform.python_version()}', *said, sep=', ')"
    )
    run = subprocess.run([python, "-c", asks, *packages], capture_output=True, text=True, env=clean_environment())
    return run.stdout.strip() or "their interpreter does not run"


def clean_environment() -> dict[str, str]:
    """This process's environment without its own packages, and with one thread for every library."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
