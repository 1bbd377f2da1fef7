"""SIGTERM and Ctrl-C: a run that is to leave saves first, all ranks together, at the end of a step.

Lightning's own handler cannot be had beside it: with several processes it starts a collective from within the signal
handler, between those of training, and hangs or mixes them up unless every rank gets the signal at the same moment.
So from the first step on the handler here takes its place; it takes a note, and the ranks agree at the end of a step.

The first Ctrl-C is such a note too; the second is Python's KeyboardInterrupt again, and Lightning's to deal with.
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
_ON_CTRL_C = b"\nCtrl-C: saving at the end of the step, then leaving; a second Ctrl-C ends at once, without saving\n"


class Preempted(SIGTERMException):
    """Raised on all ranks once the checkpoint is saved; as a `SystemExit` it ends the process with status 143 or 130.

    Args:
        trainer: of the run.
        interrupted: by Ctrl-C: status 130.
    """

    def __init__(self, trainer: pl.Trainer, interrupted: bool = False) -> None:
        self.interrupted = interrupted
        # Lightning's launcher kills all processes when one that it started ends with another status than 0.
        cluster = getattr(trainer.strategy, "cluster_environment", None)
        launched = isinstance(cluster, LightningEnvironment) and trainer.local_rank > 0
        status = 128 + signal.SIGINT if interrupted else EXIT_STATUS
        super().__init__(0 if launched else status)


class LateAgreement:
    """Whether any rank has said yes, known one call later, so that no rank waits for another or for its device."""

    def __init__(self) -> None:
        self._asked: tuple[torch.Tensor, dist.Work] | None = None

    def any_rank(self, trainer: pl.Trainer, mine: bool) -> bool:
        """A collective: every rank calls it at the same points of training.

        Args:
            trainer: of the run.
            mine: what this rank says now.

        Returns:
            What any rank said at the call before; with a single rank, what it says now.
        """
        if trainer.world_size == 1:
            return mine
        answer = self._answer()
        told = torch.tensor([int(mine)], device=trainer.strategy.root_device)
        work = dist.all_reduce(told, op=dist.ReduceOp.MAX, async_op=True)
        assert work is not None
        self._asked = told, work
        return answer

    def _answer(self) -> bool:
        if self._asked is None:
            return False
        told, work = self._asked
        self._asked = None
        work.wait()
        return bool(told.item())

    def finish(self) -> None:
        """At the end of a run that went well: takes the last answer in, before the process group goes."""
        with suppress(RuntimeError):  # the others may be gone
            self._answer()


class PreemptionNotice:
    """That this run is to leave: by SIGTERM or Ctrl-C to any of its processes, or by `give`.

    Another callback that saves may use it: `listen` at `on_train_start`, `agreed` on all ranks after each optimizer
    step, and where that is true save and raise `Preempted(trainer)`; `close` at `on_train_end` and `on_exception`.
    """

    def __init__(self) -> None:
        self.given = self.interrupted = False
        self._agreement = LateAgreement()
        self._before: dict[signal.Signals, Any] = {}

    def give(self, *_: object) -> None:
        """Notes that the run is to leave; safe in signal handlers and from other threads."""
        self.given = True

    def listen(self, interrupts: bool = False) -> bool:
        """Takes SIGTERM from now on; a second one changes nothing. False in a thread, where signals cannot be had.

        Args:
            interrupts: takes one Ctrl-C too, where it would end the process: not where somebody has a handler for it.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self.give)
        if interrupts and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        return True

    def _interrupt(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.interrupted = True
        self.give()
        if os.environ.get("LOCAL_RANK", "0") == "0":
            with suppress(OSError):  # not through sys.stderr, in whose midst this may be
                os.write(2, _ON_CTRL_C)

    def agreed(self, trainer: pl.Trainer) -> bool:
        """Whether any rank has had notice; a collective. With several ranks, as of the call before."""
        return self._agreement.any_rank(trainer, self.given)

    def close(self, failed: bool = False) -> None:
        """Gives the signals back to whom they were; `failed` where the other ranks are not to be waited for."""
        if not failed:
            self._agreement.finish()
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._before = {}
