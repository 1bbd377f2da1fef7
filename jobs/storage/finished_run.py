"""A run that has finished already: the same command has nothing left to do, another one needs another name."""

from collections.abc import Sequence
from pathlib import Path

from jobs.spec.upload_paths import UPLOAD_PREFIX
from jobs.storage.run_folder import RunFolder, command_digest


class FinishedError(Exception):
    """There is nothing to do: a run of this name has finished, with the same command and configs.

    Args:
        lines: What to tell.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines[0])
        self.lines = list(lines)


def command_fingerprint(args: Sequence[str], upload: Path) -> str:
    """Tells a job's command from another.

    Args:
        args: The command line from the verb on, with its `upload:` paths.
        upload: The folder with what travels, or has travelled.
    """
    values = [arg.partition("=")[2] if arg.startswith("-") else arg for arg in args]
    configs = [value.removeprefix(UPLOAD_PREFIX) for value in values if value.startswith(UPLOAD_PREFIX)]
    return command_digest(args, [upload / path for path in configs])


def refuse_finished_run(run: RunFolder, args: Sequence[str], upload: Path) -> None:
    """See that a `fit` has something to do in a run's folder; of other verbs nothing is asked.

    Args:
        run: The run's folder, as this machine sees it.
        args: As for `command_fingerprint`, and so is `upload`.
        upload: Likewise.

    Raises:
        FinishedError: The run has finished.
        ValueError: It has, with another command or config.
    """
    finished = run.read_result() if args[0] == "fit" else None
    if finished is None:
        return
    if finished["fingerprint"] != command_fingerprint(args, upload):
        last = finished["checkpoints"].get("last", "CKPT")
        command = finished["command"].replace(UPLOAD_PREFIX, "")  # results of before have the cluster's words
        raise ValueError(
            f"name={run.name}: the run in {run.address} has finished, with another command or config ({command}); give "
            f"this one another --name; to go on from there, add `--ckpt_path {last}`"
        )
    raise FinishedError(["this run has finished already; there is nothing to do", *run.last_lines()])
