"""The device of inference: how much it takes at once, by its memory, and how it computes, for the provenance."""

import os

import torch

from datamodules.loading.loader_options import DEFAULT_WORKERS
from pipeline.processes.machine import num_processors

_FORWARD_BYTES = 2**25  # 13 of C3D's clips, whose first layer then takes 0.7 GB
_MAX_FORWARD_BYTES = 2**30  # 27 of I3D's clips of 64 x 224 x 224
_BATCH_BYTES = 2**23  # ten clips of C3D
_MAX_BATCH_BYTES = 2**27


def inference_device(accelerator: str) -> torch.device:
    """The device that Lightning chooses for an accelerator: `cuda` where it may and there is a GPU, else its name."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device(accelerator if accelerator in ("mps", "xpu", "hpu") else "cpu")


def forward_bytes(device: torch.device) -> int:
    """Bytes of float32 clips in one forward pass: on a GPU a 64th of its memory, as layers take several times more."""
    return _share(device, 64, _FORWARD_BYTES, _MAX_FORWARD_BYTES)


def batch_bytes(device: torch.device) -> int:
    """Bytes of the uint8 clips of a batch: on a GPU as many clips as in one forward pass."""
    return _share(device, 256, _BATCH_BYTES, _MAX_BATCH_BYTES)


def loader_workers(device: torch.device, devices: int) -> int:
    """Data loader workers of a rank of inference, as many as it takes to keep the device busy.

    The rank's share of the processors, less one for the rank itself: in bf16 a GPU takes several times the clips that
    two workers decode. On a CPU not more than two, as decoding is a twentieth of the work there, and at least one:
    where a video makes the decoder hang, it is a worker that is ended.

    Args:
        device: the device of inference.
        devices: ranks on this machine, by the options; a launcher's LOCAL_WORLD_SIZE, as of Ray Train, counts too.
    """
    ranks = max(devices, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    free = num_processors() // ranks - 1
    return max(DEFAULT_WORKERS, free) if device.type == "cuda" else max(1, min(DEFAULT_WORKERS, free))


def _share(device: torch.device, divisor: int, on_cpu: int, limit: int) -> int:
    if device.type != "cuda":
        return on_cpu
    total = int(torch.cuda.get_device_properties(device).total_memory)
    return max(on_cpu, min(limit, total // divisor))


def describe_arithmetic(accelerator: str, precision: str) -> str:
    """How numbers are computed, such as `bf16-mixed on cpu`; results of different arithmetic differ in rounding.

    In 32-true, NVIDIA's GPUs round the operands of convolutions, and of matrix products if asked to, to TF32.
    """
    device = inference_device(accelerator)
    if device.type != "cuda" or precision != "32-true":
        return f"{precision} on {device.type}"
    kinds = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    rounded = " and ".join(kind for kind, is_rounded in kinds.items() if is_rounded)
    return f"{precision} on cuda" + (f", {rounded} in TF32" if rounded else "")


def device_name(accelerator: str) -> str:
    """The model of the GPU, or the type of the device."""
    device = inference_device(accelerator)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
