"""Proposals: the settings of each trial of a search, from its seed and, with Optuna, from the results so far."""

import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jobs.spec.search_space import Distribution, SearchSpace

Settings = dict[str, Any]  # by dotted name of the option


class PastTrial(NamedTuple):
    """A trial of an earlier job of the search: its settings, and its best value; None if it has none."""

    settings: Settings
    value: float | None


class Proposals:
    """The settings of trials, one after the other.

    Trial N of `random` and `grid` has the settings that the seed and N give, whatever happened before. Optuna learns
    from the values of the trials that have ended.

    Args:
        space: The search space.
        past: The trials of earlier jobs of the search, in their order; their settings are not proposed again.

    Raises:
        ValueError: Optuna is not installed.
    """

    def __init__(self, space: SearchSpace, past: Sequence[PastTrial] = ()) -> None:
        self._space = space
        self._searcher = _make_optuna_searcher(space, past) if space.search == "optuna" else None

    def propose(self, number: int) -> Settings:
        """The settings of a trial.

        Args:
            number: The number of the trial, from 1.
        """
        if self._searcher is not None:
            proposed: Settings = self._searcher.suggest(str(number))
            return {name: proposed[name] for name in self._space.parameters}
        if self._space.search == "grid":
            choices = (each.values for each in self._space.parameters.values())
            combination = next(itertools.islice(itertools.product(*choices), number - 1, None))
            return dict(zip(self._space.parameters, combination, strict=True))
        return _sample(self._space, number)

    def add_result(self, number: int, value: float | None) -> None:
        """Tell the best value of a trial that was proposed here and has ended; None if it has none."""
        if self._searcher is not None:
            result = {} if value is None else {self._space.metric: value}
            self._searcher.on_trial_complete(str(number), result=result or None, error=value is None)


def option_arguments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as arguments of a command line."""
    return [f"--{name}={_as_text(value)}" for name, value in settings.items()]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _sample(space: SearchSpace, number: int) -> Settings:
    import numpy as np

    generator = np.random.default_rng([space.seed, number])
    settings = {name: _domain(each).sample(random_state=generator) for name, each in space.parameters.items()}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}


def _domain(distribution: Distribution) -> Any:
    from ray import tune  # here: it takes seconds

    if distribution.kind == "choice":
        return tune.choice(list(distribution.values))
    return getattr(tune, distribution.kind)(*distribution.values)


def _make_optuna_searcher(space: SearchSpace, past: Sequence[PastTrial]) -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("search=optuna needs optuna: pip install 'action-recognition-pipeline[tune]'") from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", message="Choices for a categorical distribution")  # lists are told apart as texts
    domains = {name: _domain(each) for name, each in space.parameters.items()}
    # Another seed once there are trials: the sampler would propose its first settings again.
    searcher = OptunaSearch(
        OptunaSearch.convert_search_space(domains), metric=space.metric, mode=space.mode, seed=space.seed + len(past)
    )
    for trial in past:
        if trial.value is not None:
            searcher.add_evaluated_point(trial.settings, trial.value)
    return searcher
