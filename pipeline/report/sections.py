"""The parts of report.html: what is confused, class by class, calibration, and the most confident mistakes."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.confusion import hardest_classes
from pipeline.metrics.per_class import ClassRow
from pipeline.report.charts import bar, confusion_table, percent, reliability_svg, text
from pipeline.report.previews import Preview

_MATRIX_CLASSES = 20  # more are not readable as numbers
_OPEN_CLASSES = 20


class Mistake(NamedTuple):
    """A video that was taken for another class, with the scores of that class and of its own."""

    key: str
    label: str
    predicted: str
    score: float
    label_score: float
    preview: Preview | None


class Page(NamedTuple):
    """What the page says.

    Attributes:
        title: what was judged, on what.
        report: what report.json says.
        matrix: int64 (K, K), videos by label and predicted class.
        rows: a row a class, in the order of the labels.
        mistakes: the most confident first.
    """

    title: str
    report: Mapping[str, Any]
    matrix: NDArray[np.int64]
    rows: Sequence[ClassRow]
    mistakes: Sequence[Mistake]


def confusion_section(page: Page) -> str:
    """The confusion matrix, or its hardest part, and the pairs that are confused most."""
    if not page.matrix.any():
        return ""
    names = [row.name for row in page.rows]
    shown = hardest_classes(page.matrix, _MATRIX_CLASSES)
    if not len(shown):
        return ""
    part = len(shown) < len(names)
    caption = (
        f"The {len(shown)} of {len(names)} classes that are confused most" if part else "Videos by label and answer"
    )
    said = "A row is what a video shows, a column what it was taken for. " + (
        "The matrix has the classes of the hardest pairs, neighbors are confused with each other." if part else ""
    )
    legend = (
        '<ul class="legend"><li><i class="hit"></i>outlined: recognized</li><li><i class="miss"></i>taken for another; '
        "deeper is a larger share of the row</li></ul>"
    )
    table = confusion_table(page.matrix, shown.tolist(), names, caption)
    pairs = _pairs(page)
    return (
        f'<section><h2>What is taken for what</h2><p class="say">{said}</p><div class="card">{table}{legend}</div>'
        f"{pairs}</section>"
    )


def _pairs(page: Page) -> str:
    pairs = page.report["hardest_pairs"] if len(page.rows) > 2 else []
    if not pairs:
        return ""
    most = max(pair["first_as_second"] + pair["second_as_first"] for pair in pairs)
    rows = []
    for pair in pairs:
        back = f"{pair['second_as_first']:,} the other way" if pair["second_as_first"] else ""
        both = pair["first_as_second"] + pair["second_as_first"]
        rows.append(
            f'<tr><th scope="row">{text(pair["first"])}<small>for {text(pair["second"])}</small></th>'
            f'<td class="wide" style="width:40%">{bar(both / most, wrong=True)}</td>'
            f'<td class="number">{pair["first_as_second"]:,} of {pair["first_videos"]:,}<small>{back}</small>'
            "</td></tr>"
        )
    return (
        '<h2 class="second">Hardest pairs</h2><div class="card"><table class="plain">'
        '<thead><tr><th scope="col">taken</th><td class="wide"></td><th scope="col" class="number">videos</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def classes_section(page: Page) -> str:
    """A bar a class, the hardest first."""
    judged = sorted((row for row in page.rows if row.videos), key=lambda row: row.accuracy or 0.0)
    empty = len(page.rows) - len(judged)
    said = "The hardest first; the line on a bar is the 95 % interval of so many videos, taken one by one."
    if empty:
        said += f" {empty:,} classes have no video here."
    table = _class_table(judged[:_OPEN_CLASSES])
    if len(judged) > _OPEN_CLASSES:
        table += (
            f"<details><summary>the other {len(judged) - _OPEN_CLASSES:,} classes</summary>"
            f"{_class_table(judged[_OPEN_CLASSES:])}</details>"
        )
    return f'<section><h2>Class by class</h2><p class="say">{said}</p><div class="card">{table}</div></section>'


def _class_table(rows: Sequence[ClassRow]) -> str:
    lines = []
    for row in rows:
        taken = f"<small>{row.taken_for_videos:,} for {text(row.taken_for)}</small>" if row.taken_for else ""
        lines.append(
            f'<tr><th scope="row" class="name">{text(row.name)}{taken}</th>'
            f"<td>{bar(row.accuracy or 0.0, [row.low or 0.0, row.high or 0.0])}</td>"
            f'<td class="number">{percent(row.accuracy, 0)}</td>'
            f'<td class="number">{row.correct:,} of {row.videos:,}</td>'
            f'<td class="number wide">{percent(row.precision, 0)}</td></tr>'
        )
    return (
        '<table class="plain classes"><thead><tr><th scope="col">class</th><td></td>'
        '<th scope="col" class="number">accuracy</th><th scope="col" class="number">videos</th>'
        f'<th scope="col" class="number wide">precision</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def reliability_section(page: Page) -> str:
    """The reliability diagram and its numbers; nothing where scores are not probabilities."""
    calibration = page.report["calibration"]
    if calibration is None:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{percent(of["low"], 0)} to {percent(of["high"], 0)}</th>'
        f'<td class="number">{of["videos"]:,}</td><td class="number">{percent(of["confidence"])}</td>'
        f'<td class="number">{percent(of["accuracy"])}</td></tr>'
        for of in calibration["bins"]
        if of["videos"]
    )
    return (
        '<section><h2>Does it know when it is right?</h2><p class="say">Videos by how sure the answer was. Where '
        "confidence means what it says, the bars end on the dotted line. The pale part is the gap: orange where it was "
        f"too sure, blue where it was not sure enough. Over all it is {percent(calibration['ece'])}, the expected "
        "calibration error.</p>"
        f'<div class="card columns"><div>{reliability_svg(calibration)}</div><div><table class="plain"><thead><tr>'
        '<th scope="col">confidence</th><th scope="col" class="number">videos</th><th scope="col" class="number">mean'
        f'</th><th scope="col" class="number">right</th></tr></thead><tbody>{lines}</tbody></table></div></div>'
        "</section>"
    )


def gallery_section(page: Page) -> str:
    """The most confident mistakes as looping previews; nothing where there is none."""
    if not page.mistakes:
        return ""
    probable = page.report["provenance"].get("scores") == "probability"
    figures = "".join(_figure(mistake, probable) for mistake in page.mistakes)
    return (
        '<section><h2>The most confident mistakes</h2><p class="say">Wrong labels, cut scenes and classes that overlap '
        f'show here first.</p><div class="gallery">{figures}</div></section>'
    )


def _figure(mistake: Mistake, probable: bool) -> str:
    score, own = (percent(s, 0) if probable else f"{s:.2f}" for s in (mistake.score, mistake.label_score))
    told = text(f"{mistake.label}, taken for {mistake.predicted}")
    if mistake.preview is None:
        picture = '<div class="blank">no preview</div>'
    else:
        moving, still = (_data(of) for of in (mistake.preview.moving, mistake.preview.still))
        picture = (
            f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{still}" type="image/webp">'
            f'<img alt="{told}" width="{mistake.preview.width}" height="{mistake.preview.height}" src="{moving}">'
            "</picture>"
        )
    return (
        f"<figure>{picture}<figcaption><b>{text(mistake.predicted)}</b> {score}<br>is "
        f"<em>{text(mistake.label)}</em> {own}<small>{text(mistake.key)}</small></figcaption></figure>"
    )


def _data(picture: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"
