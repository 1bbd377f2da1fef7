"""trials.html: the trials of a search on one page, as parallel coordinates and as a table, the best first."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from pipeline.report.rendering import render

_MAX_TICKS = 12  # most values of a choice that are labelled on its axis


class Axis(NamedTuple):
    """A setting that varies.

    Attributes:
        name: Its name.
        range: The lowest and the highest value; None where values are a choice, of any kind.
        is_log: Whether the axis is logarithmic.
    """

    name: str
    range: tuple[float, float] | None
    is_log: bool = False


class PageTrial(NamedTuple):
    """A trial on the page.

    Attributes:
        number: Its number in the search.
        state: How it stands, in a word.
        value: Its best value of the metric; None if it has none.
        epochs: The number of epochs done.
        settings: Its value on each axis.
        message: Why it was stopped or failed; else empty.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    settings: Sequence[Any]
    message: str


class _PlacedAxis(NamedTuple):
    name: str
    ticks: Sequence[tuple[float, str]]  # the share of the axis from its lower end, and the label


class _Line(NamedTuple):
    text: str
    points: Sequence[float | None]  # the share of each axis; None where the trial has no value
    strength: float  # 1 for the best trial, 0 for the last


def draw_trials_page(name: str, metric: str, states: str, axes: Sequence[Axis], trials: Sequence[PageTrial]) -> str:
    """Renders the page as HTML in one file that needs no network.

    Args:
        name: The name of the search.
        metric: The metric that ranks the trials.
        states: How many trials are in which state.
        axes: The settings that vary.
        trials: The trials, the best first.
    """
    return render(
        "trials.html",
        title=f"Search {name}",
        metric=metric,
        states=states,
        axes=axes,
        trials=trials,
        chart=parallel_coordinates(metric, axes, trials) if trials else None,
        show_setting=format_setting,
        show_metric=format_metric,
    )


def parallel_coordinates(metric: str, axes: Sequence[Axis], trials: Sequence[PageTrial]) -> Markup:
    """Draws a line a trial over one axis a setting, with the metric as the last axis; the best line is the strongest.

    Args:
        metric: The name of the metric.
        axes: The settings.
        trials: At least one trial, the best first.
    """
    values = [trial.value for trial in trials if trial.value is not None]
    columns = [[trial.settings[number] for trial in trials] for number in range(len(axes))]
    places = [_place(axis, column) for axis, column in zip(axes, columns, strict=True)]
    if values:
        axis = Axis(metric, (min(values), max(values)))
        places.append(_place(axis, [trial.value for trial in trials]))
    lines = [
        _Line(
            f"trial {trial.number}, {trial.state}: {metric} {format_metric(trial.value)}",
            [shares[number] for _, shares in places],
            0.0 if len(trials) == 1 else 1 - number / (len(trials) - 1),
        )
        for number, trial in enumerate(trials)
    ]
    return Markup(render("parallel_coordinates.svg", axes=[axis for axis, _ in places], lines=lines[::-1]))


def _place(axis: Axis, values: Sequence[Any]) -> tuple[_PlacedAxis, list[float | None]]:
    """The axis with its ticks, and where on it each value lies, from 0 to 1."""
    if axis.range is None:
        texts = list(dict.fromkeys(map(format_setting, sorted(values, key=_by_size))))
        shares = {text: (number + 0.5) / len(texts) for number, text in enumerate(texts)}
        ticks = [(share, text) for text, share in shares.items()] if len(texts) <= _MAX_TICKS else []
        return _PlacedAxis(axis.name, ticks), [shares[format_setting(value)] for value in values]
    low, high = (_scaled(end, axis) for end in axis.range)
    width = (high - low) or 1.0
    ticks = [(0.0, format_setting(axis.range[0])), (1.0, format_setting(axis.range[1]))]
    if high == low:
        ticks = ticks[:1]
    return _PlacedAxis(axis.name, ticks), [
        None if value is None else (_scaled(float(value), axis) - low) / width for value in values
    ]


def _scaled(value: float, axis: Axis) -> float:
    return math.log(value) if axis.is_log else value


def _by_size(value: Any) -> tuple[int, float, str]:
    """The key that sorts numbers by size, before everything else by its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))


def format_setting(value: Any) -> str:
    """A value of a setting, numbers with four digits, others as in YAML."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_metric(value: float | None) -> str:
    """A value of a metric with four digits; `-` where it was not measured."""
    return "-" if value is None else f"{value:.4g}"
