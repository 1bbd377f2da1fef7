"""A child process that runs one function at a time, and is killed when the function hangs or the parent dies.

For work that may hang or crash inside a C library, or that needs an environment of its own. The child is started as a
fresh interpreter, not forked and not through multiprocessing: it inherits no thread, lock or open file, does not run
the caller's main module again, and may be used in daemonic processes (Ray tasks, pool workers).
"""

import json
import math
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

Result = TypeVar("Result")

START_LIMIT_S = 120.0
_PARENT_CHECK_S = 2.0
_CHILD_CHECK_S = 0.5  # the child's own children may hold the connection open after its death
_PROGRESS = "progress"  # first element of a progress message; in an answer it is whether the call succeeded
_PROGRESS_SHARE = 0.05  # seconds between two progress reports / seconds allowed without progress
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]) or sys.path; "
    "from pipeline.processes.killable_process import _serve; _serve()"
)


class ProcessHung(RuntimeError):  # noqa: N818 - what happened, not an error of ours
    """The call exceeded its time limit, in total or without progress; the process was killed."""


class ProcessDied(RuntimeError):  # noqa: N818
    """The process ended in the middle of the call; the message names the signal or exit code.

    Attributes:
        exit_status: Exit status of the process; minus the number of the signal that ended it, as in `subprocess`.
    """

    def __init__(self, message: str, exit_status: int = 0) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ProcessUnavailable(RuntimeError):  # noqa: N818
    """The process cannot be started, or was stopped by `stop`; the called function is not the cause."""


