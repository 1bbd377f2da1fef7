"""What a search space may say, what is refused in a sentence, and that the same seed proposes the same settings."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.spec.job import with_settings
from jobs.spec.proposals import PastTrial, Proposals, option_arguments
from jobs.spec.search_space import SearchSpace, read_search_space

RATE, DROPOUT = "model.init_args.learning_rate", "model.init_args.dropout"
CONTENT: dict[str, Any] = {
    "metric": "val/top1",
    "search": "random",
    "trials": 16,
    "parameters": {RATE: {"loguniform": [1.0e-4, 1.0e-1]}, DROPOUT: {"choice": [0.3, 0.5, None]}},
}
GRID = {"a.b": {"choice": [1, 2]}, "c": {"choice": ["x", "y", "z"]}}


def make_space(**changes: Any) -> SearchSpace:
    return SearchSpace.from_dict(CONTENT | changes)


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(CONTENT))
    space = read_search_space(tmp_path / "space.yaml")
    assert (space.num_trials, space.concurrent, space.mode) == (16, 1, "max")
    assert SearchSpace.from_dict(space.as_dict()) == space


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"metrics": "x"}, "there is no field 'metrics'; did you mean 'metric'?"),
        ({"parameters": {}}, "parameters: name at least one option that varies, such as"),
        ({"parameters": {RATE: [1, 2]}}, f"parameters.{RATE}: give one distribution, such as"),
        ({"parameters": {RATE: {"loguniformly": [1, 2]}}}, "there is no distribution 'loguniformly'; did you mean"),
        ({"parameters": {RATE: {"choice": []}}}, f"parameters.{RATE}: choice needs a list of values, not \\[\\]"),
        ({"parameters": {RATE: {"uniform": [1]}}}, "uniform=\\[1\\]: must be 2 numbers, \\[low, high\\]$"),
        ({"parameters": {RATE: {"uniform": ["1e-4", 1]}}}, "must be 2 numbers, .*; YAML reads 1e-4 as a text, write"),
        ({"parameters": {RATE: {"uniform": [2, 1]}}}, "the low end must be below the high end"),
        ({"parameters": {RATE: {"loguniform": [0, 1]}}}, "the low end must be above 0"),
        ({"parameters": {RATE: {"quniform": [0, 1, 2]}}}, "the step must be above 0 and at most 1"),
        ({"parameters": {RATE: {"randint": [0.5, 2]}}}, "must be whole numbers"),
        ({"search": "bayes"}, "search=bayes: must be one of random, grid, optuna"),
        ({"scheduler": "pbt"}, "scheduler=pbt: must be one of none, asha"),
        ({"mode": "up"}, "mode=up: must be one of max, min"),
        ({"trials": None}, "trials: search=random needs their number"),
        ({"trials": 0}, "trials=0: must be a whole number, at least 1"),
        ({"concurrent": True}, "concurrent=True: must be a whole number, at least 1"),
        ({"reduction_factor": 1}, "reduction_factor=1: must be a whole number, at least 2"),
        ({"search": "grid"}, f"parameters.{RATE}: a grid needs a choice of values"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        make_space(**change)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_space_is_named(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    with pytest.raises(FileNotFoundError, match=r"space=.*space.yaml: there is no such file"):
        read_search_space(path)
    for text, sentence in (("a: [", "not a YAML file: line 1"), ("", "and holds nothing"), ("- 1", "holds a list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"space=.*space.yaml: .*{sentence}"):
            read_search_space(path)
    path.write_text("search: random")
    with pytest.raises(ValueError, match=r"space=.*space.yaml: metric: name the metric"):
        read_search_space(path)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_the_same_seed_proposes_the_same_settings(search: str) -> None:
    def propose(seed: int) -> list[dict[str, Any]]:
        proposals = Proposals(make_space(search=search, seed=seed))
        return [proposals.propose(number) for number in range(1, 9)]

    first = propose(0)
    assert first == propose(0) != propose(1)
    assert all(1e-4 <= settings[RATE] <= 1e-1 for settings in first)
    assert {settings[DROPOUT] for settings in first} == {0.3, 0.5, None}
    assert len({settings[RATE] for settings in first}) == 8


def test_a_random_trial_does_not_depend_on_those_before() -> None:
    space = make_space()
    assert Proposals(space).propose(7) == Proposals(space, [PastTrial({}, 0.5)] * 6).propose(7)


def test_a_grid_has_every_combination_once() -> None:
    space = make_space(search="grid", trials=None, parameters=GRID)
    proposals = Proposals(space)
    found = [tuple(proposals.propose(number).values()) for number in range(1, space.num_trials + 1)]
    assert found == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]
    with pytest.raises(ValueError, match="trials=7: the grid has 6 combinations"):
        SearchSpace.from_dict(space.as_dict() | {"trials": 7})


def test_optuna_does_not_begin_again() -> None:
    space = make_space(search="optuna")
    proposals = Proposals(space)
    first = [proposals.propose(number) for number in range(1, 4)]
    resumed = Proposals(space, [PastTrial(settings, 0.5) for settings in first])
    assert resumed.propose(4)[RATE] not in {settings[RATE] for settings in first}


def test_optuna_goes_on_with_what_it_learned() -> None:
    """After twenty trials whose best rates are the highest, it proposes high rates, and none of them again."""
    space = make_space(search="optuna", parameters={RATE: {"uniform": [0.0, 1.0]}})
    past = [PastTrial({RATE: number / 20}, number / 20) for number in range(20)]
    proposals = Proposals(space, past)
    proposed = [proposals.propose(number)[RATE] for number in range(21, 31)]
    for number, value in enumerate(proposed, start=21):
        proposals.add_result(number, value)
    assert sum(rate > 0.5 for rate in proposed) >= 7
    assert not {trial.settings[RATE] for trial in past} & set(proposed)


def test_settings_are_options_of_a_command_line_and_of_the_configuration() -> None:
    settings = {RATE: 1e-05, "trainer.accumulate_grad_batches": 2, "a.flag": True, DROPOUT: None, "name": "x"}
    assert option_arguments(settings) == [
        f"--{RATE}=1e-05",
        "--trainer.accumulate_grad_batches=2",
        "--a.flag=true",
        f"--{DROPOUT}=null",
        "--name=x",
    ]
    configuration = yaml.safe_dump({"model": {"class_path": "C3D", "init_args": {"dropout": 0.5}}, "a": None})
    changed = yaml.safe_load(with_settings(configuration, settings))
    assert changed["model"] == {"class_path": "C3D", "init_args": {"dropout": None, "learning_rate": 1e-05}}
    assert changed["a"] == {"flag": True}
