"""Charts as SVG: bar charts and the reliability diagram.

Inside a page charts have the colors of its stylesheet, light or dark; a chart in a file of its own is light.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from pipeline.report.rendering import render

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


def reliability_diagram(calibration: Mapping[str, Any]) -> Markup:
    """Draws accuracy by confidence, the gap between the two, and the number of videos of each bin.

    Args:
        calibration: the result of `pipeline.metrics.calibration.calibrate`.
    """
    bins = [one for one in calibration["bins"] if one["videos"]]
    return Markup(render("reliability_diagram.svg", bins=bins, ece=calibration["ece"]))
