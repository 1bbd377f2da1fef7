"""Who is to blame when nothing moves, what a rank tells, which wishes of the driver reach it. What failures are."""

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
from jobs.training.stop_signal import StoppedError, stop_on_sigterm
from jobs.training.watchdog import describe_hang, lagging_ranks
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore


def beat(rank: int, passed: int, place: str, stack: str = "", group: str = "g") -> RankHeartbeat:
    return RankHeartbeat(group, rank, 3, 100 + rank, 0.0, "node", passed, place, True, stack)


def test_the_one_that_the_others_wait_for_is_blamed() -> None:
    beats = [(beat(0, 9, "step 3, backward"), 0.5), (beat(1, 7, "data"), 0.5), (beat(2, 9, "step 3, backward"), 0.5)]
    assert [one.rank for one, _ in lagging_ranks(beats)] == [1]


def test_of_those_at_the_same_place_the_silent_one_is_blamed() -> None:
    """As after SIGSTOP, in the midst of a collective."""
    beats = [(beat(rank, 9, "step 3, backward"), 40.0 if rank == 2 else 0.5) for rank in range(3)]
    blamed = lagging_ranks(beats)
    assert [one.rank for one, _ in blamed] == [2]
    assert describe_hang(blamed, 30).startswith(
        "hung: no progress for 30 s (hang_timeout_s) of rank 2 of 3 (process 102, "
    )
    assert "its process does not answer" in describe_hang(blamed, 30)


def test_all_are_named_where_none_stands_out() -> None:
    beats = [(beat(rank, 9, "step 3, backward"), 0.5) for rank in range(3)]
    assert describe_hang(lagging_ranks(beats), 30).count("step 3, backward") == 3


def test_the_innermost_line_of_ones_own_is_told() -> None:
    stack = (
        '  File "/r/_ray_pkg_0a1/my/model.py", line 30, in training_step\n    x\n'
        '  File "/venv/lib/python3.11/site-packages/torch/x.py", line 3, in f\n    y\n'
    )
    assert "in my/model.py, line 30, training_step)" in describe_hang([(beat(1, 7, "data", stack), 0.5)], 30)


def test_the_board_knows_the_newest_group_alone() -> None:
    board = HeartbeatBoard()
    board.beat(beat(0, 1, "a"))
    board.ask("g", DriverRequest(leave="stop"))
    assert board.beat(beat(1, 1, "a")).leave == "stop"
    assert not board.beat(beat(0, 1, "a", group="h")).leave, "a new attempt is not asked what the old one was"
    board.beat(beat(1, 5, "late"))
    assert [(one.group, one.rank) for one, _ in board.look()] == [("h", 0)], "one that is late does not come back"
    board.ask("g", DriverRequest(leave="stop"))
    assert not board.beat(beat(0, 2, "b", group="h")).leave
    board.set_verdict("rank 0 hung")
    board.forget()
    assert (board.look(), board.verdict()) == ([], "")


def test_the_stack_is_that_of_the_training_thread() -> None:
    mine = HeartbeatSender(0, 1, "g")
    told: list[str] = []
    other = threading.Thread(target=lambda: told.append(heartbeat._stack_of(mine._thread)))
    other.start()
    other.join()
    assert "test_the_stack_is_that_of_the_training_thread" in told[0]


def test_sigterm_is_noted_and_a_second_one_ends() -> None:
    script = (
        "import os, signal, time; from jobs.training import heartbeat; heartbeat.take_sigterm();"
        "p = heartbeat.HeartbeatSender(1, 2, 'g');"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0); print(p.wants_to_leave(), p.leave, flush=True);"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(99)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.strip() == "True rank 1 was told to end (SIGTERM)"
    assert done.returncode == -signal.SIGTERM, done.stderr


class Ranks:
    """As the watchdog tells of them: whether they train, each time that is asked."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.stopping = False

    def stop(self) -> None:
        self.stopping = True

    def trains(self) -> bool:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def wait_in_library(first: type[Exception] | None) -> None:
    """A wait that makes something else of what is raised in it: another error or, for None, nothing, once."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(100)
    except StoppedError as error:
        if first is not None:
            raise first("<built-in method __new__> returned a result with an exception set") from error
    time.sleep(100)


