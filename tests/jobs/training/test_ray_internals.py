"""What is used of Ray's private interfaces is there, and does what we take it for."""


from ray.train.v2._internal.execution.worker_group.thread_runner import ThreadRunner

from jobs.training.ray_internals import user_exception


def test_the_exception_of_a_rank_is_unwrapped() -> None:
    raised, runner = ValueError("of the user"), ThreadRunner()

    def fail() -> None:
        raise raised

    runner.run(fail)  # as Ray Train runs a training function; its thread ends when the error is there
    runner._thread.join(timeout=10)
    error = runner.get_error()
    assert type(error) is not ValueError
    assert user_exception(error) is raised
    assert user_exception(raised) is raised
