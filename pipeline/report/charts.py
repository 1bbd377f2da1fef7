"""The charts of all pages, as SVG: bar charts and the reliability diagram.

Inside a page their colors are those of its stylesheet, light or dark; in a file of its own a chart is light.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from pipeline.report.rendering import render

_LABELED_BARS = 40  # with more, the bars have tooltips alone


class BarChart(NamedTuple):
    """Counts as bars side by side.

    Attributes:
        heading: what is counted.
        names: of the bars, at least one; shown in tooltips.
        counts: one per bar, 0 or more.
        edges: numbers between the bars, one more than bars; None puts the names below the bars, where there are few.
    """

    heading: str
    names: Sequence[str]
    counts: Sequence[int]
    edges: Sequence[float] | None = None


def bar_charts(charts: Sequence[BarChart], title: str = "") -> Markup:
    """Bar charts one above the other, with a tooltip on every bar.

    Args:
        charts: from top to bottom.
        title: above them all; for a file of its own.
    """
    return Markup(render("bar_charts.svg", charts=charts, title=title, labeled=_LABELED_BARS))


def reliability_diagram(calibration: Mapping[str, Any]) -> Markup:
    """Accuracy by confidence, the gap between the two, and the videos of each bin.

    Args:
        calibration: what `pipeline.metrics.calibration.calibrate` gives.
    """
    bins = [one for one in calibration["bins"] if one["videos"]]
    return Markup(render("reliability_diagram.svg", bins=bins, ece=calibration["ece"]))
