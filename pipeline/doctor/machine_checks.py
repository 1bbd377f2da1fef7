"""Checks of `doctor` on each machine: decoder, dataset, disk, wandb, GPU. None of them waits for another machine."""

import hashlib
import os
import platform
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import encode_frames
from datamodules.video.decoding import decode_frames, describe_decoder
from pipeline.doctor.check_results import SkippedCheck
from pipeline.processes.killable_process import KillableProcess
from pipeline.training.wandb_run import has_api_key

LIBRARIES = ("torch", "pytorch-lightning", "torchmetrics", "ray", "numpy", "pyarrow", "av", "decord", "torchcodec")
MIN_FREE_BYTES = {"temporary files": 2 * 2**30, "storage": 10 * 2**30, "cache": 2**30}  # bytes
_WANDB_S = 10.0
_GPU_LIMIT_S = 120.0


def installed_versions() -> dict[str, str]:
    """The versions of Python, of the libraries and of what GPUs run on, by name; "" for what is not installed."""
    versions = {"Python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = ""
    return versions | _gpu_software_versions()


def _gpu_software_versions() -> dict[str, str]:
    """The versions of the NVIDIA driver and of the libraries in torch; "" without a GPU or in a CPU build of torch.

    Differences between nodes end collectives of NCCL with errors that do not name them.
    """
    versions = dict.fromkeys(("NVIDIA driver", "CUDA", "cuDNN", "NCCL"), "")
    driver = Path("/sys/module/nvidia/version")
    if driver.exists():
        versions["NVIDIA driver"] = driver.read_text().strip()
    if torch.version.cuda is not None:
        versions["CUDA"] = torch.version.cuda
        versions["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        versions["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return versions


def check_decoder(name: str) -> str:
    """Encodes a few frames and decodes them.

    Raises:
        ValueError: the decoder is not installed, or decodes other frames.
    """
    levels = [40 * step for step in range(6)]
    video = encode_frames([np.full((64, 64, 3), level, np.uint8) for level in levels], 25.0)
    frames = decode_frames(video, [0, 5], name)
    error = np.abs(frames.reshape(2, -1).mean(1) - [levels[0], levels[5]]).max()
    if error > 10:
        raise ValueError(f"{describe_decoder(name)} reads frames that are off by {error:.0f} of 255; use decoder: pyav")
    return describe_decoder(name)


def check_dataset(root: str | None, decoder: str) -> str:
    """Opens the index, reads the first, the middle and the last video of every split, and decodes their first frames.

    Args:
        root: folder or URL of a packed dataset; None: the check is skipped.
        decoder: the decoder of the run: auto, pyav, decord or torchcodec.

    Raises:
        ValueError: the dataset is incomplete, or a video cannot be read.
    """
    if root is None:
        raise SkippedCheck("no --data and no configuration with ShardedVideoDataModule was given")
    began, index = time.monotonic(), DatasetIndex.open(root)
    folds: list[str | None] = [*index.folds] or [None]
    counts, read_rows = index.manifest.fold_counts.get(str(folds[0])) or index.manifest.splits, set()
    for split in counts:
        rows = index.readable_rows(split, folds[0])
        for row in {int(rows[position]) for position in (0, len(rows) // 2, len(rows) - 1)} if len(rows) else ():
            entry = index.entry(row)
            try:
                video = index.read_video(row)
                if hashlib.sha256(video).hexdigest() != entry.content_sha256:
                    raise ValueError("its bytes are not those that were packed")
                decode_frames(video, [0], decoder)
            except (ValueError, OSError) as error:
                raise ValueError(
                    f"{split}: video {entry.key} of {entry.shard} in {root} cannot be read: {error}; "
                    f"`python -m pipeline verify {root}` finds all such"
                ) from None
            read_rows.add(row)
    described = ", ".join(f"{split} {each.videos}" for split, each in counts.items())
    return f"{index.name}: {described}; {len(read_rows)} videos read in {time.monotonic() - began:.1f} s"


def check_disk(folders: Mapping[str, str], min_free_bytes: Mapping[str, int] | None = None) -> str:
    """Compares the free space of folders with the minimum that a run needs.

    Args:
        folders: local folders by purpose, such as `storage`; they need not exist. The system's folder of
            `temporary files` is checked too.
        min_free_bytes: minimum free bytes by purpose; default: `MIN_FREE_BYTES`.

    Raises:
        ValueError: a folder has less free space.
    """
    described = []
    for purpose, path in {"temporary files": tempfile.gettempdir(), **folders}.items():
        folder = Path(path)
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free, needed = shutil.disk_usage(folder).free, (min_free_bytes or MIN_FREE_BYTES).get(purpose, 0)
        if free < needed:
            raise ValueError(
                f"{purpose}: {free / 2**30:.1f} GiB are free at {folder}, fewer than {needed / 2**30:.1f}; make room, "
                f"or choose another place{' (TMPDIR)' if purpose == 'temporary files' else ''}"
            )
        described.append(f"{purpose} {free / 2**30:.0f} GiB at {folder}")
    return ", ".join(described)


def check_shared_memory(rank_bytes: int, num_ranks: int, folder: str = "/dev/shm") -> str:
    """Compares the free space of the shared memory with what the workers of the data loaders may hold there.

    Args:
        rank_bytes: bytes that the workers of a rank may hold: `CheckPlan.shared_memory_bytes`.
        num_ranks: number of ranks on this machine.
        folder: where the system keeps shared memory.

    Raises:
        ValueError: less is free; a worker would be killed by SIGBUS in the middle of the run.
    """
    if not rank_bytes:
        raise SkippedCheck("the configuration has no data loader workers")
    if not Path(folder).is_dir():
        raise SkippedCheck(f"this system has no {folder}")
    free, needed = shutil.disk_usage(folder).free, rank_bytes * num_ranks
    described = f"{free / 2**30:.2f} GiB are free at {folder}, and loaders may hold {needed / 2**30:.2f} GiB of batches"
    if free < needed:
        raise ValueError(
            f"{described}: make it larger (docker: --shm-size; Kubernetes: an emptyDir in memory at {folder}), lower "
            "data.init_args.batch_size or num_workers, or set pixels: i420"
        )
    return described


def check_wandb(is_online: bool | None, mode: str | None) -> str:
    """Checks that wandb's server answers, where the run will contact it.

    Args:
        is_online: whether the configuration has an online WandbLogger; None: unknown.
        mode: wandb mode of the job: auto, online, offline or disabled; None: from the environment.

    Raises:
        ValueError: the server does not answer, or mode `online` has no key.
    """
    if is_online is False:
        raise SkippedCheck("the configuration has no WandbLogger, or one that is offline")
    mode = os.environ.get("WANDB_MODE", "auto") if mode in (None, "auto") else mode
    if mode in ("offline", "disabled", "dryrun"):
        return f"mode {mode}: no server is needed"
    if not has_api_key():
        if mode == "online":
            raise ValueError("wandb is to be online and has no key: set WANDB_API_KEY on the nodes, or mode offline")
        return "no key is set, so it is offline; `wandb sync` uploads afterwards"
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    try:
        urllib.request.urlopen(f"{url}/healthz", timeout=_WANDB_S).close()
    except urllib.error.HTTPError:
        pass  # the server answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"{url} does not answer ({reason}): open the way there, set WANDB_BASE_URL, or wandb_mode: offline"
        ) from None
    return f"{url} answers"


def check_gpu(is_required: bool | None) -> str:
    """Checks the free memory and the bf16 support of the GPUs that this process sees.

    Args:
        is_required: whether the run needs a GPU; None: unknown.

    Raises:
        ValueError: a GPU is needed and there is none, or less than half of a GPU's memory is free.
    """
    if not torch.cuda.is_available():
        if is_required:
            raise ValueError(
                f"torch {torch.__version__} sees no GPU: install its CUDA build and the driver, or set "
                "gpus_per_worker: 0"
            )
        raise SkippedCheck("torch sees no GPU, and none was asked for")
    with KillableProcess() as child:  # its context goes with it: a GPU in exclusive mode takes one process
        return child.call(_describe_gpus, timeout=_GPU_LIMIT_S)


def _describe_gpus() -> str:
    """Models, memory and bf16 support of the GPUs.

    Raises:
        ValueError: less than half of a GPU's memory is free.
    """
    described = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        if free < total / 2:
            raise ValueError(
                f"GPU {number} ({name}): {free / 2**30:.1f} of {total / 2**30:.1f} GiB are free: end what uses the "
                "rest (nvidia-smi names it)"
            )
        with torch.cuda.device(number):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        described.append(f"{name}, {total / 2**30:.0f} GiB, {'bf16' if bf16 else 'no bf16: use 16-mixed or 32-true'}")
    return "; ".join(f"{described.count(each)} x {each}" for each in dict.fromkeys(described))
