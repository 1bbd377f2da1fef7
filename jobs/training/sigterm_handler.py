"""SIGTERM handler of train workers: the first signal makes all ranks leave after a step, the second ends the process.

Python installs signal handlers in the main thread alone, and training runs in another thread. So Ray Train's backend
installs this one (`jobs.training.attempts`), and `HeartbeatSender` reads whether the signal came.
"""

import os
import signal
from typing import Any


class SigtermHandler:
    """Signal handler that records the first SIGTERM, and passes on a second one.

    Args:
        previous: The handler that a second signal goes to.

    Attributes:
        is_signaled: Whether SIGTERM was received.
    """

    def __init__(self, previous: Any) -> None:
        self._previous = previous
        self.is_signaled = False

    def __call__(self, number: int, frame: Any) -> None:
        """Handle a signal; Python calls this in the main thread."""
        if not self.is_signaled:
            self.is_signaled = True
        elif callable(self._previous):
            self._previous(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def install_sigterm_handler() -> None:
    """Install a `SigtermHandler` in this process; call it in the main thread."""
    signal.signal(signal.SIGTERM, SigtermHandler(signal.getsignal(signal.SIGTERM)))


def installed_sigterm_handler() -> SigtermHandler | None:
    """The `SigtermHandler` of this process, which the process itself keeps; None if it has none."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, SigtermHandler) else None