class KillableProcess:
    """Runs functions in a child process, which is started at the first call, and again after a kill or a crash.

    Use it from one thread; only `stop` may be called from another thread, and ends a call in progress.

    Args:
        environment: All environment variables of the child; None: the environment of this process.
        folder: Working directory of the child; None: the working directory of this process.
        inherit_path: Whether the child imports from this process's `sys.path`; if not, from its PYTHONPATH and the
            installed packages.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, folder: Path | None = None, inherit_path: bool = True
    ) -> None:
        self._environment = environment
        self._folder = folder
        self._inherit_path = inherit_path
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._messages: IO[bytes] | None = None
        self._stopped = False
        self._starting = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, function: Callable[..., Result], *args: Any, timeout: float, by_progress: bool = False) -> Result:
        """Call `function(*args)` in the child.

        Args:
            function: A function of an importable module; it, its arguments and its result are pickled.
            args: Its arguments.
            timeout: Time limit of the call in seconds, without starting the child and importing the function.
            by_progress: The function takes a keyword argument `progress`, a function to call with a growing number,
                such as the frames done; the total time is then unlimited, and `timeout` is the time without progress.

        Raises:
            ProcessHung: The call exceeded its time limit.
            ProcessDied: The child crashed, or was killed from outside.
            Exception: The function's own exception; RuntimeError with its text where it cannot be pickled.
            ProcessUnavailable: The child cannot be started, or `stop` was called.
        """
        if self._process is not None and self._process.poll() is not None:
            self._reap()  # the child died between two calls: restart it
        connection = self._connection or self._start()
        try:
            connection.send((function, args, timeout * _PROGRESS_SHARE if by_progress else None))
            self._wait(connection, START_LIMIT_S)  # the import of the function's module does not count
            begun, value = connection.recv()
            if begun:
                succeeded, value = self._answer(connection, timeout, by_progress)
        except (EOFError, OSError):
            process = self._process
            ended = self._reap()
            if self._stopped:
                raise ProcessUnavailable("the process was stopped") from None
            raise ProcessDied(ended, process.returncode if process is not None else 0) from None
        if not begun or not succeeded:
            raise value
        result: Result = value
        return result

    def stop(self) -> None:
        """Kill the child, from any thread; a call in progress and later calls raise ProcessUnavailable."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the child and free its resources; from the thread that uses it."""
        self.stop()
        self._reap()

    def _answer(self, connection: Connection, timeout: float, by_progress: bool) -> tuple[bool, Any]:
        """Whether the call succeeded, and its result or exception; every report of progress restarts the time limit."""
        failure = "made no progress for" if by_progress else "took more than"
        highest = -math.inf
        end = time.monotonic() + timeout
        while True:
            self._wait(connection, max(0.0, end - time.monotonic()), f"{failure} {timeout:g} s")
            kind, value = connection.recv()
            if kind != _PROGRESS:
                return kind, value
            if value > highest:
                highest, end = value, time.monotonic() + timeout

    def _wait(self, connection: Connection, seconds: float, message: str = "") -> None:
        """Wait for a message; raises EOFError if the child has died, kills it and raises ProcessHung at the limit."""
        end = time.monotonic() + seconds
        while not connection.poll(min(_CHILD_CHECK_S, max(0.0, end - time.monotonic()))):
            if self._process is None or self._process.poll() is not None:
                if connection.poll():  # its last message
                    return
                raise EOFError
            if time.monotonic() >= end:
                self._reap(grace_s=0)
                raise ProcessHung(message or f"took more than {seconds:g} s")

    def _start(self) -> Connection:
        try:
            self._connection = connection = self._spawn()
        except OSError as error:
            raise ProcessUnavailable(f"a child process cannot be started: {error}") from None
        try:
            if not connection.poll(START_LIMIT_S):
                raise ProcessUnavailable(f"a child process did not start within {START_LIMIT_S:g} s: {self._reap()}")
            connection.recv()
        except (EOFError, OSError):
            raise ProcessUnavailable(f"a child process cannot be started: {self._reap()}") from None
        return connection

    def _spawn(self) -> Connection:
        ours, theirs = Pipe()
        path = [os.path.abspath(folder) for folder in sys.path if self._inherit_path]  # noqa: PTH100 - "" is the cwd
        with self._starting, theirs:
            if self._stopped:
                raise ProcessUnavailable("the process was stopped")
            self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _bury
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), json.dumps(path)],
                env=self._environment,
                cwd=self._folder,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._messages,
                stderr=self._messages,
            )
        return ours

    def _reap(self, grace_s: float = 1.0) -> str:
        """Free the child's resources and describe how it ended; it is killed if it still runs after `grace_s` s."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        messages, self._messages = self._messages, None
        if connection is not None:
            connection.close()
        if process is None or messages is None:
            return "not running"
        try:
            code = process.wait(timeout=grace_s)  # a crashed child closes its connection shortly before it exits
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with messages:
            messages.seek(0)
            last_output = messages.read().decode(errors="replace").strip()[-300:]
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{ended}: {last_output}" if last_output else ended


def _serve() -> None:
    """Main loop of the child: answer calls until the parent closes its end of the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    connection = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    sys.argv = sys.argv[:1]
    threading.Thread(target=_exit_with_parent, args=(connection.fileno(), os.getppid()), daemon=True).start()
    connection.send("ready")
    while True:
        try:
            function, args, report_s = connection.recv()
        except EOFError:
            return
        except Exception as error:  # the function's module cannot be imported
            connection.send((False, ProcessUnavailable(f"{type(error).__name__}: {error}")))
            continue
        connection.send((True, None))
        try:
            options = {} if report_s is None else {"progress": _ProgressReporter(connection, report_s)}
            answer = (True, function(*args, **options))
        except Exception as error:
            answer = (False, _portable(error))
        connection.send(answer)


class _ProgressReporter:
    """The `progress` function in the child: sends reports to the parent, at a limited rate.

    Args:
        connection: The connection to the parent.
        every_s: Minimum time between two reports, in seconds.
    """

    def __init__(self, connection: Connection, every_s: float) -> None:
        self._connection = connection
        self._every_s = every_s
        self._next = 0.0

    def __call__(self, progress: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            self._connection.send((_PROGRESS, progress))


def _exit_with_parent(connection: int, parent: int) -> None:
    """End this process at once when the parent's end of the connection closes, or the parent changes."""
    poll = select.poll()
    poll.register(connection, 0)  # only reports a hang-up
    while not poll.poll(_PARENT_CHECK_S * 1000):
        if os.getppid() != parent:
            break
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error or, where it does not survive pickling, such as for its own `__init__`, RuntimeError with its text."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
