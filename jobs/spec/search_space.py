"""SearchSpace: what a search over settings varies, how, and by which metric it ranks, in one YAML file.

    metric: val/top1
    search: random
    scheduler: asha
    trials: 16
    concurrent: 2
    parameters:
      model.init_args.learning_rate: {loguniform: [1.0e-4, 1.0e-1]}
      model.init_args.dropout: {choice: [0.3, 0.5]}

Names and meanings of the distributions are those of `ray.tune`.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pipeline.cli.config_files import read_yaml_file
from pipeline.cli.errors import suggest

SearchName = Literal["random", "grid", "optuna"]
SchedulerName = Literal["none", "asha"]
# The numbers that each distribution takes; a choice takes values of any kind.
DISTRIBUTIONS = {
    "choice": "values",
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
    "randint": "[low, high]",
    "lograndint": "[low, high]",
}
RESIZABLE = ("trials", "concurrent")  # a search may go on with other values of these
_EXAMPLE = "such as `model.init_args.learning_rate: {loguniform: [1.0e-4, 1.0e-1]}`"


class Distribution(NamedTuple):
    """The distribution of a parameter.

    Attributes:
        kind: One of DISTRIBUTIONS.
        values: The values of a choice; else low, high and, for `quniform`, the step. The high end of `randint` and
            `lograndint` is excluded.
    """

    kind: str
    values: tuple[Any, ...]

    @property
    def is_log(self) -> bool:
        """Whether equal ratios are equally probable."""
        return self.kind.startswith("log")

    def extreme_values(self) -> list[Any]:
        """All values of a choice; else the lowest and the highest value."""
        if self.kind == "choice":
            return list(self.values)
        low, high = self.values[:2]
        return [low, high - 1 if self.kind.endswith("randint") else high]


@dataclass(frozen=True)
class SearchSpace:
    """A search over settings of a `fit`.

    Args:
        metric: The logged metric by which trials are ranked and stopped, such as val/top1.
        parameters: The distribution of each option that varies, by its dotted name.
        mode: Whether more (max) or less (min) of `metric` is better.
        search: How settings are proposed: independently at `random`, every combination of the choices (`grid`), or by
            the results so far (`optuna`).
        scheduler: Which trials are stopped early: those behind at a rung of successive halving (asha), or `none`.
        trials: The number of trials; None: all combinations of a grid.
        concurrent: The number of trials that run at the same time.
        seed: The same seed proposes the same settings.
        grace_epochs: With asha: the epoch of the first rung, before which no trial is stopped.
        reduction_factor: With asha: the best 1/N of a rung go on; the next rung is N times as many epochs later.
    """

    metric: str
    parameters: Mapping[str, Distribution]
    mode: Literal["max", "min"] = "max"
    search: SearchName = "random"
    scheduler: SchedulerName = "none"
    trials: int | None = None
    concurrent: int = 1
    seed: int = 0
    grace_epochs: int = 1
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot work; ValueError names the field, its value and the fix."""
        for name, names in (("mode", None), ("search", SearchName), ("scheduler", SchedulerName)):
            valid = typing.get_args(names) if names else ("max", "min")
            if getattr(self, name) not in valid:
                raise ValueError(f"{name}={getattr(self, name)}: must be one of {', '.join(valid)}")
        minimums = {"trials": 1, "concurrent": 1, "seed": 0, "grace_epochs": 1, "reduction_factor": 2}
        for name, minimum in minimums.items():
            value = getattr(self, name)
            if name == "trials" and value is None:
                continue
            if not _is_whole(value) or value < minimum:
                raise ValueError(f"{name}={value}: must be a whole number, at least {minimum}")
        if not isinstance(self.metric, str) or not self.metric:
            raise ValueError(f"metric={self.metric}: must be the name of a metric that the fit logs, such as val/top1")
        if self.search == "grid":
            self._check_grid()
        elif self.trials is None:
            raise ValueError(f"trials: search={self.search} needs their number, such as `trials: 16`")

    def _check_grid(self) -> None:
        for name, distribution in self.parameters.items():
            if distribution.kind != "choice":
                raise ValueError(
                    f"parameters.{name}: a grid needs a choice of values, such as {{choice: [0.1, 0.01]}}; "
                    f"{distribution.kind} goes with search: random"
                )
        if self.trials is not None and self.trials > self.grid_size:
            raise ValueError(f"trials={self.trials}: the grid has {self.grid_size} combinations; leave trials out")

    @property
    def grid_size(self) -> int:
        """The number of combinations of the choices."""
        return math.prod(len(distribution.values) for distribution in self.parameters.values())

    @property
    def num_trials(self) -> int:
        """The number of trials."""
        return self.trials or self.grid_size

    def is_better(self, value: float, other: float) -> bool:
        """Whether a value of the metric is better than another one."""
        return value > other if self.mode == "max" else value < other

    def as_dict(self) -> dict[str, Any]:
        """The space as plain data, in the form of its YAML file."""
        parameters = {name: {each.kind: list(each.values)} for name, each in self.parameters.items()}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "parameters": parameters}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Build a space from the content of its YAML file; ValueError for what is missing, unknown or invalid."""
        valid = [field.name for field in dataclasses.fields(cls)]
        for name in content:
            if name not in valid:
                hint = suggest(str(name), valid, f"the fields are: {', '.join(valid)}")
                raise ValueError(f"there is no field {name!r}; {hint}")
        if "metric" not in content:
            raise ValueError("metric: name the metric that ranks the trials, such as `metric: val/top1`")
        parameters = content.get("parameters")
        if not isinstance(parameters, Mapping) or not parameters:
            raise ValueError(f"parameters: name at least one option that varies, {_EXAMPLE}")
        distributions = {str(name): _read_distribution(str(name), each) for name, each in parameters.items()}
        return cls(**{**content, "parameters": distributions})


def read_search_space(path: str | Path) -> SearchSpace:
    """Read a search space from its file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not YAML, or not a search space; the message names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"space={path}: there is no such file")
    content = read_yaml_file(path, "space")
    if not isinstance(content, dict):
        held = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"space={path}: must hold `metric:` and `parameters:`, and holds {held}")
    try:
        return SearchSpace.from_dict(content)
    except ValueError as error:
        raise ValueError(f"space={path}: {error}") from None


