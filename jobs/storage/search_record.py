"""Record of a search over settings, in its folder: search.json, and trial.json in the run's folder of each trial.

Only the driver of the search writes them, each atomically. A search that is resumed reads them, and nothing else: the
settings that were proposed, the validations that were reported, and how trials ended.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jobs.spec.job import SEARCH_VERB
from jobs.spec.search_space import RESIZABLE, SearchSpace, read_search_space
from jobs.spec.upload_paths import UPLOAD_PREFIX, resolve_upload_paths
from jobs.storage.finished_run import RunFinishedError, command_fingerprint
from jobs.storage.run_folder import RunFolder

SEARCH_FILE, TRIAL_FILE = "search.json", "trial.json"
TRIALS_FOLDER = "trials"
TrialState = Literal["running", "finished", "stopped", "refused", "failed"]


@dataclass(frozen=True)
class TrialReport:
    """A validation of a trial, at the end of an epoch.

    Attributes:
        epoch: The number of epochs done.
        step: The number of optimizer steps done.
        metrics: The logged metrics that are finite numbers.
        time: When it was reported, in seconds since 1970.
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    time: float


@dataclass(frozen=True)
class TrialRecord:
    """A trial of a search.

    Attributes:
        number: The number of the trial, from 1, in the order of the proposals.
        settings: The value of each option that varies, by its dotted name.
        state: `running`, which includes trials that were interrupted; `finished`; `stopped` by the scheduler;
            `refused`, where another attempt would end in the same way; `failed`, which a resumed search tries again.
        reports: The validations, the newest last.
        message: Why the trial was stopped, refused or failed, in one sentence.
    """

    number: int
    settings: dict[str, Any]
    state: TrialState = "running"
    reports: tuple[TrialReport, ...] = field(default_factory=tuple)
    message: str = ""

    @property
    def name(self) -> str:
        """The name of the trial's run."""
        return trial_name(self.number)

    def best_report(self, space: SearchSpace) -> TrialReport | None:
        """The report with the best value of the space's metric, of equals the newest; None if there is none."""
        best: TrialReport | None = None
        for report in self.reports:
            if space.metric not in report.metrics:
                continue
            if best is None or not space.is_better(best.metrics[space.metric], report.metrics[space.metric]):
                best = report
        return best

    def best_value(self, space: SearchSpace) -> float | None:
        """The best value of the space's metric; None if it was never measured."""
        best = self.best_report(space)
        return None if best is None else best.metrics[space.metric]

    def with_report(self, report: TrialReport) -> "TrialRecord":
        """The trial with one more validation; one that was repeated after an interruption is not counted twice."""
        earlier = tuple(each for each in self.reports if each.epoch < report.epoch)
        return dataclasses.replace(self, reports=(*earlier, report))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "TrialRecord":
        """Build a record from plain data, as `dataclasses.asdict` returns it."""
        return cls(**{**content, "reports": tuple(TrialReport(**each) for each in content["reports"])})


def rank_trials(trials: Sequence[TrialRecord], space: SearchSpace) -> list[TrialRecord]:
    """Sort trials, the best first; those without a value come last, in the order of their numbers."""
    sign = -1.0 if space.mode == "max" else 1.0

    def key(trial: TrialRecord) -> tuple[float, int]:
        value = trial.best_value(space)
        return (math.inf if value is None else sign * value, trial.number)

    return sorted(trials, key=key)


