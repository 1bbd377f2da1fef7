"""A child process that runs one function at a time and is killed when that hangs or when its parent dies.

For work that may hang or crash inside a C library, or that needs an environment of its own. It is started as a fresh
interpreter, not forked and not through multiprocessing: it inherits no thread, lock or open file, does not run the
caller's main module again, and may be used where the caller is a daemonic process itself (Ray tasks, pool workers).
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
_CHILD_CHECK_S = 0.5  # its own children may hold the connection open when it has died
_PROGRESS = "progress"  # the first word of such a message, where an answer has whether the call succeeded
_PROGRESS_SHARE = 0.05  # of the time without progress that is allowed, between two reports
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]) or sys.path; "
    "from pipeline.processes.killable_process import _serve; _serve()"
)


class ProcessHung(RuntimeError):  # noqa: N818 - what happened, not an error of ours
    """The call took longer than its limit, or made no progress for so long; the process was killed."""


class ProcessDied(RuntimeError):  # noqa: N818
    """The process ended in the middle of the call; the message names the signal or exit code.

    Attributes:
        exit_status: Of the process: minus the number of the signal that ended it, as in `subprocess`.
    """

    def __init__(self, message: str, exit_status: int = 0) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ProcessUnavailable(RuntimeError):  # noqa: N818
    """The process cannot be started or was stopped: nothing that the called function can be blamed for."""


class KillableProcess:
    """Runs functions in a child process, which is started at the first call, and again after a kill or a crash.

    Use it from one thread; `stop` alone may come from another, and ends a call in progress.

    Args:
        environment: All environment variables of the child; None: those of this process.
        folder: Working directory of the child; None: that of this process.
        inherit_path: Whether the child imports from `sys.path` of this process; if not, from its PYTHONPATH and what is
            installed.
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
            timeout: Seconds the call may take; starting the child and importing the function do not count.
            by_progress: The function takes a keyword `progress` too, which it is to call with a number that grows, such
                as the frames done: the call may then take as long as it likes, and `timeout` without progress.

        Raises:
            ProcessHung: It took longer.
            ProcessDied: The child crashed, or was killed by someone else.
            Exception: What the function raised; RuntimeError with its text where that cannot be pickled.
            ProcessUnavailable: The child cannot be started, or `stop` was called.
        """
        if self._process is not None and self._process.poll() is not None:
            self._bury()  # it died between two calls: this one is not to blame
        connection = self._connection or self._start()
        try:
            connection.send((function, args, timeout * _PROGRESS_SHARE if by_progress else None))
            self._wait(connection, START_LIMIT_S)  # imports the function's module: not part of the time limit
            begun, value = connection.recv()
            if begun:
                succeeded, value = self._answer(connection, timeout, by_progress)
        except (EOFError, OSError):
            process = self._process
            ended = self._bury()
            if self._stopped:
                raise ProcessUnavailable("the process was stopped") from None
            raise ProcessDied(ended, process.returncode if process is not None else 0) from None
        if not begun or not succeeded:
            raise value
        result: Result = value
        return result

    def stop(self) -> None:
        """Kill the child, from any thread: a call in progress or a later one raises ProcessUnavailable."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the child and free what it held; from the thread that uses it."""
        self.stop()
        self._bury()

    def _answer(self, connection: Connection, timeout: float, by_progress: bool) -> tuple[bool, Any]:
        """Whether the call succeeded, and its result or error; reports of progress before that begin the time anew."""
        said = "made no progress for" if by_progress else "took more than"
        reached = -math.inf
        end = time.monotonic() + timeout
        while True:
            self._wait(connection, max(0.0, end - time.monotonic()), f"{said} {timeout:g} s")
            kind, value = connection.recv()
            if kind != _PROGRESS:
                return kind, value
            if value > reached:
                reached, end = value, time.monotonic() + timeout

    def _wait(self, connection: Connection, seconds: float, what: str = "") -> None:
        """Return when there is something to receive, or the child has died."""
        end = time.monotonic() + seconds
        while not connection.poll(min(_CHILD_CHECK_S, max(0.0, end - time.monotonic()))):
            if self._process is None or self._process.poll() is not None:
                if connection.poll():  # its last message
                    return
                raise EOFError
            if time.monotonic() >= end:
                self._bury(grace_s=0)
                raise ProcessHung(what or f"took more than {seconds:g} s")

    def _start(self) -> Connection:
        try:
            self._connection = connection = self._spawn()
        except OSError as error:
            raise ProcessUnavailable(f"a child process cannot be started: {error}") from None
        try:
            if not connection.poll(START_LIMIT_S):
                raise ProcessUnavailable(f"a child process did not start within {START_LIMIT_S:g} s: {self._bury()}")
            connection.recv()
        except (EOFError, OSError):
            raise ProcessUnavailable(f"a child process cannot be started: {self._bury()}") from None
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

    def _bury(self, grace_s: float = 1.0) -> str:
        """Free what the child held and say how it ended; it is killed where it still lives after `grace_s` seconds."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        messages, self._messages = self._messages, None
        if connection is not None:
            connection.close()
        if process is None or messages is None:
            return "not running"
        try:
            code = process.wait(timeout=grace_s)  # one that crashed has closed its end a moment before it is gone
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with messages:
            messages.seek(0)
            last_words = messages.read().decode(errors="replace").strip()[-300:]
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{ended}: {last_words}" if last_words else ended


def _serve() -> None:
    """The child's side: answer calls until the parent closes its end or dies."""
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
            options = {} if report_s is None else {"progress": _Reports(connection, report_s)}
            answer = (True, function(*args, **options))
        except Exception as error:
            answer = (False, _portable(error))
        connection.send(answer)


class _Reports:
    """What a function calls with how far it is: sent to the parent, now and then, as most calls follow each other fast.

    Args:
        connection: To the parent.
        every_s: Seconds from one report to the next, at least.
    """

    def __init__(self, connection: Connection, every_s: float) -> None:
        self._connection = connection
        self._every_s = every_s
        self._next = 0.0

    def __call__(self, reached: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_s
            self._connection.send((_PROGRESS, reached))


def _exit_with_parent(connection: int, parent: int) -> None:
    """End this process, whatever it is doing, when the parent's end of the connection closes."""
    poll = select.poll()
    poll.register(connection, 0)  # reports a hang-up alone
    while not poll.poll(_PARENT_CHECK_S * 1000):
        if os.getppid() != parent:
            break
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error, or one with its text where it does not survive pickling (or runs into an own __init__ there)."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
