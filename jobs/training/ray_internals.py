"""What is used of Ray that is not its public interface; read in Ray 2.60.0, where a test looks at each again."""


def user_exception(error: BaseException) -> BaseException:
    """The exception that a rank raised.

    Args:
        error: What a `ray.train.UserCallback` is given for the rank: the exception itself where its process was lost,
            else a `ray.train.v2._internal.exceptions.UserExceptionWithTraceback` around it.
    """
    raised = getattr(error, "_base_exc", None)
    return raised if isinstance(raised, BaseException) else error
