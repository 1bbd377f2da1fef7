"""The machine: versions and what they imply, rates of products of matrices and of copies."""

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sysconfig
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu_checks.cuda_settings import convolution_settings
from benchmarks.gpu_checks.results import Goal, Results, Settings
from benchmarks.networks.model import matmul_rate
from benchmarks.turns import load, spend
from datamodules.loading.loader_options import LoaderOptions
from datamodules.loading.planned_loader import HELD_BATCHES
from pipeline.doctor.precision_check import WRONG_CUDNN

PRODUCT = "product of matrices, bf16"  # whose rate is the divisor of all shares
_SHARED_MEMORY = Path("/dev/shm")
_I3D_BATCH_BYTES, _WORKERS = 24 * 64 * 224 * 224 * 3, 12


def conditions(settings: Settings, results: Results) -> None:
    """What the figures depend on."""
    results.add("processor", f"{os.cpu_count()} cores, {load()}, Python {platform.python_version()}")
    names = ("torch", "triton", "pytorch-lightning", "torchmetrics", "av", "numpy")
    results.add("packages", ", ".join(f"{name} {_version(name)}" for name in names))
    if settings.device == "cuda":
        _add_gpu(results)
    tf32 = [("convolutions", torch.backends.cudnn.allow_tf32), ("products", torch.backends.cuda.matmul.allow_tf32)]
    results.add("float32 computed in TF32, by default", ", ".join(f"{of}: {_yes(value)}" for of, value in tf32))
    header = (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()
    compiler = shutil.which("cc") or shutil.which("gcc")
    works = float(compiler is not None and (settings.device == "cpu" or (header and _version("triton") != "none")))
    told = f"C compiler: {_yes(compiler)}, Python.h: {_yes(header)}, Triton: {_version('triton')}"
    results.add("what torch.compile needs", told, works, Goal(1, words="all there"))
    if _SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(_SHARED_MEMORY).free / 2**30
        held = LoaderOptions().prefetch_factor + HELD_BATCHES
        needed = _WORKERS * held * _I3D_BATCH_BYTES / 2**30  # see MemoryPool
        results.add(
            f"shared memory, for {_WORKERS} workers of 24 clips of 64 x 224",
            f"{free:.1f} GiB free",
            free,
            Goal(round(needed, 1), "GiB"),
        )


def _add_gpu(results: Results) -> None:
    cudnn, nccl = torch.backends.cudnn.version() or 0, ".".join(map(str, torch.cuda.nccl.version()))
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    results.add("GPU", f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, {_driver()}")
    results.add("CUDA, cuDNN, NCCL of torch", f"{torch.version.cuda}, {cudnn}, {nccl}")
    right = "not one of 9.8 to 9.14" if cudnn not in WRONG_CUDNN else "one of 9.8 to 9.14, which may convolve wrongly"
    results.add("cuDNN for 3D in bf16", right, float(cudnn not in WRONG_CUDNN), Goal(1, words="not 9.8 to 9.14"))


def _driver() -> str:
    query = "driver_version,clocks.max.sm,power.limit,pcie.link.gen.current,pcie.link.width.current"
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
        return f"driver, clock, power, PCIe generation and lanes: {lines[0]}"
    return "driver unknown: nvidia-smi does not run"


def rates(settings: Settings, results: Results) -> None:
    """Rates of large products of matrices and of copies to the device."""
    device = torch.device(settings.device)
    size = "8192 x 8192" if settings.device == "cuda" else "1024 x 1024"
    kinds = ((PRODUCT, torch.bfloat16, True), ("TF32", torch.float32, True), ("float32", torch.float32, False))
    for name, dtype, tf32 in kinds:
        with convolution_settings(tf32):
            rate = matmul_rate(device, dtype)
        question = name if name == PRODUCT else f"product of matrices, {name}"
        results.add(question, f"{rate:.2f} TFLOP/s, {size}", rate)
    count = 2**20 if settings.tiny else 2**28
    host, there = torch.ones(count, dtype=torch.uint8), torch.empty(count, dtype=torch.uint8, device=device)
    results.add("copy of a pageable batch to the device", f"{_copy_rate(host, there):.1f} GB/s")
    if settings.device == "cuda":
        results.add("copy of a pinned batch to the device", f"{_copy_rate(host.pin_memory(), there):.1f} GB/s")
    other = torch.empty_like(there)
    results.add("copy on the device, read and written", f"{2 * _copy_rate(there, other) / 1000:.2f} TB/s")


def _copy_rate(source: Tensor, target: Tensor) -> float:
    def copy() -> None:
        target.copy_(source, non_blocking=True)
        if target.is_cuda:
            torch.cuda.synchronize()

    seconds = [spend(copy).wall for _ in range(9)]
    return source.nbytes / statistics.median(seconds[2:]) / 1e9


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _yes(value: object) -> str:
    return "yes" if value else "no"
