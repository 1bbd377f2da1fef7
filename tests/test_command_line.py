"""The verbs as a person types them: help for all, one sentence for a wrong one."""

import contextlib
import functools
import io
import subprocess
import sys

import pytest

from pipeline.__main__ import main
from pipeline.cli.verbs import VERBS


@functools.cache
def help_of(verb: str) -> str:
    """What `python -m pipeline VERB --help` prints; tests/test_docs.py takes it too."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    return printed.getvalue()


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_its_options(verb):
    assert f"python -m pipeline {verb}" in help_of(verb)
    assert "--" in help_of(verb)


@pytest.mark.parametrize(
    ("verb", "usage"),
    [("compare", "FIRST SECOND [options]"), ("classify", "VIDEOS ... [options]")],  # as the docs type them
)
def test_the_help_shows_what_needs_no_option(verb, usage):
    assert help_of(verb).startswith(f"usage: python -m pipeline {verb} {usage}\n")


def test_the_list_of_verbs(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


@pytest.mark.parametrize("module", ["pipeline", "jobs"])
def test_a_misspelt_verb_is_one_sentence_and_a_status(module):
    ended = subprocess.run([sys.executable, "-m", module, "sumbit"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "sumbit" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_debugging_shows_where_it_came_from(monkeypatch):
    monkeypatch.setenv("PIPELINE_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["summarize", "--reports", "a=nowhere.json"])
