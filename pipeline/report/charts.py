"""The drawings on a page of results: small SVG and HTML by hand, in the page's own colors, for any screen."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.storage.plain_text import printable

_SIDE, _LEFT, _TOP, _COUNTS = 280, 46, 12, 56  # of the reliability diagram and the counts below it
_GAP = 30


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as text, such as `78.7 %`, with a space that does not break; `-` for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}\u202f%"


def scale(value: float, interval: Sequence[float] | None, chance: float | None) -> str:
    """A value between 0 and 1 on a line, with its interval and a mark where chance would be."""
    band = f'<i style="--from:{interval[0]:.4f};--to:{interval[1]:.4f}"></i>' if interval else ""
    luck = f'<u style="--at:{chance:.4f}"></u>' if chance is not None else ""
    return f'<span class="scale" aria-hidden="true">{band}{luck}<b style="--at:{value:.4f}"></b></span>'


def bar(share: float, interval: Sequence[float] | None = None, wrong: bool = False) -> str:
    """A share in [0, 1] as a bar, with its interval as a line; what it says must stand beside it in words."""
    line = f'<b style="--from:{interval[0]:.4f};--to:{interval[1]:.4f}"></b>' if interval else ""
    kind = "bar miss" if wrong else "bar"
    return f'<span class="{kind}" aria-hidden="true"><i style="--at:{share:.4f}"></i>{line}</span>'


def confusion_table(matrix: NDArray[np.int64], shown: Sequence[int], class_names: Sequence[str], caption: str) -> str:
    """Part of a confusion matrix as a table; each cell is as deep as its share of its row's videos.

    Args:
        matrix: int64 (K, K), rows are labels.
        shown: which classes, in order.
        class_names: the K names.
        caption: what is shown.
    """
    few = len(shown) <= 4
    heads = "".join(
        f'<th scope="col"><span title="{text(class_names[n])}">{_cut(class_names[n])}</span></th>' for n in shown
    )
    rows = []
    for label in shown:
        total = max(1, int(matrix[label].sum()))
        cells = (
            _cell(int(matrix[label, n]), total, label == n, class_names[label], class_names[n], few) for n in shown
        )
        name = class_names[label]
        rows.append(f'<tr><th scope="row" title="{text(name)}">{text(name)}</th>{"".join(cells)}</tr>')
    kind = "confusion few" if few else "confusion"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}"><table class="{kind}">'
        f"<caption>{text(caption)}</caption><thead><tr><td></td>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(count: int, total: int, hit: bool, label: str, predicted: str, few: bool) -> str:
    if not count:
        return f'<td class="none{" hit" if hit else ""}"></td>' if not hit else '<td class="hit">0</td>'
    told = f"{label} taken for {predicted}" if not hit else f"{label} recognized"
    share = f"<small>{percent(count / total, 0)}</small>" if few else ""
    return (
        f'<td{" class=hit" if hit else ""} style="--s:{count / total:.3f}" title="{text(told)}: {count} of {total}">'
        f"{count}{share}</td>"
    )


def reliability_svg(calibration: Mapping[str, Any]) -> str:
    """The reliability diagram: accuracy by confidence, the gap to what was promised, and the videos of each bin."""
    bins = calibration["bins"]
    width, height = _LEFT + _SIDE + 24, _TOP + _SIDE + _GAP + _COUNTS + 40
    most = max(of["videos"] for of in bins)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Reliability diagram: accuracy by confidence; the '
        f'expected calibration error is {percent(calibration["ece"])}. The numbers are in the table below.">',
        *_axes(),
    ]
    for of in bins:
        parts += _column(of, most)
    bottom = _TOP + _SIDE
    parts.append(
        f'<path d="M{_LEFT} {bottom}L{_LEFT + _SIDE} {_TOP}" stroke="var(--ink)" stroke-dasharray="2 5" '
        'stroke-linecap="round" fill="none"/>'
    )
    base = bottom + _GAP + _COUNTS
    parts.append(f'<path d="M{_LEFT} {base}h{_SIDE}" stroke="var(--quiet)"/>')
    parts.append(f'<text x="{_LEFT - 8}" y="{base - _COUNTS + 10}" text-anchor="end">{most}</text>')
    parts.append(f'<text x="{_LEFT - 8}" y="{base}" text-anchor="end">0</text>')
    parts.append(f'<text x="{_LEFT}" y="{bottom + _GAP - 8}">videos</text>')
    for share in (0, 0.5, 1):
        parts.append(
            f'<text x="{_LEFT + share * _SIDE}" y="{base + 16}" text-anchor="middle">{percent(share, 0)}</text>'
        )
    parts.append(f'<text x="{_LEFT + _SIDE / 2}" y="{base + 34}" text-anchor="middle">confidence</text></svg>')
    return "".join(parts)


def _axes() -> list[str]:
    lines = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _TOP + _SIDE * (1 - share)
        lines.append(f'<path d="M{_LEFT} {y}h{_SIDE}" stroke="var(--line)"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{percent(share, 0)}</text>')
    return lines


def _column(of: Mapping[str, Any], most: int) -> list[str]:
    if not of["videos"]:
        return []
    left, wide = _LEFT + _SIDE * of["low"] + 1, _SIDE * (of["high"] - of["low"]) - 2
    bottom, base = _TOP + _SIDE, _TOP + _SIDE + _GAP + _COUNTS
    accuracy, sure = (bottom - _SIDE * of[name] for name in ("accuracy", "confidence"))
    full, gap = max(accuracy, sure), abs(accuracy - sure)  # y grows downward
    color = "var(--wrong)" if sure < accuracy else "var(--right)"
    tall = max(1.0, _COUNTS * of["videos"] / most)
    told = f"{of['videos']} videos, {percent(of['confidence'])} sure, {percent(of['accuracy'])} right"
    return [
        f"<g><title>{told}</title>",
        f'<rect x="{left:.1f}" y="{full:.1f}" width="{wide:.1f}" height="{bottom - full:.1f}" fill="var(--right)"/>',
        f'<rect x="{left:.1f}" y="{full - gap:.1f}" width="{wide:.1f}" height="{gap:.1f}" fill="{color}" '
        f'fill-opacity=".32" stroke="{color}"/>',
        f'<rect x="{left:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="var(--quiet)"/></g>',
    ]


def _cut(name: str) -> str:
    return text(name if len(name) <= 22 else f"{name[:21]}…")


def text(value: str) -> str:
    """The text with all that means something in HTML escaped, for attributes too, and control characters shown."""
    return escape(printable(value), quote=True)
