"""Charts as SVG: bar charts, line charts and the reliability diagram.

Inside a page charts have the colors of its stylesheet, light or dark; a chart in a file of its own is light.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from pipeline.report.rendering import render

# Distinct for readers who do not tell red from green (Okabe and Ito 2008).
_LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_MAX_LABELED_BARS = 40  # most bars with labels; beyond, they only have tooltips


class BarChart(NamedTuple):
    """Counts as bars side by side.

    Attributes:
        heading: what is counted, above the chart.
        names: names of the bars, at least one; shown in tooltips.
        counts: the count of each bar, 0 or more.
        edges: numbers between the bars, one more than bars; None: names below the bars, where there are few.
    """

    heading: str
    names: Sequence[str]
    counts: Sequence[int]
    edges: Sequence[float] | None = None


def bar_charts(charts: Sequence[BarChart], title: str = "") -> Markup:
    """Draws bar charts one above the other, with a tooltip on every bar.

    Args:
        charts: the charts, from top to bottom.
        title: title above the charts, for a file of its own; empty inside a page.
    """
    return Markup(render("bar_charts.svg", charts=charts, title=title, labeled=_MAX_LABELED_BARS))


class LineChart(NamedTuple):
    """Lines over a common axis.

    Attributes:
        heading: what is drawn, above the chart.
        x_label: what the horizontal axis is, with its unit.
        lines: the points (x, y) of each line by its name, in the order of x; a line whose name has a comma is dashed,
            in the color of the part before the comma.
        log_x: whether the horizontal axis is logarithmic; all x are above 0 then.
        log_y: whether the vertical axis is logarithmic; all y are above 0 then. Else it is from 0 to 1.
    """

    heading: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False


def line_charts(charts: Sequence[LineChart], title: str = "") -> Markup:
    """Draws line charts one above the other, with a legend beside each.

    Args:
        charts: the charts, from top to bottom, each with two or more values of x.
        title: title above the charts, for a file of its own; empty inside a page.
    """
    return Markup(render("line_charts.svg", charts=[_place_lines(chart) for chart in charts], title=title))


def _place_lines(chart: LineChart) -> dict[str, Any]:
    """The chart with points and ticks as shares of its axes, from 0 to 1."""
    xs = sorted({x for points in chart.lines.values() for x, _ in points})
    ys = [y for points in chart.lines.values() for _, y in points]
    x_axis = _Axis(xs[0], xs[-1], chart.log_x)
    low, high = (
        (10.0 ** math.floor(math.log10(min(ys))), 10.0 ** math.ceil(math.log10(max(ys)))) if chart.log_y else (0, 1)
    )
    y_axis = _Axis(low, high, chart.log_y)
    families = list(dict.fromkeys(name.partition(",")[0] for name in chart.lines))
    return {
        "heading": chart.heading,
        "x_label": chart.x_label,
        "x_ticks": [(x_axis.place(x), f"{x:g}") for x in (xs if chart.log_x else x_axis.ticks())],
        "y_ticks": [(y_axis.place(y), f"{y:g}") for y in y_axis.ticks()],
        "lines": [
            {
                "name": name,
                "color": _LINE_COLORS[families.index(name.partition(",")[0]) % len(_LINE_COLORS)],
                "dashed": "," in name,
                "points": [(x_axis.place(x), y_axis.place(y)) for x, y in points],
            }
            for name, points in chart.lines.items()
        ],
    }


class _Axis(NamedTuple):
    """An axis from `low` to `high`."""

    low: float
    high: float
    is_log: bool

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the beginning of the axis and 1 at its end."""
        low, high, at = (math.log10(one) if self.is_log else one for one in (self.low, self.high, value))
        return (at - low) / ((high - low) or 1)

    def ticks(self) -> list[float]:
        """Five values from one end to the other; on a logarithmic axis powers of ten, as evenly."""
        if not self.is_log:
            return [self.low + (self.high - self.low) * number / 4 for number in range(5)]
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        step = max(1, math.ceil((last - first) / 5))
        return [10.0**power for power in range(first, last + 1, step)]


def _decades(low: float, high: float) -> _Axis:
    """A logarithmic axis from one power of ten to another, with `low` and `high` on it."""
    return _Axis(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)), True)


def reliability_diagram(calibration: Mapping[str, Any]) -> Markup:
    """Draws accuracy by confidence, the gap between the two, and the number of videos of each bin.

    Args:
        calibration: the result of `pipeline.metrics.calibration.calibrate`.
    """
    bins = [one for one in calibration["bins"] if one["videos"]]
    return Markup(render("reliability_diagram.svg", bins=bins, ece=calibration["ece"]))
