"""Two real steps of a configuration, in a child process: what they take in time and memory, and whether they fit."""

import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from pipeline.cli.errors import explain
from pipeline.doctor.findings import SkippedCheck
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung

# Lightning's own way to try a run: two batches of training and validation; no loggers, no checkpoints.
_OVERRIDES = ("fast_dev_run=2", "devices=1", "num_nodes=1", "strategy=auto", "enable_progress_bar=false")

_NO_MEMORY = (
    "DefaultCPUAllocator",
    "t allocate memory",
    "annot allocate memory",
    "MemoryError",
)  # torch, the system, Python


def check_step(config: Sequence[str], limit_s: float, accelerator: str | None = None) -> str:
    """Takes two steps of training and of validation.

    Args:
        config: the options of `fit`, such as ["--config", "pipeline/configs/demo.yaml"]; empty where there are none.
        limit_s: seconds until the child is given up.
        accelerator: in place of the configuration's.

    Returns:
        The batch, the seconds of the second step, and the memory.

    Raises:
        ValueError: a step failed; the message is the child's own.
    """
    if not config:
        raise SkippedCheck("no --config was given")
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        words = [*config, f"--trainer.default_root_dir={folder}", *(f"--trainer.{each}" for each in _OVERRIDES)]
        words += [f"--trainer.accelerator={accelerator}"] if accelerator else []
        # Without Slurm's variables: Lightning would take the child for one of Slurm's tasks.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        with KillableProcess(environment | {"WANDB_MODE": "disabled"}) as child:
            try:
                return _in_words(child.call(take_steps, words, timeout=limit_s))
            except ProcessHung:
                raise ValueError(
                    f"two steps took longer than {limit_s:g} s: make the batch smaller, or allow more with "
                    "--step-limit-s"
                ) from None
            except Exception as error:
                raise ValueError(step_advice(error)) from None


def step_advice(error: Exception) -> str:
    """Why the child took no steps, and what to do where memory ran out.

    Args:
        error: What it raised, or `ProcessDied`.
    """
    said = (explain(error) or type(error).__name__)[:400]
    if isinstance(error, ProcessDied) and error.exit_status == -signal.SIGKILL:
        return (
            "the step was killed, by all signs because memory ran out: lower data.init_args.batch_size or num_workers"
        )
    if "out of memory" in said.lower():
        return (
            f"one step does not fit into the GPU ({said}): lower data.init_args.batch_size, with "
            "trainer.accumulate_grad_batches, or set checkpoint_activations: true, or precision: bf16-mixed"
        )
    if any(sign in said for sign in _NO_MEMORY):
        return (
            f"one step does not fit into this machine's memory: lower data.init_args.batch_size or num_workers ({said})"
        )
    return said


def _in_words(measured: dict[str, Any]) -> str:
    memory = f"{measured['memory'] / 2**30:.2f} GiB of memory with its loaders"
    if measured["gpu_memory"]:
        memory = f"{measured['gpu_memory'] / 2**30:.2f} of {measured['gpu_total'] / 2**30:.0f} GiB on the GPU, {memory}"
    waited, seconds = measured["waited"][-1], measured["seconds"][-1]
    batch = f"{measured['batch']}; " if measured["batch"] else ""
    return f"{batch}a step takes {seconds:.2f} s after {waited:.2f} s of waiting for data; {memory}"


class Measure(pl.Callback):
    """Times the training steps of a process and notes what they were given."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waited: list[float] = []
        self.batch = ""
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on the first batch is waited for."""
        self._since = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is there."""
        now = time.monotonic()
        self.waited.append(now - self._since)
        self._since = now
        clips = getattr(batch, "clips", None)
        if isinstance(clips, torch.Tensor):
            self.batch = f"clips {tuple(clips.shape)} {str(clips.dtype).removeprefix('torch.')}"

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The step is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        self.seconds.append(now - self._since)
        self._since = now


def take_steps(config: Sequence[str]) -> dict[str, Any]:
    """Takes the steps in this process.

    Args:
        config: options of `fit`, with those of the Trainer that keep it short.

    Returns:
        seconds and waited (a number a step), batch (in words), memory, gpu_memory and gpu_total (bytes).
    """
    from pipeline.training.lightning_cli import build

    warnings.filterwarnings("ignore")
    try:
        cli = build(list(config))
    except SystemExit as stop:  # a configuration that asks for help, say
        raise ValueError(f"exit status {stop.code}") from None
    measure = Measure()
    trainer: Any = cli.trainer  # Lightning's type does not say that it has callbacks
    trainer.callbacks.append(measure)
    trainer.fit(cli.model, cli.datamodule)
    own, loaders = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    return {
        "seconds": measure.seconds,
        "waited": measure.waited,
        "batch": measure.batch,
        "memory": (own + loaders) * (1 if sys.platform == "darwin" else 1024),
        "gpu_memory": torch.cuda.max_memory_reserved() if on_gpu else 0,
        "gpu_total": torch.cuda.get_device_properties(0).total_memory if on_gpu else 0,
    }
