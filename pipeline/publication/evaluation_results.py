"""Results of `evaluate` for a model card: figures with their confidence intervals, and how they were computed."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.metrics.accuracy import headline_figures
from pipeline.metrics.predictions import REPORT_NAME

_METRICS = {
    "top1": "accuracy",
    "mean_average_precision": "mean_average_precision",
}  # names on the Hub


class Figure(NamedTuple):
    """A figure of a result.

    Attributes:
        name: its name in report.json, such as `top1`.
        heading: its name in tables, such as `top-1`.
        value: a fraction in [0, 1].
        interval: confidence interval, fractions; None if there is none.
    """

    name: str
    heading: str
    value: float
    interval: tuple[float, float] | None

    @property
    def metric_type(self) -> str:
        """The metric's identifier in a model card's metadata."""
        return _METRICS.get(self.name, self.name)


class EvaluationResults(NamedTuple):
    """A report.json of `evaluate`.

    Attributes:
        figures: the figures that tables show.
        num_videos: number of videos.
        chance: the figure of a network that knows nothing, a fraction; None if the report has none.
        level: level of the intervals, such as 0.95.
        drawn: what the bootstrap drew, such as `groups`, and their number.
        provenance: how the scores were computed: dataset, split, sampling, decoder, precision, versions.
        views: views a video; None if that differs from video to video.
        missing: number of videos that could not be decoded, which count as wrong.
        notes: sentences on top of the report.
    """

    figures: Sequence[Figure]
    num_videos: int
    chance: float | None
    level: float
    drawn: tuple[str, int]
    provenance: Mapping[str, Any]
    views: int | None
    missing: int
    notes: Sequence[str]


def read_results(path: Path, weights: Collection[str]) -> EvaluationResults:
    """Reads the results of an evaluation.

    Args:
        path: a folder that `evaluate` wrote, or its report.json.
        weights: digests of the files that the published weights were in: a report of other weights is refused.

    Raises:
        FileNotFoundError: no such report.
        ValueError: not a report of `evaluate`, or one of another checkpoint.
    """
    file = path / REPORT_NAME if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"report={str(path)!r}: no {REPORT_NAME} there; give a folder that `evaluate` wrote")
    advice = f"give the folder of `evaluate --checkpoint` for one checkpoint, with its {REPORT_NAME}"
    try:
        report = json.loads(file.read_text("utf-8"))
        provenance = report["provenance"]
        scored, interval = provenance["checkpoint_sha256"], report["interval"]
        figures = [_figure(report, name, heading) for name, heading in headline_figures(report).items()]
        results = EvaluationResults(
            figures,
            int(report["num_videos"]),
            report.get("chance"),
            float(interval["level"]),
            (str(interval["of"]), int(interval["groups"])),
            provenance,
            report.get("views"),
            len(report["missing"]),
            [str(note) for note in report.get("notes", ())],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"report={str(path)!r}: is not a report of one network ({error!r}); {advice}") from None
    if scored not in weights:
        raise ValueError(
            f"report={str(path)!r}: is of another checkpoint ({str(scored)[:12]}, not {sorted(weights)[0][:12]}); "
            f"{advice}"
        )
    return results


def _figure(report: Mapping[str, Any], name: str, heading: str) -> Figure:
    interval = report["intervals"].get(name)
    return Figure(name, heading, float(report[name]), None if interval is None else (interval[0], interval[1]))


def describe_rate(fps: float | None, frame_interval: int) -> str:
    """Which frames of a video make a clip, in words."""
    if fps:
        return f"{fps:g} a second"
    return "one after the other" if frame_interval == 1 else f"{frame_interval} source frames apart"


def describe_protocol(results: EvaluationResults) -> str:
    """How the figures were computed, in a sentence."""
    provenance, sampling = results.provenance, results.provenance["sampling"]
    if "max_frames" in sampling:
        clips = "each video as a whole"
    elif sampling["clip_step"] is not None:
        clips = f"clips {sampling['clip_step']} frames apart"
    else:
        clips = f"{sampling['num_clips']} evenly spread clips"
    crops = {1: "the center crop", 3: "three crops along the longer side"}[sampling["num_crops"]]
    rate = describe_rate(sampling["fps"], sampling["frame_interval"])
    return (
        f"{clips} of {sampling['num_frames']} frames, {rate}, {crops} of {sampling['crop_size']} pixels of each; "
        f"{provenance.get('average', 'probabilities')} averaged over a video's views; {provenance['decoder']}, "
        f"{provenance['precision']} on {provenance['device']}"
    )
