"""Which rank hangs when no rank makes progress, what a heartbeat reports, which requests reach a rank, what failed."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import ray.train
import torch.distributed as dist
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from jobs.spec.job_spec import JobSpec
from jobs.storage.run_folder import RunFolder
from jobs.training import heartbeat, stop_signal
from jobs.training.failure_callback import FailureCallback
from jobs.training.heartbeat import DriverRequest, HeartbeatBoard, HeartbeatSender, RankHeartbeat
from jobs.training.stop_signal import JobStoppedError, stop_on_sigterm
from jobs.training.watchdog import describe_hang, lagging_ranks
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore


def make_heartbeat(rank: int, num_phases: int, phase: str, stack: str = "", group: str = "g") -> RankHeartbeat:
    return RankHeartbeat(group, rank, 3, 100 + rank, 0.0, "node", num_phases, phase, True, stack)


def test_the_rank_that_the_others_wait_for_hangs() -> None:
    heartbeats = [(make_heartbeat(rank, 7 if rank == 1 else 9, "step 3, backward"), 0.5) for rank in range(3)]
    assert [one.rank for one, _ in lagging_ranks(heartbeats)] == [1]


def test_of_those_in_the_same_phase_the_unresponsive_one_hangs() -> None:
    """As after SIGSTOP, in the midst of a collective."""
    heartbeats = [(make_heartbeat(rank, 9, "step 3, backward"), 40.0 if rank == 2 else 0.5) for rank in range(3)]
    hung = lagging_ranks(heartbeats)
    assert [one.rank for one, _ in hung] == [2]
    assert describe_hang(hung, 30).startswith(
        "hung: no progress for 30 s (hang_timeout_s) of rank 2 of 3 (process 102, "
    )
    assert "its process does not answer" in describe_hang(hung, 30)


def test_all_are_named_where_none_stands_out() -> None:
    heartbeats = [(make_heartbeat(rank, 9, "step 3, backward"), 0.5) for rank in range(3)]
    assert describe_hang(lagging_ranks(heartbeats), 30).count("step 3, backward") == 3


def test_the_innermost_own_frame_is_named() -> None:
    stack = (
        '  File "/r/_ray_pkg_0a1/my/model.py", line 30, in training_step\n    x\n'
        '  File "/venv/lib/python3.11/site-packages/torch/x.py", line 3, in f\n    y\n'
    )
    assert "in my/model.py, line 30, training_step)" in describe_hang([(make_heartbeat(1, 7, "data", stack), 0.5)], 30)


def test_the_board_knows_the_newest_group_alone() -> None:
    board = HeartbeatBoard()
    board.record(make_heartbeat(0, 1, "a"))
    board.set_request("g", DriverRequest(leave_reason="stop"))
    assert board.record(make_heartbeat(1, 1, "a")).leave_reason == "stop"
    assert not board.record(make_heartbeat(0, 1, "a", group="h")).leave_reason, (
        "a request to an old attempt does not reach the new one"
    )
    board.record(make_heartbeat(1, 5, "late"))
    assert [(one.group, one.rank) for one, _ in board.heartbeats()] == [("h", 0)], "one that is late does not come back"
    board.set_request("g", DriverRequest(leave_reason="stop"))
    assert not board.record(make_heartbeat(0, 2, "b", group="h")).leave_reason
    board.set_hang_reason("rank 0 hung")
    board.close_group()
    assert (board.heartbeats(), board.hang_reason()) == ([], "")


def test_the_stack_is_that_of_the_training_thread() -> None:
    sender = HeartbeatSender(0, 1, "g")
    stacks: list[str] = []
    other = threading.Thread(target=lambda: stacks.append(heartbeat.format_stack(sender._training_thread)))
    other.start()
    other.join()
    assert "test_the_stack_is_that_of_the_training_thread" in stacks[0]


def test_sigterm_is_noted_and_a_second_one_ends() -> None:
    script = (
        "import os, signal, time; from jobs.training import heartbeat, sigterm_handler;"
        "sigterm_handler.install_sigterm_handler(); sender = heartbeat.HeartbeatSender(1, 2, 'g');"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0);"
        "print(sender.must_leave(), sender.leave_reason, flush=True);"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(99)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.strip() == "True rank 1 received SIGTERM"
    assert done.returncode == -signal.SIGTERM, done.stderr


class FakeWatchdog:
    """Watchdog whose `has_trained` returns the answers in turn."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.is_stopping = False

    def stop(self) -> None:
        self.is_stopping = True

    def has_trained(self) -> bool:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def wait_in_library(first: type[Exception] | None) -> None:
    """A wait that makes something else of what is raised in it: another error or, for None, nothing, once."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(100)
    except JobStoppedError as error:
        if first is not None:
            raise first("<built-in method __new__> returned a result with an exception set") from error
    time.sleep(100)


@pytest.mark.parametrize("made_of_it", [SystemError, None])
def test_stopped_before_the_first_step_it_ends(
    made_of_it: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_signal, "_PROGRESS_TIMEOUT_S", 0.0)
    monkeypatch.setattr(stop_signal, "_RESEND_INTERVAL_S", 0.1)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(JobStoppedError, match="stopped"), stop_on_sigterm(FakeWatchdog(False)):  # type: ignore[arg-type]
        wait_in_library(made_of_it)
    assert signal.getsignal(signal.SIGTERM) is before


def test_late_heartbeats_of_training_ranks_are_waited_for() -> None:
    watchdog = FakeWatchdog(False, False, True)
    with stop_on_sigterm(watchdog):  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)
        while len(watchdog.answers) > 1:
            time.sleep(0.05)
    assert watchdog.is_stopping, "and they are left to save"


def test_an_error_is_itself_where_nobody_stops() -> None:
    with pytest.raises(SystemError, match="itself"), stop_on_sigterm(FakeWatchdog(False)):  # type: ignore[arg-type]
        raise SystemError("itself")


def lost(pid: int, message: str) -> WorkerHealthCheckFailedError:
    """The error by which Ray reports that a rank's process is no more."""
    context = ActorDiedErrorContext(actor_id=bytes(16), pid=pid, node_ip_address="10.0.0.7", error_message=message)
    return WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError(context))


