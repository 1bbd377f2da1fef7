"""Runs two real steps of a configuration in a child process: whether they fit into memory, their time and memory."""

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
from pipeline.doctor.check_results import SkippedCheck
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung

# Lightning's trial run: two batches of training and of validation; no loggers, no checkpoints.
_OVERRIDES = ("fast_dev_run=2", "devices=1", "num_nodes=1", "strategy=auto", "enable_progress_bar=false")

_NO_MEMORY = (
    "DefaultCPUAllocator",
    "t allocate memory",
    "annot allocate memory",
    "MemoryError",
)  # torch, the system, Python


def check_step(config: Sequence[str], limit_s: float, accelerator: str | None = None) -> str:
    """Runs two steps of training and of validation.

    Args:
        config: the options of `fit`, such as ["--config", "pipeline/configs/demo.yaml"]; empty: the check is skipped.
        limit_s: time limit in seconds, after which the child is killed.
        accelerator: accelerator of the Trainer, in place of the configuration's; default: the configuration's.

    Returns:
        A sentence with the shape of the batch, the seconds of the second step, and the memory.

    Raises:
        ValueError: a step failed or took too long; the message has the cause and advice.
    """
    if not config:
        raise SkippedCheck("no --config was given")
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        arguments = [*config, f"--trainer.default_root_dir={folder}", *(f"--trainer.{each}" for each in _OVERRIDES)]
        arguments += [f"--trainer.accelerator={accelerator}"] if accelerator else []
        # Without Slurm's variables: with them Lightning would treat the child as one of Slurm's tasks.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        with KillableProcess(environment | {"WANDB_MODE": "disabled"}) as child:
            try:
                return _describe_steps(child.call(run_two_steps, arguments, timeout=limit_s))
            except ProcessHung:
                raise ValueError(
                    f"two steps took longer than {limit_s:g} s: make the batch smaller, or allow more with "
                    "--step-limit-s"
                ) from None
            except Exception as error:
                raise ValueError(step_advice(error)) from None


def step_advice(error: Exception) -> str:
    """Describes why the child failed, with advice where memory ran out.

    Args:
        error: The exception of the child, or `ProcessDied`.
    """
    message = (explain(error) or type(error).__name__)[:400]
    if isinstance(error, ProcessDied) and error.exit_status == -signal.SIGKILL:
        return (
            "the step was killed, by all signs because memory ran out: lower data.init_args.batch_size or num_workers"
        )
    if "out of memory" in message.lower():
        return (
            f"one step does not fit into the GPU ({message}): lower data.init_args.batch_size, with "
            "trainer.accumulate_grad_batches, or set checkpoint_activations: true, or precision: bf16-mixed"
        )
    if any(pattern in message for pattern in _NO_MEMORY):
        return (
            "one step does not fit into this machine's memory: lower data.init_args.batch_size or num_workers "
            f"({message})"
        )
    return message


def _describe_steps(measured: dict[str, Any]) -> str:
    memory = f"{measured['memory'] / 2**30:.2f} GiB of memory with its loaders"
    if measured["gpu_memory"]:
        memory = f"{measured['gpu_memory'] / 2**30:.2f} of {measured['gpu_total'] / 2**30:.0f} GiB on the GPU, {memory}"
    waited, seconds = measured["waited"][-1], measured["seconds"][-1]
    batch = f"{measured['batch']}; " if measured["batch"] else ""
    return f"{batch}a step takes {seconds:.2f} s after {waited:.2f} s of waiting for data; {memory}"


class StepTimingCallback(pl.Callback):
    """Callback that times training steps and records the shape of the batches.

    Attributes:
        seconds: the duration of each step, in seconds.
        waited: the time that each step waited for its batch, in seconds.
        batch: shape and dtype of the last batch's clips, as text; "" where batches have no clips.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waited: list[float] = []
        self.batch = ""
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the wait for the first batch."""
        self._since = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Ends the wait for a batch and starts the step."""
        now = time.monotonic()
        self.waited.append(now - self._since)
        self._since = now
        clips = getattr(batch, "clips", None)
        if isinstance(clips, torch.Tensor):
            self.batch = f"clips {tuple(clips.shape)} {str(clips.dtype).removeprefix('torch.')}"

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends the step and starts the wait for the next batch."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        self.seconds.append(now - self._since)
        self._since = now


def run_two_steps(config: Sequence[str]) -> dict[str, Any]:
    """Runs the steps in this process.

    Args:
        config: options of `fit`, with the Trainer's options that limit the run to two steps.

    Returns:
        seconds and waited (in seconds, a number for each step), batch (text), and in bytes memory (peak of this
        process and of its largest data loader worker), gpu_memory (peak) and gpu_total.
    """
    from pipeline.training.lightning_cli import build

    warnings.filterwarnings("ignore")
    try:
        cli = build(list(config))
    except SystemExit as stop:  # such as for a request for help
        raise ValueError(f"exit status {stop.code}") from None
    timing = StepTimingCallback()
    trainer: Any = cli.trainer  # Lightning's annotations lack `callbacks`
    trainer.callbacks.append(timing)
    trainer.fit(cli.model, cli.datamodule)
    own, loaders = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    return {
        "seconds": timing.seconds,
        "waited": timing.waited,
        "batch": timing.batch,
        "memory": (own + loaders) * (1 if sys.platform == "darwin" else 1024),
        "gpu_memory": torch.cuda.max_memory_reserved() if on_gpu else 0,
        "gpu_total": torch.cuda.get_device_properties(0).total_memory if on_gpu else 0,
    }
