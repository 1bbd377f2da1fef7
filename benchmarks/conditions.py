"""What a benchmark runs with: options in range, the sample of videos, packs of today's encoding; and its heading."""

import argparse
import importlib.metadata
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.turns import load

Number = TypeVar("Number", int, float)


def _accepted(
    kind: Callable[[str], Number], fits: Callable[[Number], bool], description: str
) -> Callable[[str], Number]:
    """A type of argparse's: what else is given is one line of error."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = kind("-1")  # which none takes
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text}: must be {description}")
        return value

    return read


positive = _accepted(int, lambda value: value >= 1, "a whole number, 1 or more")
not_negative = _accepted(int, lambda value: value >= 0, "a whole number, 0 or more")
at_least_50000 = _accepted(int, lambda value: value >= 50_000, "50000 or more, enough for every split and 512 ranks")
above_zero = _accepted(float, lambda value: 0 < value < math.inf, "a number above 0")
from_zero = _accepted(float, lambda value: 0 <= value < math.inf, "a number, 0 or more")
share = _accepted(float, lambda value: 0 < value <= 1, "a share, above 0 and at most 1")
share_or_zero = _accepted(float, lambda value: 0 <= value <= 1, "a share, from 0 to 1")


def sample_folder() -> Path:
    """Where the sample of Kinetics is, if it is there: annotations.csv and videos."""
    shared = os.environ.get("SHARED_DIR") or Path(__file__).resolve().parents[2] / "shared"
    return Path(shared) / "data" / "kinetics_sample"


def is_packed(folder: Path, short_side: int, *smaller: int) -> bool:
    """Whether an earlier run packed it, at these sizes; ends where it did so with other settings than today's."""
    from datamodules.dataset.manifest import read_manifest
    from datamodules.encoding.transcoding import EncodeProfile
    from datamodules.storage.errors import ShardFormatError

    if not (folder / "dataset.json").exists():
        return False
    for side, place in ((short_side, folder), *((side, folder / f"short{side}") for side in smaller)):
        try:
            found = read_manifest(place).encode
        except ShardFormatError as error:
            raise SystemExit(f"{error}; or remove {folder}, or give another --folder") from error
        expected = EncodeProfile(short_side=side).as_dict()
        differing = [
            f"{name} {found.get(name)}, now {value}" for name, value in expected.items() if found.get(name) != value
        ]
        if differing:
            raise SystemExit(
                f"{folder} was packed otherwise ({'; '.join(differing)}): remove it, or give another --folder"
            )
    return True


def lacks_gpu(device: str) -> bool:
    """Whether a GPU is asked for and none is there, which is said."""
    import torch

    if device != "cuda" or torch.cuda.is_available():
        return False
    print("--device cuda: not measured: there is no GPU here")
    return True


def lacks_bf16(device: str) -> bool:
    """Whether the processor is to compute and has no bf16 units, which is said: a row in bf16 would take minutes."""
    from pipeline.processes.precision import has_bf16_units

    if device != "cpu" or has_bf16_units() is not False:
        return False
    print("bf16: not measured: this processor has no units for it")
    return True


def print_heading(*packages: str) -> None:
    """When, with what command, and on what: two lines.

    Args:
        *packages: those that matter, as pip names them.
    """
    threads = [f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}"] if "OMP_NUM_THREADS" in os.environ else []
    print(f"{time.strftime('%Y-%m-%d %H:%M %Z')}: {shlex.join([*threads, *sys.orig_argv])}")
    versions = [f"Python {platform.python_version()}", *map(_version, packages)]
    print(f"{', '.join(versions)}; {_processor_name()}, {load()}", flush=True)


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def _processor_name() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
