"""Options as dataclasses: each documented once, shown in titled groups, flat on the command line."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import docstring_parser
import pytest

from datamodules.loading.data_options import DataOptions
from datamodules.options import Options
from pipeline.__main__ import main
from pipeline.cli.option_groups import option_groups, options_class
from pipeline.cli.verbs import VERBS, load_verb

OPTIONS = [found for verb in VERBS if (found := options_class(load_verb(verb)))] + [DataOptions]


def documented(options: type) -> list[str]:
    """The fields that the docstring of a class itself describes."""
    return [one.arg_name for one in docstring_parser.parse(options.__doc__ or "").params if one.description]


def group_classes(options: type) -> Iterator[type]:
    return (base for base in options.__mro__ if issubclass(base, Options))


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_is_described_once(options: type) -> None:
    described = [name for base in group_classes(options) for name in documented(base)]
    assert sorted(described) == sorted(field.name for field in dataclasses.fields(options))


def test_no_description_stands_in_two_classes() -> None:
    """What several verbs have in common is a class that they share, or one that narrows what another describes."""
    classes = {base for options in OPTIONS for base in group_classes(options)}
    parsed = (docstring_parser.parse(one.__doc__ or "").params for one in classes)
    texts = [" ".join((one.description or "").split()) for params in parsed for one in params]
    assert not [text for text, count in Counter(texts).items() if count > 1 and len(text) > 40]


def shown_groups(printed: str) -> dict[str, str]:
    """Titles of a help, and what is listed under each."""
    parts = printed.split("\n\n")
    groups: dict[str, str] = {}
    title = ""
    for part in parts:
        head, _, rest = part.partition("\n")
        if head.endswith(":") and not head.startswith(" "):
            title, part = head.removesuffix(":"), rest
        groups[title] = groups.get(title, "") + "\n" + part
    return groups


@pytest.mark.parametrize(
    ("arguments", "prefix", "options"),
    [
        (["pack", "--help"], "--", options_class(load_verb("pack"))),
        (["evaluate", "--help"], "--", options_class(load_verb("evaluate"))),
        (["fit", "--data.help", "ShardedVideoDataModule"], "--data.", DataOptions),
    ],
)
def test_the_help_shows_the_options_in_groups(
    arguments: list[str], prefix: str, options: type, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    shown = shown_groups(capsys.readouterr().out)
    groups = option_groups(options)
    assert len(groups) >= 3
    for group in groups:
        for name in group.names:
            spelled = name.replace("_", "-") if prefix == "--" else name
            assert f"\n  {prefix}{spelled}" in shown[group.title], name
    assert [title for title in shown if title in {group.title for group in groups}] == [one.title for one in groups]


def test_every_class_checks_its_own_fields() -> None:
    for wrong, message in (
        ({"num_workers": -1}, "num_workers=-1: must be at least 0"),
        ({"cache_bytes": 0}, "cache_bytes=0: must be at least 1"),
        ({"clip_step": 0}, "clip_step=0: must be at least 1, or null"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"segments": True, "test_sampling": "whole"}, "segments=true"),
    ):
        with pytest.raises(ValueError, match=message):
            DataOptions(**wrong)


def test_a_misspelt_option_of_a_shared_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "a.ckpt", "--data", "b", "--num-wokers", "0"]) == 2
    assert "there is no option --num-wokers; did you mean --num-workers?" in capsys.readouterr().err
