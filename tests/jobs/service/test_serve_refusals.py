"""What `serve` refuses in one sentence before anything is started, and its token files."""

from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.client.ray_head import LOCAL_DRIVER_VARIABLES
from jobs.service.http_server import listen
from jobs.service.service_options import ReplicaOptions, ServiceOptions
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own; the variables that `serve` sets in its process go afterwards."""
    for name, value in LOCAL_DRIVER_VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["serve", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_bad_options_are_one_sentence(capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path) -> None:
    known = ["--checkpoint", str(checkpoint), "--port", "0"]
    assert "give either --checkpoint, a file, or --weights" in refusal(capsys, "--port", "0")
    assert "missing.ckpt" in refusal(capsys, "--checkpoint", "missing.ckpt", "--port", "0")
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(checkpoint.read_bytes()[:1000])
    assert "damaged.ckpt" in refusal(capsys, "--checkpoint", str(damaged), "--port", "0")
    assert "take 2000 GPUs, and this machine has" in refusal(
        capsys, *known, "--replicas", "1000", "--gpus-per-replica", "2"
    )
    assert "host=203.0.113.9, port=0: cannot listen there" in refusal(capsys, *known, "--host", "203.0.113.9")
    assert "there is no option --replica" in refusal(capsys, *known, "--replica", "2")
    assert "just one of --replace, --status and --stop" in refusal(capsys, "--status", "--replace")
    assert "no service runs here" in refusal(capsys, "--replace", *known[:2])
    with listen("127.0.0.1", 0) as listening:
        port = str(listening.getsockname()[1])
        assert f"port={port}: is in use on 127.0.0.1" in refusal(capsys, *known[:2], "--port", port)
    assert not (tmp_path / "state" / "cluster.json").exists(), "nothing was started"


def test_a_token_file_that_others_read_is_refused(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, tmp_path: Path
) -> None:
    words = ["--checkpoint", str(checkpoint), "--port", "0", "--token-file", str(tmp_path / "token")]
    assert "token" in refusal(capsys, *words)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o644)
    assert "others can read it; `chmod 600` it" in refusal(capsys, *words)
    (tmp_path / "token").write_text("two words")
    assert "must contain one word, the token" in refusal(capsys, *words)


def test_without_a_service_status_says_so_and_stop_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--status"]) == 1
    assert main(["serve", "--stop"]) == 0
    assert capsys.readouterr().out == "no service runs here\n" * 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"replicas": 0}, "replicas=0: must be at least 1"),
        ({"gpus_per_replica": 1.5}, "gpus_per_replica=1.5: must be a whole number, or less than 1"),
        ({"decode_timeout_s": 0.0}, "decode_timeout_s=0: must be above 0 seconds"),
        ({"decode_memory_mb": 1}, "decode_memory_mb=1: must be at least 64"),
        ({"port": 70000}, "port=70000: must be at most 65535"),
        ({"max_queue": -1}, "max_queue=-1: must be at least 0"),
        ({"answer_timeout_s": 0.0}, "answer_timeout_s=0: must be above 0 seconds"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        ServiceOptions(**options)  # type: ignore[arg-type]


def test_the_limit_of_accepted_requests_is_that_of_queue_and_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert ServiceOptions(max_queue=5, replicas=3, decoders=2).max_accepted == 5 + 3 * 4
    network = ReplicaOptions(checkpoint=Path("README.md"), num_clips=3).network()
    assert network["checkpoint"] == str(Path("README.md").absolute())
    assert (network["num_clips"], network["model"], network["decoder"]) == (3, None, "auto")
