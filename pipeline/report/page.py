"""report.html: what was found, on one page that needs nothing else, for people with a phone and people with a wall."""

from collections.abc import Mapping
from typing import Any

from pipeline.report.charts import percent, scale, text
from pipeline.report.sections import Page, classes_section, confusion_section, gallery_section, reliability_section
from pipeline.report.stylesheet import STYLE

# Nothing is fetched, whatever text comes from the data.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def draw_page(page: Page) -> str:
    """The page as HTML; whatever text comes from the data is escaped."""
    title = text(page.title)
    head, _, tail = page.title.partition(" on ")
    rest = f" <span>on {text(tail)}</span>" if tail else ""
    body = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        f'<header><p class="eyebrow">Evaluation</p><h1>{text(head)}{rest}</h1>{_facts(page)}{_notes(page)}',
        f'<p class="lead">{_in_words(page)}</p></header><main>',
        _figures(page),
        confusion_section(page),
        classes_section(page),
        reliability_section(page),
        gallery_section(page),
        _origin(page),
        f"</main><footer>{_footer(page)}</footer></body></html>",
    ]
    return "\n".join(part for part in body if part) + "\n"


def _facts(page: Page) -> str:
    report, about = page.report, page.report["provenance"]
    facts = [
        f"{report['num_videos']:,} videos of {report['interval']['groups']:,} groups",
        f"{len(page.rows):,} classes",
        str(about.get("model", "")).rpartition(".")[2],
        f"{report['views']} views a video" if report.get("views") else "",
        about.get("decoder", ""),
    ]
    return f'<ul class="facts">{"".join(f"<li>{text(str(fact))}</li>" for fact in facts if fact)}</ul>'


def _notes(page: Page) -> str:
    """What must be known before any number is read."""
    overlap, missing = page.report["provenance"].get("overlap"), page.report["missing"]
    notes = []
    if overlap:
        told = [f"{overlap['videos']:,} of these {overlap['of']:,} videos"] if overlap["videos"] else []
        if overlap.get("content"):
            more = "more" if told else f"of these {overlap['of']:,} videos"
            told.append(f"what {overlap['content']:,} {more} show, under another name or in another dataset")
        if overlap["groups"]:
            told.append(f"{overlap['groups']:,} of their groups")
        notes.append(
            f"<strong>Not held out</strong><p>The training had seen {'; '.join(told)}. "
            "The accuracies say little about new video.</p>"
        )
    if missing:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        notes.append(
            f"<strong>{len(missing):,} of the videos could not be decoded</strong>"
            f"<p>They count as wrong: {text(shown)}.</p>"
        )
    notes += [f"<p>{text(note)}</p>" for note in page.report.get("notes", ())]
    return "".join(f'<div class="note" role="note">{note}</div>' for note in notes)


def _in_words(page: Page) -> str:
    """The findings in a few sentences."""
    report = page.report
    right = sum(row.correct for row in page.rows)
    said = [f"{right:,} of {report['num_videos']:,} videos are recognized."]
    judged = [row for row in page.rows if row.videos]
    worst = min(judged, key=lambda row: (row.accuracy or 0, -row.videos))
    if len(judged) > 1 and worst.correct < worst.videos:
        said.append(f"The hardest class is <b>{text(worst.name)}</b>, with {worst.correct:,} of {worst.videos:,}.")
    if report["hardest_pairs"]:
        pair = report["hardest_pairs"][0]
        times = "once" if pair["first_as_second"] == 1 else f"{pair['first_as_second']:,} times"
        said.append(
            f"The most common mistake takes <b>{text(pair['first'])}</b> for <b>{text(pair['second'])}</b>, {times}."
        )
    if report["calibration"]:
        sure, top1 = report["calibration"]["mean_confidence"], right / report["num_videos"]
        word = (
            "about as sure as it is right"
            if abs(sure - top1) < 0.03
            else ("too sure of itself" if sure > top1 else "less sure than it could be")
        )
        said.append(f"It is {word}: {percent(sure, 0)} on average.")
    return " ".join(said)


def _figures(page: Page) -> str:
    report, intervals = page.report, page.report["intervals"]
    names = {"top1": "Top-1 accuracy", "mean_class_accuracy": "Mean class accuracy", "top5": "Top-5 accuracy"}
    if len(page.rows) <= 5:
        del names["top5"]  # it is 1
    tiles = []
    for name, words in names.items():
        interval = intervals[name]
        chance = report["chance"] * (min(5, len(page.rows)) if name == "top5" else 1)
        told = f"95\u202f%: {100 * interval[0]:.1f} to {percent(interval[1])}" if interval else "one group: no interval"
        tiles.append(
            _tile(words, report[name], f"{told}<br>chance {percent(chance)}", scale(report[name], interval, chance))
        )
    if report["calibration"]:
        ece = report["calibration"]["ece"]
        told = "mean gap between confidence and accuracy; 0 is best"
        tiles.append(_tile("Calibration error", ece, told, scale(ece, None, None)))
    return f'<section aria-label="Accuracies"><dl class="figures">{"".join(tiles)}</dl></section>'


def _tile(words: str, value: float, told: str, drawing: str) -> str:
    number = f'<span class="value">{100 * value:.1f}<small>\u202f%</small></span>'
    return f'<div class="figure card"><dt>{words}</dt><dd>{number}{drawing}<span class="range">{told}</span></dd></div>'


def _origin(page: Page) -> str:
    about = {name: value for name, value in page.report["provenance"].items() if name != "classes"}
    return (
        '<section><h2>Where this comes from</h2><div class="card">'
        f"{_list({name: value for name, value in about.items() if not isinstance(value, Mapping)})}"
        + "".join(
            f"<details><summary>{text(name)}</summary>{_list(value)}</details>"
            for name, value in about.items()
            if isinstance(value, Mapping) and value
        )
        + "</div></section>"
    )


def _list(named: Mapping[str, Any]) -> str:
    rows = (
        f"<dt>{text(name.replace('_', ' '))}</dt><dd>{text(_plainly(value))}</dd>"
        for name, value in named.items()
        if value not in (None, [], "")
    )
    return f'<dl class="origin">{"".join(rows)}</dl>'


def _plainly(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:20]))
        return f"{shown} and {len(value) - 20} more" if len(value) > 20 else shown
    return str(value)


def _footer(page: Page) -> str:
    about = page.report["interval"]
    return (
        f"<p>Intervals of the accuracies: percentiles of {about['draws']:,} samples of {about['groups']:,} groups "
        f"out of {about['groups']:,} (seed {about['seed']}), because videos cut from one source are alike. Where all "
        "videos are right, or all wrong, the exact binomial interval of as many trials as groups.</p>"
        "<p>Mean class accuracy leaves out classes without a video. The page needs no network; the same figures are in "
        "report.json and per_class.csv, every score in predictions.parquet.</p>"
    )