@pytest.mark.parametrize("made_of_it", [SystemError, None])
def test_stopped_before_the_first_step_it_ends(
    made_of_it: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_signal, "_TELLS_WITHIN_S", 0.0)
    monkeypatch.setattr(stop_signal, "_AGAIN_S", 0.1)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="stopped"), stop_on_sigterm(Ranks(False)):  # type: ignore[arg-type]
        wait_in_library(made_of_it)
    assert signal.getsignal(signal.SIGTERM) is before


def test_ranks_that_tell_late_that_they_train_are_waited_for() -> None:
    ranks = Ranks(False, False, True)
    with stop_on_sigterm(ranks):  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)
        while len(ranks.answers) > 1:
            time.sleep(0.05)
    assert ranks.stopping, "and they are left to save"


def test_an_error_is_itself_where_nobody_stops() -> None:
    with pytest.raises(SystemError, match="itself"), stop_on_sigterm(Ranks(False)):  # type: ignore[arg-type]
        raise SystemError("itself")


def lost(pid: int, said: str) -> WorkerHealthCheckFailedError:
    """As Ray tells that a rank's process is no more."""
    context = ActorDiedErrorContext(actor_id=bytes(16), pid=pid, node_ip_address="10.0.0.7", error_message=said)
    return WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError(context))


KILLED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) killed by SIGKILL"
)


def test_a_rank_that_was_killed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = JobSpec(name="run", storage_path=str(tmp_path), max_failures=3)
    watch, run = FailureCallback(spec, before=1), RunFolder(str(tmp_path), "run")
    store = CheckpointStore(run.storage, CheckpointOptions())
    store.begin(0)
    watch.after_exception(None, {1: lost(123, KILLED), 0: ConnectionError("closed by peer")})
    store.save(lambda path: path.write_bytes(b"x"), 28, {})
    watch.after_exception(None, {1: lost(124, "The actor died because its node has died. Node Id: 3a")})
    watch.after_exception(None, {0: ValueError("the user's own")})
    said = capsys.readouterr().err.splitlines()
    rank = "training was interrupted: rank 1 (process {} on node 10.0.0.7)"
    assert said == [
        f"{rank.format(123)} was killed, or crashed; beginning again (failure 2 of 3)",
        f"{rank.format(124)} was lost with its node; going on from step 28 (failure 3 of 3)",
        "training was interrupted: rank 0: ValueError: the user's own; this was failure 4, and max_failures=3",
    ]
    noted = run.read_failures()
    assert [each["reason"] in line for each, line in zip(noted, said, strict=True)] == [True] * 3
    assert "SYSTEM_ERROR" in noted[0]["ranks"]["1"], "what Ray says is kept"


def test_ray_does_not_say_it_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FailureCallback(JobSpec(name="run", storage_path=str(tmp_path))).after_exception(None, {1: lost(123, KILLED)})
    log = logging.getLogger("ray.train.v2._internal.execution.failure_handling.default")
    with caplog.at_level(logging.INFO):
        for error in (ray.train.WorkerGroupError("lost", {}), ray.train.ControllerError(OSError("no room"))):
            log.info(str(error), exc_info=(type(error), error, None))
    assert len(caplog.records) == 1
    assert "no room" in caplog.text


def tell(rank: int, reason: str, meeting: str, heard: "Queue[str]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=3)
    heard.put(heartbeat.all_stop_reasons(reason, 3))
    dist.destroy_process_group()


def test_every_rank_knows_which_one_was_told_to_end(tmp_path: Path) -> None:
    """Rank 0 too, whose reason is the one that the driver is told."""
    forks, reason = multiprocessing.get_context("fork"), "rank 1 was told to end (SIGTERM)"
    heard = forks.Queue()
    told = ("", reason, reason)
    meeting = str(tmp_path / "meeting")
    ranks = [forks.Process(target=tell, args=(n, told[n], meeting, heard), daemon=True) for n in range(3)]
    for rank in ranks:
        rank.start()
    assert [heard.get(timeout=100) for _ in ranks] == [reason] * 3
    for rank in ranks:
        rank.join()
    assert heartbeat.all_stop_reasons("the job was stopped", 1) == "the job was stopped"
