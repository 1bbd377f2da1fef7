"""The data type of a Trainer's precision, and whether the processor has bf16 units."""

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

_BF16_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 and ARM; Linux and torch use the same names
_CPUINFO = Path("/proc/cpuinfo")


def half_type(precision: str | int | None, device: str) -> torch.dtype | None:
    """The 16-bit type of a precision; None where everything is computed in 32 or 64 bits.

    Args:
        precision: the Trainer's precision, such as `bf16-mixed`, `16-true` or 32; None for the default.
        device: `cpu` or `cuda`; on the CPU Lightning uses bf16 for `16-mixed`.
    """
    name = str(precision)
    if name.startswith(("bf16", "transformer-engine")) and name != "transformer-engine-float16":
        return torch.bfloat16
    if name in ("16", "16-mixed"):
        return torch.bfloat16 if device == "cpu" else torch.float16
    return torch.float16 if name in ("16-true", "transformer-engine-float16") else None


def has_bf16_units(cpuinfo: Path = _CPUINFO) -> bool | None:
    """Whether this machine's processor multiplies in bf16 (avx512_bf16 or amx_bf16, on ARM bf16); None: unknown.

    `torch.ops.mkldnn._is_mkldnn_bf16_supported` is no substitute: it is true for any processor with AVX-512.

    Args:
        cpuinfo: Linux's description of the processor; where the file is absent, torch is asked.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.6
        return any(capabilities.get(name) for name in _BF16_UNITS) if capabilities else None
    features = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return not _BF16_UNITS.isdisjoint(features[0]) if features else None


def slow_half(precision: str | int | None, device: str) -> str | None:
    """The warning of a run in bf16 on a processor without bf16 units; None for any other run."""
    if device != "cpu" or half_type(precision, device) is not torch.bfloat16 or has_bf16_units() is not False:
        return None
    return (
        f"precision {precision}: this processor has no bf16 units (avx512_bf16 or amx_bf16, on ARM bf16), so bf16 will "
        "not be quicker here than 32-true, and may be many times slower"
    )


def warn_slow_half(trainer: pl.Trainer) -> None:
    """Prints the warning of `slow_half` on standard error, once in a process, on rank 0."""
    warning = slow_half(trainer.precision, trainer.strategy.root_device.type)
    if warning is not None and trainer.is_global_zero:
        _print_once(warning)


@cache
def _print_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