def _read_distribution(name: str, content: Any) -> Distribution:
    if not isinstance(content, Mapping) or len(content) != 1:
        raise ValueError(f"parameters.{name}: give one distribution, {_EXAMPLE}, not {content!r}")
    [(kind, values)] = content.items()
    if kind not in DISTRIBUTIONS:
        hint = suggest(str(kind), DISTRIBUTIONS, f"the distributions are: {', '.join(DISTRIBUTIONS)}")
        raise ValueError(f"parameters.{name}: there is no distribution {kind!r}; {hint}")
    if not isinstance(values, list) or not values:
        raise ValueError(f"parameters.{name}: {kind} needs a list of {DISTRIBUTIONS[kind]}, not {values!r}")
    if kind != "choice":
        _check_range(f"parameters.{name}: {kind}={values}", kind, values)
    return Distribution(kind, tuple(values))


def _check_range(given: str, kind: str, values: list[Any]) -> None:
    """Raise ValueError for numbers that are no range; `given` begins the message."""
    count = 3 if kind == "quniform" else 2
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(values) != count or len(numbers) != count or not all(map(math.isfinite, numbers)):
        hint = "; YAML reads 1e-4 as a text, write 1.0e-4" if any(isinstance(each, str) for each in values) else ""
        raise ValueError(f"{given}: must be {count} numbers, {DISTRIBUTIONS[kind]}{hint}")
    if kind.endswith("randint") and not all(map(_is_whole, numbers)):
        raise ValueError(f"{given}: must be whole numbers")
    low, high = numbers[:2]
    if not low < high:
        raise ValueError(f"{given}: the low end must be below the high end")
    if kind.startswith("log") and low <= 0:
        raise ValueError(f"{given}: the low end must be above 0")
    if kind == "quniform" and not 0 < numbers[2] <= high - low:
        raise ValueError(f"{given}: the step must be above 0 and at most {high - low:g}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
