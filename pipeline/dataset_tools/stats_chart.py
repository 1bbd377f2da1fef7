"""The class balance and the durations of a dataset as one small SVG, without a plotting library."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from xml.sax import saxutils

from numpy.typing import NDArray

from datamodules.storage.plain_text import printable

WIDTH, PLOT, LEFT, TOP = 760, 160, 56, 64
GAP = 96  # between the two plots, for the labels of the first
LABELED = 40  # with more classes the bars have tooltips alone
INK, QUIET, FILL = "#1f2937", "#9ca3af", "#3b6ea5"


def draw(title: str, classes: Sequence[tuple[str, int]], edges: NDArray[Any], counts: NDArray[Any]) -> str:
    """Two bar plots, one above the other: videos by class, videos by duration.

    Args:
        title: Above both.
        classes: Names and numbers of videos, the most frequent first.
        edges: (bins + 1,), in seconds.
        counts: int (bins,), videos in each bin.

    Returns:
        The SVG element, with a tooltip on every bar.
    """
    names = [name for name, _ in classes]
    labels = names if len(names) <= LABELED else []
    second = TOP + PLOT + GAP
    height = second + PLOT + 48
    durations = [f"{low:g} to {high:g} s" for low, high in pairwise(edges)]
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="14" font-weight="bold">{escape(title)}</text>',
        *_plot(TOP, "videos a class", names, [count for _, count in classes]),
        *_class_labels(TOP + PLOT, labels, len(names)),
        *_plot(second, "videos by duration in seconds", durations, counts.tolist()),
        *_edge_labels(second + PLOT, [f"{edge:g}" for edge in edges]),
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _plot(top: int, heading: str, names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Bars above a line, the largest count at the left."""
    most = max([*counts, 1])
    step = (WIDTH - LEFT - 16) / len(counts)
    gap = 0.15 * step if len(counts) <= LABELED else 0
    lines = [
        f'<text x="{LEFT}" y="{top - 10}">{escape(heading)}</text>',
        f'<text x="{LEFT - 6}" y="{top + 8}" text-anchor="end" fill="{QUIET}">{most}</text>',
        f'<text x="{LEFT - 6}" y="{top + PLOT}" text-anchor="end" fill="{QUIET}">0</text>',
    ]
    for number, (name, count) in enumerate(zip(names, counts, strict=True)):
        tall = PLOT * count / most
        lines.append(
            f'<rect x="{LEFT + number * step + gap:.1f}" y="{top + PLOT - tall:.1f}" width="{step - 2 * gap:.1f}" '
            f'height="{tall:.1f}" fill="{FILL}"><title>{escape(name)}: {count}</title></rect>'
        )
    lines.append(f'<path d="M{LEFT} {top + PLOT}H{WIDTH - 16}" stroke="{QUIET}"/>')
    return lines


def _class_labels(bottom: int, names: Sequence[str], total: int) -> list[str]:
    """Slanted names below their bars, cut where they are long."""
    step = (WIDTH - LEFT - 16) / total
    lines = []
    for number, name in enumerate(names):
        x, y = LEFT + (number + 0.5) * step + 4, bottom + 12
        text = name if len(name) <= 16 else f"{name[:15]}…"
        lines.append(
            f'<text x="{x:.1f}" y="{y}" text-anchor="end" transform="rotate(-40 {x:.1f} {y})">{escape(text)}</text>'
        )
    return lines


def _edge_labels(bottom: int, edges: Sequence[str]) -> list[str]:
    """The limits of the bins, below the lines between the bars."""
    step = (WIDTH - LEFT - 16) / (len(edges) - 1)
    return [
        f'<text x="{LEFT + number * step:.1f}" y="{bottom + 16}" text-anchor="middle" fill="{QUIET}">{edge}</text>'
        for number, edge in enumerate(edges)
    ]


def escape(text: str) -> str:
    """The text with all that means something in XML escaped, and control characters, which it may not hold, shown."""
    return saxutils.escape(printable(text))
