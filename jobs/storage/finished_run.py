"""Check for finished runs: the same command has nothing left to do, another command needs another name."""

from collections.abc import Sequence
from pathlib import Path

from jobs.spec.upload_paths import UPLOAD_PREFIX
from jobs.storage.run_folder import RunFolder, command_digest


class RunFinishedError(Exception):
    """Raised if a run of this name has finished with the same command and configs, so that there is nothing to do.

    Args:
        lines: The lines to print for the user.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines[0])
        self.lines = list(lines)


def command_fingerprint(args: Sequence[str], upload: Path) -> str:
    """Hash a job's command line and the content of its configs, to distinguish it from other commands.

    Args:
        args: The command line from the verb on, with its `upload:` paths.
        upload: The folder of the upload, before or after it was sent to the cluster.
    """
    values = [arg.partition("=")[2] if arg.startswith("-") else arg for arg in args]
    configs = [value.removeprefix(UPLOAD_PREFIX) for value in values if value.startswith(UPLOAD_PREFIX)]
    return command_digest(args, [upload / path for path in configs])


def refuse_finished_run(run: RunFolder, args: Sequence[str], upload: Path) -> None:
    """Check that a run has not finished; only `fit` is checked.

    Args:
        run: The run's folder, as this machine sees it.
        args: The command line from the verb on, with its `upload:` paths.
        upload: The folder of the upload.

    Raises:
        RunFinishedError: The run has finished with the same command and configs.
        ValueError: The run has finished with another command or config.
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
    raise RunFinishedError(["this run has finished already; there is nothing to do", *run.last_lines()])
