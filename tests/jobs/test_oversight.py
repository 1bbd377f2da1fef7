"""Who is to blame when nothing moves, what a rank tells, and which of the driver's wishes reach it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from jobs import pulse, stopping
from jobs.oversight import blame, sentence
from jobs.pulse import Asked, Beat, Board, Pulse
from jobs.stopping import StoppedError, stop_on_sigterm


def beat(rank: int, passed: int, place: str, stack: str = "", group: str = "g") -> Beat:
    return Beat(group, rank, 3, 100 + rank, 0.0, "node", passed, place, True, stack)


def test_the_one_that_the_others_wait_for_is_blamed() -> None:
    beats = [(beat(0, 9, "step 3, backward"), 0.5), (beat(1, 7, "data"), 0.5), (beat(2, 9, "step 3, backward"), 0.5)]
    assert [one.rank for one, _ in blame(beats)] == [1]


def test_of_those_at_the_same_place_the_silent_one_is_blamed() -> None:
    """As after SIGSTOP, in the midst of a collective."""
    beats = [(beat(rank, 9, "step 3, backward"), 40.0 if rank == 2 else 0.5) for rank in range(3)]
    blamed = blame(beats)
    assert [one.rank for one, _ in blamed] == [2]
    assert sentence(blamed, 30).startswith("hung: no progress for 30 s (hang_timeout_s) of rank 2 of 3 (process 102, ")
    assert "its process does not answer" in sentence(blamed, 30)


def test_all_are_named_where_none_stands_out() -> None:
    beats = [(beat(rank, 9, "step 3, backward"), 0.5) for rank in range(3)]
    assert sentence(blame(beats), 30).count("step 3, backward") == 3


def test_the_innermost_line_of_ones_own_is_told() -> None:
    stack = (
        '  File "/r/_ray_pkg_0a1/my/model.py", line 30, in training_step\n    x\n'
        '  File "/venv/lib/python3.11/site-packages/torch/x.py", line 3, in f\n    y\n'
    )
    assert "in my/model.py, line 30, training_step)" in sentence([(beat(1, 7, "data", stack), 0.5)], 30)


def test_the_board_knows_the_newest_group_alone() -> None:
    board = Board()
    board.beat(beat(0, 1, "a"))
    board.ask("g", Asked(leave="stop"))
    assert board.beat(beat(1, 1, "a")).leave == "stop"
    assert not board.beat(beat(0, 1, "a", group="h")).leave, "a new attempt is not asked what the old one was"
    board.beat(beat(1, 5, "late"))
    assert [(one.group, one.rank) for one, _ in board.look()] == [("h", 0)], "one that is late does not come back"
    board.ask("g", Asked(leave="stop"))
    assert not board.beat(beat(0, 2, "b", group="h")).leave
    board.set_verdict("rank 0 hung")
    board.forget()
    assert (board.look(), board.verdict()) == ([], "")


def test_the_stack_is_that_of_the_training_thread() -> None:
    mine = Pulse(0, 1, "g")
    told: list[str] = []
    other = threading.Thread(target=lambda: told.append(pulse._stack_of(mine._thread)))
    other.start()
    other.join()
    assert "test_the_stack_is_that_of_the_training_thread" in told[0]


def test_sigterm_is_noted_and_a_second_one_ends() -> None:
    script = (
        "import os, signal, time; from jobs import pulse; pulse.take_sigterm(); p = pulse.Pulse(1, 2, 'g');"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0); print(p.wants_to_leave(), p.leave, flush=True);"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(99)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.strip() == "True rank 1 was told to end (SIGTERM)"
    assert done.returncode == -signal.SIGTERM, done.stderr


class Ranks:
    """As the overseer tells of them: whether they train, each time that is asked."""

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
    monkeypatch.setattr(stopping, "_TELLS_WITHIN_S", 0.0)
    monkeypatch.setattr(stopping, "_AGAIN_S", 0.1)
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
