"""What is refused before the job of a search reaches a cluster."""

import shlex
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.spec.job_spec import JobSpec
from jobs.submission.search_check import _describe_refusal, logged_metrics, monitor_metric, trial_command
from jobs.submission.search_status import search_command
from jobs.submission.submit import num_cpus, prepare_job
from tests.jobs.own_module import write_project
from tests.jobs.tuning.made_trials import make_space

SPACE = """
metric: val/top1
search: grid
concurrent: 2
parameters:
  {option}: {{choice: [{value}]}}
"""
ARGS = ["tune", "--space", "space.yaml", "--", "fit", "--config", "mine.yaml"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def test_a_command_has_a_space_and_a_fit() -> None:
    assert trial_command(ARGS) == ["fit", "--config", "mine.yaml"]
    with pytest.raises(ValueError, match="tune searches over the settings of `fit`, not of `evaluate`"):
        trial_command(["tune", "--space", "s.yaml", "--", "evaluate"])
    with pytest.raises(ValueError, match="space: name the file of what varies"):
        search_command(None, ["fit"])


def test_the_metric_of_the_search_ranks_the_checkpoints() -> None:
    spec = monitor_metric(JobSpec(), make_space(metric="val/loss", mode="min"))
    assert (spec.monitor, spec.monitor_mode) == ("val/loss", "min")
    with pytest.raises(
        ValueError, match="monitor=val/top5: the search ranks by val/top1; leave monitor out of the spec"
    ):
        monitor_metric(JobSpec(monitor="val/top5"), make_space())


def test_the_metrics_of_our_networks_are_known(motion_dataset: Path) -> None:
    data = {"init_args": {"root": str(motion_dataset)}}
    single = ["val/loss", "val/top1", "val/top5", "val/mean_class_accuracy", "train/loss"]
    assert sorted(logged_metrics({"model": {"class_path": "lightning_modules.C3D"}, "data": data})) == sorted(single)
    either = logged_metrics(
        {"model": {"class_path": "lightning_modules.C3D"}, "data": {"init_args": {"root": "s3://x"}}}
    )
    assert {"val/top1", "val/mean_average_precision"} <= set(either)
    assert logged_metrics({"model": {"class_path": "own_module.Model"}}) == []


def test_what_the_parser_refuses_is_said_of_the_parameter() -> None:
    configuration = {"model": {"class_path": "C3D", "init_args": {"learning_rate": 0.1}}}
    error = ValueError("No action for key 'learning_rat'")
    said = _describe_refusal("model.init_args.learning_rat", 0.1, configuration, error)
    assert said.endswith("there is no such option of this fit; did you mean 'model.init_args.learning_rate'?")
    wrong = ValueError("model.init_args.learning_rate: must be a number, not fast")
    said = _describe_refusal("model.init_args.learning_rate", "fast", configuration, wrong)
    assert said == f"parameters.model.init_args.learning_rate: 'fast' is refused: {wrong}"


def test_the_command_that_a_dry_run_prints_gives_the_same_search(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "space.yaml").write_text(SPACE.format(option="model.init_args.delay", value="0.0, 0.1"))
    (project / "spec.yaml").write_text("num_workers: 2\nstorage_path: my runs\nenv: {A: b c}\ninclude: ['*.yaml']\n")
    words = ["--dry-run", "--no-check"]
    options = ["--space", "space.yaml", "--spec", "spec.yaml", "--name", "search", *words]
    assert main(["tune", *options, "--", "fit", "--config", "mine.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    python, module, jobs, verb, *rest = shlex.split(lines[0].removeprefix("command:"))
    assert [python, module, jobs, verb] == ["python", "-m", "jobs", "tune"]
    assert {"--space", "--name", "--storage-path", "--num-workers", "--env"} <= set(rest)
    assert "--max-failures" not in rest, "as it is without saying so"
    assert main(["tune", *words, *rest]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_search_is_a_job_with_the_cpus_of_all_its_trials(project: Path) -> None:
    (project / "space.yaml").write_text(SPACE.format(option="model.init_args.delay", value="0.0, 0.1"))
    spec = JobSpec(name="search", num_workers=3, cpus_per_worker=2)
    with prepare_job(spec, ARGS, read_config=False) as (job, staged):
        assert job.args == ("tune", "--space", "upload:space.yaml", "--", "fit", "--config", "upload:mine.yaml")
        assert job.command_line == "python -m jobs tune --space space.yaml -- fit --config mine.yaml"
        assert num_cpus(job, staged) == 2 * 3 * 2
        assert "monitor: val/top1" in (staged / ".submission/ray.yaml").read_text()
        assert (staged / "space.yaml").is_file()


def test_a_space_that_is_wrong_is_refused_without_reading_the_configuration(project: Path) -> None:
    (project / "space.yaml").write_text(SPACE.format(option="x", value=""))
    with pytest.raises(ValueError, match=r"space=space.yaml: parameters.x: choice needs a list of values"):
        prepare_job(JobSpec(), ARGS, read_config=False).__enter__()


@pytest.mark.slow
def test_options_and_values_are_those_of_the_command_line(project: Path) -> None:
    for option, value, sentence in (
        ("model.init_args.dilay", "1.0", "there is no such option of this fit; did you mean 'model.init_args.delay'?"),
        ("model.init_args.delay", "1.0, slow", "'slow' is refused: .*delay: must be a number, not slow"),
    ):
        (project / "space.yaml").write_text(SPACE.format(option=option, value=value))
        with pytest.raises(ValueError, match=f"parameters.{option}: {sentence}") as caught:
            prepare_job(JobSpec(), ARGS).__enter__()
        assert "\n" not in str(caught.value)
