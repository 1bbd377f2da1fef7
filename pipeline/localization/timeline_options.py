"""Options of `evaluate --timeline`."""

from dataclasses import dataclass, field
from pathlib import Path

from datamodules.list_formats.formats import AnnotationFormat
from datamodules.options import Options


@dataclass(frozen=True, kw_only=True)
class TimelineOptions(Options):
    """Timelines of long videos.

    Attributes:
        timeline: classify a clip around each second of long videos, as `classify --timeline`, and score it against
            labelled segments, in the place of `data`.
        annotations: list of labelled segments, in any format that `pack` reads.
        videos: folder of the videos; default: the folder of the list.
        format: format of the list, detected by default.
        label_field: which of several labels of a segment is its class, as for `pack`.
        annotation_fps: frames per second at which a list of Label Studio counted frames.
        background: class that means that nothing happens: it is not detected, and its segments do not count.
        smooth_s: seconds over which probabilities are averaged around each second, an odd number; 1 for no smoothing.
        thresholds: detections are the stretches in which a class reaches one of these probabilities; default: the
            stretches with the same best class, as `classify --timeline` prints them.
        max_overlap: of two detections of a class that overlap by more than this tIoU the less confident is left out.
        tiou: temporal intersections over union at which detections are scored.
    """

    timeline: bool = False
    annotations: list[Path] | None = None
    videos: Path | None = None
    format: AnnotationFormat = "auto"
    label_field: str | None = None
    annotation_fps: float | None = None
    background: str | None = None
    smooth_s: int = 1
    thresholds: list[float] | None = None
    max_overlap: float = 0.5
    tiou: list[float] = field(default_factory=lambda: [0.3, 0.4, 0.5, 0.6, 0.7])

    def check(self) -> None:
        """Raises ValueError for numbers out of range, no list, or such options without `timeline`."""
        if self.smooth_s < 1 or self.smooth_s % 2 == 0:
            raise ValueError(f"smooth_s={self.smooth_s}: must be an odd number of seconds")
        for name in ("thresholds", "tiou"):
            values = getattr(self, name)
            if values is not None and not (values and all(0 < value <= 1 for value in values)):
                raise ValueError(f"{name}={values}: must be numbers above 0 and at most 1")
        if not 0 <= self.max_overlap <= 1:
            raise ValueError(f"max_overlap={self.max_overlap}: must be from 0 to 1")
        if self.timeline and not self.annotations:
            raise ValueError("annotations: give the list of the labelled segments, --annotations LIST")
        if not self.timeline:
            for name in ("annotations", "videos", "background", "thresholds"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}={getattr(self, name)}: is for --timeline; add it, or leave this out")
