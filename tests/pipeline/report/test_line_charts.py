"""Line charts: points lie where the axes say."""

import re
from xml.etree import ElementTree

import pytest

from pipeline.report.charts import LineChart, line_charts

SVG = "{http://www.w3.org/2000/svg}"


def draw(chart: LineChart) -> tuple[list[list[tuple[float, float]]], list[str], ElementTree.Element]:
    """The points of the lines in pixels, all texts, and the drawing."""
    drawing = ElementTree.fromstring(line_charts([chart], "A <title>"))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in drawing.iter(f"{SVG}polyline")
    ]
    return lines, [text.text or "" for text in drawing.iter(f"{SVG}text")], drawing  # type: ignore[return-value]


def test_a_linear_chart_spans_shares_from_0_to_1() -> None:
    [line], texts, _ = draw(LineChart("h", "x", {"a": [(0, 0.0), (10, 0.25), (20, 1.0)]}))
    assert line == [(64, 220), (312, 165), (560, 0)]
    assert {"A <title>", "h", "x", "a", "0", "10", "20", "0.25", "1"} <= set(texts)


def test_logarithmic_axes_have_decades_and_the_given_values_of_x() -> None:
    lines = {"a": [(1, 1.0), (10, 0.1), (100, 0.02)], "a, again": [(1, 1.0), (100, 0.01)]}
    drawn, texts, drawing = draw(LineChart("h", "x", lines, log_x=True, log_y=True))
    assert drawn[0] == [(64, 0), (312, 110), (560, pytest.approx(220 * 0.8495, abs=0.1))]
    assert drawn[1] == [(64, 0), (560, 220)]
    assert {"1", "10", "100", "0.1", "0.01"} <= set(texts)
    first, second = drawing.iter(f"{SVG}polyline")
    assert first.attrib["stroke"] == second.attrib["stroke"]
    assert "stroke-dasharray" in second.attrib
    assert "stroke-dasharray" not in first.attrib


def test_names_are_escaped() -> None:
    chart = line_charts([LineChart("h", "x", {"<b>": [(0, 0.5), (1, 0.5)]})])
    assert "<b>" not in chart
    assert re.search("&lt;b&gt;", chart)
