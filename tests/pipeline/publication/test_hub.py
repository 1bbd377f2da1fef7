"""Sending to a hub and opening from it, by the real client: revisions, tokens, and a hub that is gone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_modules import C3D, VideoClassifier
from pipeline.__main__ import main
from pipeline.inference.trained_checkpoint import open_checkpoint
from tests.hub_server import TOKEN, running_hub


@pytest.fixture(scope="module")
def published(motion_checkpoint, tmp_path_factory):
    """A published folder. Read-only."""
    folder = tmp_path_factory.mktemp("published") / "motion"
    assert main(["publish", "--checkpoint", str(motion_checkpoint), "--out", str(folder)]) == 0
    return folder


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(motion_checkpoint, tmp_path):
    """The same network with one other weight, as files of a published folder."""
    content = torch.load(motion_checkpoint, weights_only=True)
    content["state_dict"]["stages.conv1a.0.weight"] += 1
    torch.save(content, tmp_path / "other.ckpt")
    assert main(["publish", "--checkpoint", str(tmp_path / "other.ckpt"), "--out", str(tmp_path / "other")]) == 0
    return files_of(tmp_path / "other")


def test_what_is_sent_opens_from_the_hub_as_the_checkpoint(hub, motion_checkpoint, tmp_path, capsys):
    words = ["--checkpoint", str(motion_checkpoint), "--out", str(tmp_path / "out"), "--push", "lab/motion"]
    assert main(["publish", *words]) == 0
    address = capsys.readouterr().out.splitlines()[-1].rpartition(" ")[2]
    assert address.startswith("hf://lab/motion@")
    [_, files] = hub.repositories["models/lab/motion"]
    assert {name: data for name, data in files.items() if name != ".gitattributes"} == files_of(tmp_path / "out")
    assert b"--checkpoint hf://lab/motion" in files["README.md"]
    expected = open_checkpoint(motion_checkpoint)
    for name in ("hf://lab/motion", address):
        opened = open_checkpoint(Path(name))
        assert opened.name == address
        assert opened.clips == expected.clips
        networks = [expected.model, opened.model, *(kind.from_pretrained(name) for kind in (VideoClassifier, C3D))]
        states = [network.state_dict() for network in networks]
        assert all(states[1][key].equal(value) for key, value in states[0].items())
        assert all(states[3][key].equal(value) for key, value in states[2].items())


def test_a_revision_is_the_one_that_is_named(hub, published, motion_checkpoint, tmp_path, monkeypatch, capsys):
    first = hub.commit("models/lab/motion", files_of(published), tag="v1.0")
    hub.commit("models/lab/motion", changed(motion_checkpoint, tmp_path))
    digests = {name: open_checkpoint(Path(f"hf://lab/motion{name}")).sha256 for name in ("", "@v1.0", f"@{first}")}
    assert digests["@v1.0"] == digests[f"@{first}"] == open_checkpoint(published).sha256
    assert digests[""] != digests["@v1.0"]
    videos = str(motion_checkpoint)  # never read
    assert main(["classify", videos, "--checkpoint", "hf://lab/motion@v9"]) == 2
    assert "checkpoint 'hf://lab/motion@v9': no such revision at http://127.0.0.1" in capsys.readouterr().err


def test_what_was_fetched_opens_when_the_hub_is_gone(hub, published, motion_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.commit("models/lab/motion", files_of(published))
    data = ["--data", str(motion_dataset), "--num-clips", "1", "--num-workers", "0", "--accelerator", "cpu"]
    assert main(["evaluate", "--checkpoint", "hf://lab/motion", *data]) == 0  # into motion-test
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert main(["evaluate", "--checkpoint", "hf://lab/motion", *data, "--out", "again"]) == 0
    assert main(["evaluate", "--checkpoint", str(published), *data, "--out", "folder"]) == 0
    names = ("motion-test", "again", "folder")
    tables = [pd.read_parquet(tmp_path / name / "predictions.parquet").scores.map(list).to_list() for name in names]
    assert tables[0] == tables[1] == tables[2]
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    assert report["provenance"]["checkpoint"].startswith("hf://lab/motion@")


def test_the_server_is_that_of_the_environment(published, tmp_path):
    with running_hub() as server:
        server.commit("models/lab/motion", files_of(published))
        variables = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        line = [sys.executable, "-m", "pipeline", "weights", "classes", "hf://lab/motion"]
        shown = subprocess.run(line, env={**os.environ, **variables}, check=True, capture_output=True, text=True)
    assert shown.stdout == (published / "labels.txt").read_text()


def test_a_private_repository_needs_the_token(hub, published, tmp_path, monkeypatch, capsys):
    assert main(["publish", "--checkpoint", str(published), "--push", "lab/secret", "--private"]) == 0
    assert "models/lab/secret" in hub.private
    assert open_checkpoint(Path("hf://lab/secret")).clips
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "other-cache"))
    for name in ("lab/secret", "lab/nothing"):
        with pytest.raises(
            FileNotFoundError, match=f"{name}': there is no such repository at .*, or it is private: .*HF_TOKEN"
        ):
            open_checkpoint(Path(f"hf://{name}"))


def test_sending_needs_a_token_that_the_hub_takes(hub, published, tmp_path, monkeypatch, capsys):
    words = ["publish", "--checkpoint", str(published), "--out", str(tmp_path / "out"), "--push", "lab/motion"]
    monkeypatch.delenv("HF_TOKEN")
    assert main(words) == 2
    assert "no token is here; log in with `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert hub.requests == []
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert "refuses (401: " in printed
    assert f"send it again with `python -m pipeline publish --checkpoint {tmp_path / 'out'} --push lab" in printed
    assert printed.count("\n") == 1
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["publish", "--checkpoint", str(tmp_path / "out"), "--push", "lab/motion"]) == 0  # as it says


def test_what_the_hub_does_not_take_is_one_sentence(hub, published, motion_checkpoint, tmp_path, capsys):
    out, edited = ["--out", str(tmp_path / "out")], tmp_path / "edited"
    shutil.copytree(published, edited)
    card = (edited / "README.md").read_text()
    (edited / "README.md").write_text(card.replace("---\n", "---\nlicense: no-such-license\n", 1))
    cases = [
        (["--checkpoint", str(edited), "--push", "a/b"], "must be one of those"),
        (["--checkpoint", str(published), *out, "--license", "apache2", "--push", "a/b"], "the nearest is apache-2.0"),
        (["--checkpoint", str(published), *out, "--license-link", "LICENSE"], "name too, by --license"),
        (["--checkpoint", str(published), "--push", "name"], "give ORG/NAME"),
        (["--checkpoint", str(motion_checkpoint), "--push", "a/b"], "give --out"),
        (
            ["--checkpoint", str(published), "--push", "a/b", "--license", "mit"],
            "license: a published folder is sent as",
        ),
        (["--checkpoint", str(published)], "give --out, a folder to write, or --push"),
    ]
    for words, message in cases:
        assert main(["publish", *words]) == 2, words
        printed = capsys.readouterr().err
        assert message in printed, printed
        assert printed.count("\n") == 1
    with pytest.raises(ValueError, match="an address on the hub is hf://ORG/NAME"):
        open_checkpoint(Path("hf://name"))
    hub.commit("models/lab/other", {"README.md": b"another"})
    with pytest.raises(ValueError, match=r"hf://lab/other': has no config\.json"):
        open_checkpoint(Path("hf://lab/other"))


def test_a_hub_that_is_not_there_is_one_sentence(hub, published, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9 cannot be reached .*; check the network") as caught:
        open_checkpoint(Path("hf://lab/motion"))
    assert "\n" not in str(caught.value)
    assert main(["publish", "--checkpoint", str(published), "--push", "lab/motion"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
