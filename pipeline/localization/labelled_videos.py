"""`read_labelled_videos`: the long videos of a list of labelled segments, each with its segments in seconds."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.list_format import ListOptions
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, VideoRecord
from datamodules.annotations.skipped_files import join_first_names
from datamodules.list_formats.read_annotations import read_segments
from datamodules.timed_lists.timelines import join_segments, timeline_in_seconds, timeline_labels
from pipeline.localization.timeline_options import TimelineOptions


class LabelledVideo(NamedTuple):
    """A video and its labelled segments.

    Attributes:
        path: path of the file.
        group: the source that it was cut from; "" for none.
        segments: class number, start and end in seconds of each segment, as listed; the end may be infinite.
    """

    path: str
    group: str
    segments: tuple[tuple[int, float, float], ...]


def read_labelled_videos(options: TimelineOptions, split: str, class_names: Sequence[str]) -> list[LabelledVideo]:
    """Reads the list, and groups its segments by video.

    Args:
        options: the list, and how it is read.
        split: the videos' split, where the list has splits.
        class_names: the network's classes.

    Raises:
        AnnotationError: the list is invalid, or has no such split.
        FileNotFoundError: a video is not there.
        ValueError: the list has a class that the network does not know.
    """
    records = [record for record in _read_list(options, split).records if record.split in (split, "")]
    known = {name: number for number, name in enumerate(class_names)}
    unknown = sorted({name for record in records for name in record.class_names} - known.keys() - {options.background})
    if unknown:
        raise ValueError(
            f"annotations: the network does not know {join_first_names(unknown)}, but {join_first_names(class_names)}; "
            "name the class without action with --background"
        )
    videos = join_segments(records)
    missing = [path for path in videos if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        named = join_first_names(missing)
        raise FileNotFoundError(f"videos: {len(missing)} of {len(videos)} files are not there: {named}")
    return [
        LabelledVideo(path, of_video[0].group, tuple(_segments(path, of_video, known, options.background)))
        for path, of_video in videos.items()
    ]


def _read_list(options: TimelineOptions, split: str) -> Annotations:
    """The list with every labelled segment by itself; a list without splits is all of the split."""
    lists = [Path(path) for path in options.annotations or ()]
    how = ListOptions(label_field=options.label_field, annotation_fps=options.annotation_fps)
    try:
        listed = read_segments(options.format, lists, options.videos, None, None, how)
    except AnnotationError as error:
        try:
            listed = read_segments(options.format, lists, options.videos, split, None, how)
        except AnnotationError:
            raise error from None
    splits = {record.split for record in listed.records}
    if listed.folds or not splits & {split, ""}:
        has = "folds" if listed.folds else join_first_names(sorted(splits))
        raise AnnotationError(f"split={split!r}: {lists[0]} has {has}; give one of its splits")
    return listed


def _segments(
    path: str, records: Sequence[VideoRecord], known: dict[str, int], background: str | None
) -> list[tuple[int, float, float]]:
    """The segments of a video in seconds, by class number, without those of the background."""
    labels = [label for label in timeline_labels(records) if label.label != background]
    return [(known[name], start, end) for name, start, end in timeline_in_seconds(path, labels)]