KILLED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) killed by SIGKILL"
)


def test_a_rank_that_was_killed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = JobSpec(name="run", storage_path=str(tmp_path), max_failures=3)
    callback, run = FailureCallback(spec, num_failures=1), RunFolder(str(tmp_path), "run")
    store = CheckpointStore(run.storage, CheckpointOptions())
    store.begin(0)
    callback.after_exception(None, {1: lost(123, KILLED), 0: ConnectionError("closed by peer")})
    store.save(lambda path: path.write_bytes(b"x"), 28, {})
    callback.after_exception(None, {1: lost(124, "The actor died because its node has died. Node Id: 3a")})
    callback.after_exception(None, {0: ValueError("the user's own")})
    printed = capsys.readouterr().err.splitlines()
    rank = "training was interrupted: rank 1 (process {} on node 10.0.0.7)"
    assert printed == [
        f"{rank.format(123)} was killed, or crashed; beginning again (failure 2 of 3)",
        f"{rank.format(124)} was lost with its node; going on from step 28 (failure 3 of 3)",
        "training was interrupted: rank 0: ValueError: the user's own; this was failure 4, and max_failures=3",
    ]
    noted = run.read_failures()
    assert [each["reason"] in line for each, line in zip(noted, printed, strict=True)] == [True] * 3
    assert "SYSTEM_ERROR" in noted[0]["ranks"]["1"], "what Ray says is kept"


def test_ray_does_not_log_it_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FailureCallback(JobSpec(name="run", storage_path=str(tmp_path))).after_exception(None, {1: lost(123, KILLED)})
    log = logging.getLogger("ray.train.v2._internal.execution.failure_handling.default")
    with caplog.at_level(logging.INFO):
        for error in (ray.train.WorkerGroupError("lost", {}), ray.train.ControllerError(OSError("no room"))):
            log.info(str(error), exc_info=(type(error), error, None))
    assert len(caplog.records) == 1
    assert "no room" in caplog.text


def gather(rank: int, reason: str, rendezvous: str, gathered: "Queue[str]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=3)
    gathered.put(heartbeat.gather_leave_reasons(reason, 3))
    dist.destroy_process_group()


def test_every_rank_knows_which_one_received_sigterm(tmp_path: Path) -> None:
    """Rank 0 too, whose reason is the one that the driver gets."""
    forks, reason = multiprocessing.get_context("fork"), "rank 1 received SIGTERM"
    gathered = forks.Queue()
    reasons = ("", reason, reason)
    rendezvous = str(tmp_path / "rendezvous")
    ranks = [forks.Process(target=gather, args=(n, reasons[n], rendezvous, gathered), daemon=True) for n in range(3)]
    for rank in ranks:
        rank.start()
    assert [gathered.get(timeout=100) for _ in ranks] == [reason] * 3
    for rank in ranks:
        rank.join()
    assert heartbeat.gather_leave_reasons("the job was stopped", 1) == "the job was stopped"
