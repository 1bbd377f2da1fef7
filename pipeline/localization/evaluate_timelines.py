"""Evaluation of timelines: the classes of each second of long videos, scored against labelled segments."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.local_files import file_sha256
from datamodules.storage.plain_text import to_json
from datamodules.video.decoding import describe_decoder
from pipeline.classify.network_choice import NetworkOptions, open_network
from pipeline.classify.video_input import Preprocessing
from pipeline.classify.video_scores import VideoScorer
from pipeline.cli.terminal import print_text
from pipeline.inference.output_paths import checkpoint_title, refuse_unwritable_folder
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.provenance import library_versions
from pipeline.inference.trained_checkpoint import TrainedCheckpoint
from pipeline.localization.detections import (
    Detection,
    best_class_detections,
    smooth_seconds,
    threshold_detections,
)
from pipeline.localization.labelled_videos import LabelledVideo, read_labelled_videos
from pipeline.localization.timeline_options import TimelineOptions
from pipeline.localization.timeline_page import draw_timeline_page
from pipeline.localization.timeline_scores import (
    TIMELINES_NAME,
    Timeline,
    score_videos,
    timeline_schema,
    timelines_of,
)
from pipeline.metrics.accuracy import write_report
from pipeline.metrics.confidence_intervals import number_groups
from pipeline.metrics.predictions import REPORT_NAME
from pipeline.metrics.temporal_detection import (
    TimedSegments,
    describe_thresholds,
    detection_report,
    frame_average_precision,
    frame_labels,
    frame_moments,
)

DETECTIONS_NAME = "detections.json"
PAGE_NAME = "report.html"
_NOTE = "Whether the training saw these videos is not checked for files outside of a packed dataset."


def evaluate_timelines(
    network: NetworkOptions, options: TimelineOptions, split: str, folder: Path, decoder: str, seed: int
) -> dict[str, Any]:
    """Scores each second of long videos, and the segments found in them.

    Writes to `folder`: timelines.parquet, the scores of each second; detections.json, in the form of ActivityNet's
    results; report.json; and report.html, labelled segments above detections. A stopped evaluation goes on when the
    same command is run again.

    Args:
        network: the network.
        options: the list, how detections are made, and the tIoUs.
        split: the videos' split, where the list has splits.
        folder: folder for the results.
        decoder: auto, pyav, decord or torchcodec.
        seed: seed of the bootstrap samples of the confidence intervals.

    Returns:
        The content of report.json.

    Raises:
        AnnotationError: the list is invalid.
        FileNotFoundError: the checkpoint or a video does not exist.
        ValueError: the network and the list do not fit together, or `folder` is not writable.
        DecodeError: a video cannot be decoded; finished videos are kept.
    """
    began = time.monotonic()
    refuse_unwritable_folder(folder)
    trained, model, preprocessing = open_network(network, 1, decoder)
    if preprocessing.shape.segments:
        raise ValueError("timeline: the network was trained on frames of the whole video, and knows no seconds")
    names = list(model.class_names)
    if options.background is not None and options.background not in names:
        raise ValueError(f"background={options.background!r}: is no class of the network")
    videos = read_labelled_videos(options, split, names)
    provenance = _provenance(trained, preprocessing, options, split, videos)
    schema = timeline_schema(len(names), provenance)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [video.path for video in videos]
    tables = list(score_videos(paths, preprocessing, VideoScorer(model), folder / TIMELINES_NAME, schema))
    table = pa.concat_tables(tables).cast(schema)
    with write_atomically(folder / TIMELINES_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    timelines = timelines_of(table, paths)
    found = [_detect(timeline, options, names) for timeline in timelines]
    report = _report(videos, timelines, found, names, options, seed)
    report |= {
        "notes": [_NOTE],
        "seconds": round(time.monotonic() - began, 1),
        "timelines_sha256": file_sha256(folder / TIMELINES_NAME),
        "provenance": provenance,
    }
    _write_detections(folder / DETECTIONS_NAME, paths, found, names)
    with write_atomically(folder / PAGE_NAME) as temporary:
        title = f"{checkpoint_title(trained.path)} on {Path(paths[0]).parent.name}, {split}"
        temporary.write_text(draw_timeline_page(title, report, videos, timelines, found, names), encoding="utf-8")
    write_report(folder / REPORT_NAME, report)
    remove_parts(folder / TIMELINES_NAME)
    print_text(_describe(report, folder))
    return report


def _provenance(
    trained: TrainedCheckpoint,
    preprocessing: Preprocessing,
    options: TimelineOptions,
    split: str,
    videos: Sequence[LabelledVideo],
) -> dict[str, Any]:
    """All that the scores of the seconds depend on, as plain data."""
    return {
        "checkpoint": str(trained.path),
        "checkpoint_sha256": trained.sha256,
        **({} if trained.program is None else {"program": trained.program}),
        "annotations": [str(path) for path in options.annotations or ()],
        "split": split,
        "sampling": {name: getattr(preprocessing.shape, name) for name in ("num_frames", "frame_interval", "fps")},
        "decoder": describe_decoder(preprocessing.decoder),
        "scores": "probability",
        "num_videos": len(videos),
        "versions": library_versions(),
    }


def _detect(timeline: Timeline, options: TimelineOptions, class_names: Sequence[str]) -> list[Detection]:
    """The detections in a video, without those of the background."""
    scores = smooth_seconds(timeline.scores, options.smooth_s)
    if options.thresholds is None:
        found = best_class_detections(scores, timeline.duration_s)
    else:
        found = threshold_detections(scores, timeline.duration_s, options.thresholds, options.max_overlap)
    return [each for each in found if class_names[each[0]] != options.background]


def _report(
    videos: Sequence[LabelledVideo],
    timelines: Sequence[Timeline],
    found: Sequence[Sequence[Detection]],
    class_names: Sequence[str],
    options: TimelineOptions,
    seed: int,
) -> dict[str, Any]:
    """The figures: mean average precision by tIoU, and of frames."""
    truth = [
        (number, name, start, min(end, timelines[number].duration_s), 0.0)
        for number, video in enumerate(videos)
        for name, start, end in video.segments
    ]
    detections = [(number, *detection) for number, of_video in enumerate(found) for detection in of_video]
    groups = number_groups([video.group for video in videos], [video.path for video in videos])
    report = detection_report(
        TimedSegments.from_rows(truth), TimedSegments.from_rows(detections), class_names, groups, options.tiou, seed
    )
    scores, labels = [], []
    for video, timeline in zip(videos, timelines, strict=True):
        moments = frame_moments(timeline.duration_s)
        seconds = np.minimum(moments.astype(np.int64), len(timeline.scores) - 1)
        scores.append(smooth_seconds(timeline.scores, options.smooth_s)[seconds])
        labels.append(frame_labels(moments, video.segments, len(class_names)))
    return {
        "num_videos": len(videos),
        "num_segments": len(truth),
        "num_detections": len(detections),
        "duration_s": round(sum(timeline.duration_s for timeline in timelines), 3),
        **report,
        "frames": frame_average_precision(np.concatenate(scores).astype(np.float64), np.concatenate(labels)),
        "detections": {
            "smooth_s": options.smooth_s,
            "thresholds": options.thresholds,
            "max_overlap": options.max_overlap,
            "background": options.background,
        },
        "class_names": list(class_names),
    }


def _write_detections(
    path: Path, paths: Sequence[str], found: Sequence[Sequence[Detection]], class_names: Sequence[str]
) -> None:
    """Writes the detections as a submission to ActivityNet: by the video's name without suffix, the best first."""
    results = {
        Path(video).stem: [
            {"label": class_names[number], "score": confidence, "segment": [start, end]}
            for number, start, end, confidence in sorted(of_video, key=lambda each: -each[3])
        ]
        for video, of_video in zip(paths, found, strict=True)
    }
    with write_atomically(path) as temporary:
        temporary.write_text(to_json({"version": "VERSION 1.3", "results": results}), encoding="utf-8")


def _describe(report: dict[str, Any], folder: Path) -> str:
    interval = report["interval"]
    limits = "" if interval is None else f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return (
        f"{report['num_detections']} detections, {report['num_segments']} labelled segments in {report['num_videos']} "
        f"videos of {report['duration_s']:.0f} s\n"
        f"mAP by tIoU  {describe_thresholds(report)}\n"
        f"mAP, mean    {100 * report['mean_average_precision']:.1f} %{limits}\n"
        f"mAP, frames  {100 * report['frames']['mean_average_precision']:.1f} %\n"
        f"wrote {folder / PAGE_NAME}"
    )