class SearchRecord:
    """The record of a search in its folder.

    Args:
        storage_path: The absolute folder, or the URI, that holds the search's folder.
        name: The name of the search.
    """

    def __init__(self, storage_path: str, name: str) -> None:
        self.run = RunFolder(storage_path, name)

    @property
    def trials_path(self) -> str:
        """The folder, or the URI, that holds the run's folders of the trials."""
        return f"{self.run.address}/{TRIALS_FOLDER}"

    def trial_run(self, number: int) -> RunFolder:
        """The run's folder of a trial."""
        return RunFolder(self.trials_path, trial_name(number))

    def read_space(self) -> SearchSpace | None:
        """The space of the search; None if there is no search here."""
        recorded = self._read()
        return None if recorded is None else SearchSpace.from_dict(recorded["space"])

    def check(self, args: Sequence[str], upload: Path) -> None:
        """Check that a job can start or continue the search of this name; writes nothing.

        Args:
            args: The command line of the search from its verb on, with its `upload:` paths.
            upload: The folder of its upload.

        Raises:
            RunFinishedError: The search has finished.
            ValueError: The search has another space or command.
        """
        recorded = self._read()
        if recorded is None:
            return
        space, command = read_search_arguments(args, upload)
        earlier, now = (_comparable(each) for each in (recorded["space"], space.as_dict()))
        changed = [name for name in now if now[name] != earlier.get(name)]
        if recorded["fingerprint"] != command_fingerprint(command, upload):
            changed.append("the command or its config")
        if changed:
            raise ValueError(
                f"name={self.run.name}: the search in {self.run.address} began with another space or command "
                f"({', '.join(changed)}); give this one another --name"
            )
        result = self.run.read_result()
        if result is not None and result["num_trials"] >= space.num_trials:
            raise RunFinishedError(["this search has finished already; there is nothing to do", *self.run.last_lines()])

    def begin(self, args: Sequence[str], upload: Path) -> tuple[SearchSpace, list[str]]:
        """Record a search that starts or continues; raises what `check` raises.

        Returns:
            The space, and the command line of the trials from its verb on.
        """
        self.check(args, upload)
        space, command = read_search_arguments(args, upload)
        content = {"space": space.as_dict(), "fingerprint": command_fingerprint(command, upload), "command": command}
        self.run.write(SEARCH_FILE, json.dumps(content, indent=1).encode())
        return space, command

    def read_trials(self, space: SearchSpace) -> list[TrialRecord]:
        """The trials that were proposed, in the order of their numbers."""
        trials = []
        for number in range(1, space.num_trials + 1):
            run = self.trial_run(number)
            content = run.storage.read(TRIAL_FILE)
            if content is None:
                break
            try:
                trials.append(TrialRecord.from_dict(json.loads(content)))
            except (ValueError, TypeError, KeyError):
                raise ValueError(f"{run.address}/{TRIAL_FILE} cannot be read: it is damaged") from None
        return trials

    def write_trial(self, trial: TrialRecord) -> None:
        """Write or replace the record of a trial."""
        self.trial_run(trial.number).write(TRIAL_FILE, json.dumps(dataclasses.asdict(trial), indent=1).encode())

    def finish(self, trials: Sequence[TrialRecord], space: SearchSpace) -> None:
        """Write result.json."""
        ranked = [trial for trial in rank_trials(trials, space) if trial.best_report(space) is not None]
        content: dict[str, Any] = {"status": "finished", "num_trials": len(trials), "checkpoints": {}}
        if ranked:
            best = ranked[0]
            content["checkpoints"] = {"best": f"{self.trials_path}/{best.name}/best.ckpt"}
            content["best"] = {"trial": best.number, "settings": best.settings, space.metric: best.best_value(space)}
        self.run.write("result.json", json.dumps(content, indent=1).encode())

    def _read(self) -> dict[str, Any] | None:
        return self.run.read_record(SEARCH_FILE)


def trial_name(number: int) -> str:
    """The name of a trial's run, such as `0007`."""
    return f"{number:04d}"


def read_search_arguments(args: Sequence[str], upload: Path) -> tuple[SearchSpace, list[str]]:
    """Read the command line of a search: `tune --space FILE -- VERB ...`.

    Args:
        args: The command line from the verb on, with its `upload:` paths.
        upload: The folder of the upload.

    Returns:
        The search space, and the command line of the trials from its verb on, with its `upload:` paths.
    """
    verb, option, space_file, separator, *command = args
    assert (verb, option, separator) == (SEARCH_VERB, "--space", "--")
    try:
        return read_search_space(resolve_upload_paths([space_file], upload)[0]), command
    except ValueError as error:
        raise ValueError(str(error).replace(f"{upload}/", "").replace(UPLOAD_PREFIX, "")) from None


def _comparable(space: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a space that a search keeps, as JSON has them."""
    kept: dict[str, Any] = json.loads(json.dumps({name: each for name, each in space.items() if name not in RESIZABLE}))
    return kept
