"""`ClassChoice`: which classes of a video's scores are reported: the best, or all at or above a threshold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.classify.timeline import runs_of_true, second_end, segments, top_classes


class ClassChoice(NamedTuple):
    """The choice of the classes to report.

    Attributes:
        names: the K class names.
        top: number of best classes.
        threshold: probability from which on a class counts as a label of the video, in [0, 1]; None for no labels.
    """

    names: Sequence[str]
    top: int
    threshold: float | None = None

    def describe(self, scores: NDArray[Any]) -> dict[str, Any]:
        """The classes of scores, float (K,), as plain data: `top`, and with a threshold `labels`, the best first.

        Each is a list of class and probability; labels are the classes at or above the threshold, which may be none.
        """
        chosen = {"top": top_classes(scores, self.names, self.top)}
        if self.threshold is not None:
            count = int((np.asarray(scores) >= self.threshold).sum())
            chosen["labels"] = top_classes(scores, self.names, count)
        return chosen

    def describe_timeline(self, second_scores: NDArray[np.float32], duration_s: float) -> dict[str, Any]:
        """The classes of a video by its seconds: those of the mean over them, stretches, and timeline."""
        return {
            **self.describe(second_scores.mean(axis=0)),
            "stretches": self.describe_stretches(second_scores, duration_s),
            "timeline": self.describe_seconds(second_scores, duration_s),
        }

    def describe_seconds(self, second_scores: NDArray[np.float32], duration_s: float) -> list[dict[str, Any]]:
        """The timeline as plain data: for each second start and end, in seconds, and its classes as in `describe`.

        Args:
            second_scores: float (S, K), the class probabilities of each second.
            duration_s: duration of the video, in seconds.
        """
        return [
            {"start": number, "end": second_end(number, duration_s), **self.describe(scores)}
            for number, scores in enumerate(second_scores)
        ]

    def describe_stretches(self, second_scores: NDArray[np.float32], duration_s: float) -> list[dict[str, Any]]:
        """Stretches of seconds with the same best class; with a threshold those in which a class reaches it, by start.

        Returns:
            As `pipeline.classify.timeline.segments`; with a threshold stretches of different classes may overlap.
        """
        if self.threshold is None:
            return segments(second_scores, duration_s, self.names)
        stretches = []
        for label, name in enumerate(self.names):
            for first, last in runs_of_true(second_scores[:, label] >= self.threshold):
                mean = float(second_scores[first:last, label].mean())
                end = second_end(last - 1, duration_s)
                stretches.append({"start": first, "end": end, "class": name, "probability": round(mean, 6)})
        return sorted(stretches, key=lambda stretch: stretch["start"])  # classes in their order where equal
