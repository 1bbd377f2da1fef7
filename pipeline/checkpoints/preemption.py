"""Preemption by SIGTERM or Ctrl-C: all ranks save a checkpoint at the end of the step, then stop.

Lightning's own handler is replaced: with several processes it starts a collective within the signal handler, between
those of training, and hangs or mixes them up unless every rank gets the signal at the same moment. The handler here
only sets a flag, and the ranks agree at the end of a step.

The first Ctrl-C sets the flag too; the second raises KeyboardInterrupt as usual, which Lightning handles.
"""

import os
import signal
import threading
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException

EXIT_STATUS = 128 + signal.SIGTERM
_CTRL_C_MESSAGE = (
    b"\nCtrl-C: saving at the end of the step, then leaving; a second Ctrl-C ends at once, without saving\n"
)


class PreemptionExit(SIGTERMException):
    """Raised on all ranks after the checkpoint is saved; a `SystemExit` with status 143, or 130 after Ctrl-C.

    Args:
        trainer: the run's trainer; ranks started by Lightning's launcher exit with status 0.
        interrupted: whether the cause was Ctrl-C.
    """

    def __init__(self, trainer: pl.Trainer, interrupted: bool = False) -> None:
        self.is_interrupted = interrupted
        # Lightning's launcher kills all processes when one of its children ends with a status other than 0.
        cluster = getattr(trainer.strategy, "cluster_environment", None)
        launched = isinstance(cluster, LightningEnvironment) and trainer.local_rank > 0
        status = 128 + signal.SIGINT if interrupted else EXIT_STATUS
        super().__init__(0 if launched else status)


class DelayedAnyReduce:
    """Asynchronous any-reduce of flags over ranks: its results are known one call later, so that nothing is waited for.

    The flags are in memory of the host and reduced by gloo, also where gradients are reduced by NCCL: an all-reduce on
    the GPU would wait there for the step that was just launched, and reading its result would make the host wait too.
    """

    def __init__(self) -> None:
        self._pending: tuple[torch.Tensor, dist.Work] | None = None
        self._group: dist.ProcessGroup | None = None

    def any_rank(self, trainer: pl.Trainer, *values: bool) -> tuple[bool, ...]:
        """Starts an all-reduce and returns the results of the previous one; called by all ranks at the same steps.

        Args:
            trainer: the run's trainer.
            *values: values of this rank, as many at each call.

        Returns:
            For each value whether any rank passed True at the previous call; with a single rank, `values`.
        """
        if trainer.world_size == 1:
            return values
        results = self._wait_for_results() or (False,) * len(values)
        if self._group is None and dist.get_backend() != "gloo":
            self._group = dist.new_group(backend="gloo")
        flags = torch.tensor(values, dtype=torch.uint8)
        work = dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._pending = flags, work
        return results

    def _wait_for_results(self) -> tuple[bool, ...]:
        if self._pending is None:
            return ()
        flags, work = self._pending
        self._pending = None
        work.wait()
        return tuple(map(bool, flags.tolist()))

    def finish(self) -> None:
        """Waits for the pending all-reduce before the process group is destroyed, after a run that succeeded."""
        with suppress(RuntimeError):  # other ranks may have exited
            self._wait_for_results()


class PreemptionNotice:
    """Request to stop this run, given by SIGTERM or Ctrl-C to any of its processes, or by `request`.

    Protocol for callbacks: call `install_handlers` in `on_train_start`, and `poll` after each optimizer step; once it
    is true on any rank (`DelayedAnyReduce`), save and raise `PreemptionExit(trainer)`. Call `restore_handlers` in
    `on_train_end` and `on_exception`.
    """

    def __init__(self) -> None:
        self.is_requested = self.is_interrupted = False
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def request(self, *_: object) -> None:
        """Requests the stop; safe in signal handlers and other threads."""
        self.is_requested = True

    def install_handlers(self, interrupts: bool = False) -> bool:
        """Installs the handler of SIGTERM; further SIGTERMs have no effect.

        Args:
            interrupts: whether to handle the first Ctrl-C too, unless a handler of SIGINT is already installed.

        Returns:
            False outside the main thread, where handlers cannot be installed.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        self._previous_handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, self.request)
        if interrupts and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous_handlers[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        return True

    def _interrupt(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.is_interrupted = True
        self.request()
        if os.environ.get("LOCAL_RANK", "0") == "0":
            with suppress(OSError):  # not sys.stderr, whose write may be what the signal interrupted
                os.write(2, _CTRL_C_MESSAGE)

    def poll(self) -> bool:
        """Whether this process was asked to stop."""
        return self.is_requested

    def restore_handlers(self) -> None:
        """Restores the previous signal handlers."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous_handlers.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._previous_handlers = {}
