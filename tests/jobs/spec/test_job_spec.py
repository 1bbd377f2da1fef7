"""JobSpec: what is read, what is refused, and that every spec in the package is sound."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from jobs.__main__ import main
from jobs.cli import JOB_VERBS, make_parser, parse
from jobs.spec.job import JOB_FILE, Job
from jobs.spec.job_spec import JobSpec, read_spec_file
from jobs.spec.search_space import read_search_space

CONFIGS = Path(__file__).resolve().parents[3] / "jobs" / "configs"
SPACES = sorted(CONFIGS.glob("search_*.yaml"))
SPECS = sorted(path for path in CONFIGS.glob("*.yaml") if path.name != "ray.yaml" and path not in SPACES)


def parsed(*arguments: str) -> JobSpec:
    options = parse(make_parser(), ["submit", *arguments], has_command=True)["submit"]
    return JobSpec(**{field.name: options[field.name] for field in dataclasses.fields(JobSpec)})


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_parses(path: Path) -> None:
    spec = parsed("--spec", str(path))
    assert spec.num_workers == yaml.safe_load(path.read_text())["num_workers"]
    assert f"jobs/configs/{path.name}" in path.read_text(), "its header names the command that uses it"


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_is_one(path: Path) -> None:
    assert read_search_space(path).num_trials > 1
    assert f"jobs/configs/{path.name}" in path.read_text(), "its header names the command that uses it"


def test_there_are_the_specs_that_the_readme_promises() -> None:
    assert {path.stem for path in SPECS} >= {"cpu_2_workers", "gpu_1x8", "gpu_4x8"}


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("num_workers: 2\nenv: {A: b}\nexclude: [notes]\n")
    spec = parsed("--spec", str(tmp_path / "s.yaml"), "--num_workers", "3", "--name", "mine")
    assert (spec.num_workers, spec.name, spec.env, spec.exclude) == (3, "mine", {"A": "b"}, ["notes"])


def test_threads_are_those_of_the_cpus_unless_set() -> None:
    assert JobSpec(cpus_per_worker=4).threads == 4
    assert JobSpec(cpus_per_worker=4, threads_per_worker=1).threads == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_workers": 0}, "num_workers=0: must be at least 1"),
        ({"max_failures": -2}, "max_failures=-2: must be at least -1"),
        ({"gpus_per_worker": 2}, "gpus_per_worker=2: must be 0 or 1"),
        ({"start_timeout_s": 0.0}, r"start_timeout_s=0\.0: must be more than 0"),
        ({"num_workers": 4, "min_workers": 5}, "min_workers=5: must be at least 1 and at most num_workers=4"),
        ({"min_workers": 0}, "min_workers=0: must be at least 1"),
        ({"hang_timeout_s": -1.0}, r"hang_timeout_s=-1\.0: must be at least 0"),
        ({"checkpoint_every_minutes": -1.0}, r"checkpoint_every_minutes=-1\.0: must be at least 0"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"name": "-a"}, "name='-a'"),
        ({"env": {"WANDB_API_KEY": "x"}}, "WANDB_API_KEY looks like a secret"),
        ({"env": {"hf_token": "x"}}, "hf_token looks like a secret"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobSpec(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_worker: 3", "there is no field 'num_worker'; did you mean 'num_workers'?"),
        ("model: C3D", "there is no field 'model'; the fields are: name, address"),
        ("- 3", "must hold fields such as `num_workers: 2`, not a list"),
        ("num_workers: [1", "s.yaml: not a YAML file: line 1, column 16: while parsing a flow sequence expected ','"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="spec=") as caught:
        read_spec_file(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "--num_workers", "two", "--", "fit"], "error: num_workers: must be a whole number, not two"),
        (["submit", "--spec", "absent.yaml", "--", "fit"], "spec=absent.yaml: there is no such file"),
        (["submit", "--num_worker_count", "2", "--", "fit"], "num_worker_count"),
        (["submit", "--", "fitt"], "there is no verb 'fitt'; did you mean 'fit'?"),
        (
            ["submit", "--address", "127.0.0.1", "--", "fit"],
            "address=127.0.0.1: not a job server's address; give h",
        ),
        (["submit", "--address", "http://", "--", "fit"], "give http://head:8265"),
        (
            ["submit", "--address", "http://127.0.0.1:9", "--", "fit", "--config", "x"],
            "no Ray job server answers there",
        ),
        (["list", "--address", "http:/head:8265"], "not a job server's address"),
        (["submit", "--dry-run", "fit", "--config", "x"], "nothing to run: put the command behind `--`"),
        (["submit", "--dry-run", "--wrong", "x"], "wrong"),
        (["submit"], "nothing to run: put the command behind `--`"),
        (["submti"], "submti"),
        (["submit", "--", "pack", "--outt", "x"], "--outt"),
        (["submit", "--", "pack", "--out", "x", "--fps", "ten"], "fps: "),
        (["submit", "--", "fit", "--config", "absent.yaml"], "--config absent.yaml: there is no such file"),
    ],
)
def test_bad_input_costs_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert "Traceback" not in printed.err
    assert not (tmp_path / "state" / "cluster.json").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_workers: two", "num_workers: must be a whole number, not two"),
        ("start_timeout_s: soon", "start_timeout_s: must be a number, not soon"),
        ("placement: FAR", "placement: must be one of PACK, SPREAD, STRICT_PACK, STRICT_SPREAD, not FAR"),
        ("exclude: notes", "exclude: must be a list of texts, such as [a, b], not notes"),
        ("name: [x]", "name: must be text (a number in quotes), not ['x']"),
        ("env: {A: 1234}", "env: must be names with texts, such as {NAME: text} (numbers in quotes)"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_its_file(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert main(["submit", "--spec", f"{tmp_path}/s.yaml", "--dry-run", "--", "fit"]) == 2
    assert capsys.readouterr().err.strip() == f"error: spec={tmp_path}/s.yaml: {message}"


def test_help_documents_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["submit", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(JobSpec):
        described = printed.rpartition(f"--{field.name} ")[2]
        assert described.split("(type")[0].count(" ") > 4, f"{field.name} has no text"


def test_help_says_what_each_verb_is_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert "\nJOBS_STATE_DIR is the folder where" in printed
    assert "\npython -m jobs list\npython -m jobs status|logs|stop|resume [ID]\n" in printed, "a line each"
    for verb, text in JOB_VERBS.items():
        assert f"{verb} {text}" in " ".join(printed.split())


def test_a_job_survives_json(tmp_path: Path) -> None:
    job = Job(JobSpec(name="a", env={"B": "c"}, exclude=["d"]), origin="/somewhere")
    job.write(tmp_path)
    assert json.loads((tmp_path / JOB_FILE).read_text())["origin"] == "/somewhere"
    assert Job.read(tmp_path / JOB_FILE) == job
