"""What looks like a secret: never in the environment, the configuration or the upload of a job."""

from pathlib import Path, PurePath

import pytest

from jobs.__main__ import main
from jobs.spec.job_spec import JobSpec
from jobs.spec.secret_scan import is_secret_file, refuse_secrets
from jobs.submission.upload import stage_upload
from pipeline.training.secret_patterns import find_secret, is_secret_variable, without_secrets
from tests.jobs.own_module import write_project

SECRET_FILES = [
    *(".env", ".env.local", "prod.env", ".netrc", "_netrc", ".pypirc", "server.pem", "tls.key", "id_rsa", "id_rsa.pub"),
    *("id_ed25519", "credentials", "credentials.json", "my-credentials.yaml", "wandb_api_key.txt", "auth_token.json"),
    *("secrets.yaml", "passwords.csv", ".ssh/config", ".aws/config.json", "kubeconfig", "google_service_account.json"),
]


@pytest.mark.parametrize("name", SECRET_FILES)
def test_files_of_secrets(name: str) -> None:
    assert is_secret_file(PurePath(name))


@pytest.mark.parametrize("name", ["secrets.py", "tokens.py", "model.py", "tokenizer.json", "keys.csv", "env.yaml"])
def test_other_files(name: str) -> None:
    assert not is_secret_file(PurePath(name))


def test_they_never_travel_whatever_is_included(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project, target = tmp_path / "project", tmp_path / "staged"
    write_project(project)
    for name in SECRET_FILES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("THE-SECRET")
    (project / "weights.bin").write_text("w")
    everything = ["**/*", ".*", *SECRET_FILES]
    stage_upload(["fit", "--config", "mine.yaml"], project, target, include=everything, py_modules=["own_module.py"])
    travelled = [path for path in target.rglob("*") if path.is_file()]
    assert target / "weights.bin" in travelled
    assert not [path for path in travelled if b"THE-SECRET" in path.read_bytes()]
    assert "note: server.pem stays behind: its name looks like that of a secret" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("configuration", "args", "place"),
    [
        (
            {"trainer": {"logger": [{"init_args": {"api_key": "0123456789abcdef"}}]}},
            [],
            "trainer.logger.0.init_args.api_",
        ),
        ({"data": {"secret_key": "abc/DEF+ghi/JKL=mno"}}, [], "data.secret_key"),
        ({}, ["fit", "--data.token", "0123456789abcdef"], "data.token"),
        ({}, ["fit", "--data.password=correct-horse-battery"], "data.password"),
    ],
)
def test_settings_that_are_secrets_are_refused_without_their_value(
    configuration: dict[str, object], args: list[str], place: str
) -> None:
    with pytest.raises(ValueError, match=place) as refused:
        refuse_secrets(configuration, args)
    assert "0123456789" not in str(refused.value)
    assert "horse" not in str(refused.value)


def test_settings_that_are_none() -> None:
    model = {"unknown_token": "<unk>", "tokenizer": "bert-base-uncased-v2", "monitor_key": "val/top1_accuracy"}
    refuse_secrets({"model": model | {"token": None, "token_file": "/etc/token"}}, ["fit", "--data.token_path=x"])


def test_the_command_line_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    assert main(["submit", "--", "fit", "--trainer.logger.api_key=0123456789abcdef"]) == 2
    printed = capsys.readouterr()
    assert "trainer.logger.api_key: looks like a secret" in printed.err
    assert "0123456789" not in printed.err + printed.out


def test_variables() -> None:
    assert is_secret_variable("WANDB_API_KEY")
    assert is_secret_variable("hf_token")
    assert not is_secret_variable("TOKENIZERS_PARALLELISM")


@pytest.mark.parametrize("field", ["storage_path", "address"])
def test_an_address_with_a_password(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: holds a password") as refused:
        JobSpec(**{field: "s3://me:hunter2@bucket/runs"})  # type: ignore[arg-type]
    assert "hunter2" not in str(refused.value)


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ"
KEYS = [  # put together here, so that nobody takes this file for a leak
    *("sk" + "-proj-" + LETTERS, "sk" + "-" + LETTERS, "AKIA" + "ABCDEFGH01234567", "ASIA" + "ABCDEFGH01234567"),
    *("hf" + "_" + LETTERS, "ghp" + "_" + LETTERS, "github" + "_pat_" + LETTERS, "glpat" + "-" + LETTERS),
    *("xoxb" + "-0123456789-" + LETTERS, "-----BEGIN RSA PRIVATE" + " KEY-----"),
    *("https://bob:hunter2@127.0.0.1:9/x", "redis://:hunter2@host/0"),
]


@pytest.mark.parametrize("key", KEYS)
def test_values_are_refused_under_any_name(key: str) -> None:
    places = [({}, ["fit", "--data.init_args.root", key]), ({}, ["fit", f"--data.root={key}"]), ({}, ["fit", key])]
    places += [({"data": {"roots": ["a", f"before {key}"]}}, []), ({}, ["fit", "--config", f"{{data: {key}}}"])]
    for configuration, args in places:
        with pytest.raises(ValueError, match="holds ") as refused:
            refuse_secrets(configuration, args)
        assert key not in str(refused.value)
    with pytest.raises(ValueError, match="env: FOO holds ") as refused:
        JobSpec(env={"FOO": key})
    assert key not in str(refused.value)
    assert key not in str(without_secrets({"data": [f"before {key}"], "tokenizer": "bert"}))


@pytest.mark.parametrize("comment", ["# was: ", "data: "])
def test_a_config_file_with_such_a_value_does_not_travel(tmp_path: Path, comment: str) -> None:
    write_project(tmp_path / "project")
    config = tmp_path / "project" / "mine.yaml"
    config.write_text(f"{config.read_text()}\n{comment}https://bob:hunter2@host/x\n".replace("\ndata:\n", "\nmore:\n"))
    with pytest.raises(ValueError, match=r"config=.*mine\.yaml: (data:|line \d+) holds an address") as refused:
        stage_upload(["fit", "--config", "mine.yaml"], tmp_path / "project", tmp_path / "staged")
    assert "hunter2" not in str(refused.value)


def test_a_key_of_wandb_where_the_name_says_so() -> None:
    commit = "0123456789" * 4
    assert find_secret(commit, "trainer.logger.init_args.key")
    assert find_secret(commit, "WANDB")
    assert find_secret(commit, "data.revision") is None


@pytest.mark.parametrize(
    "value",
    [
        *(
            "https://host:8265/a@b",
            "s3://bucket/a:b@c",
            "http://[::1]:80/x",
            "task-" + LETTERS,
            "runs/sk-learn-on-frames",
        ),
        *("/data/disk-0123456789012345678901234", "https://bob:${oc.env:PASSWORD}@host/x", "zip://a.zip::https://h/b"),
        *("hf_hub_download", "AKIA is a word", "https://bob@host/x", "git@github.com:a/b"),
    ],
)
def test_values_that_are_none(value: str) -> None:
    assert find_secret(value, "data.root") is None
