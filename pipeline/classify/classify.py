"""`python -m pipeline classify`: classification of video files, as a whole or for each second, and of live streams."""

import json as json_lines
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.annotations.video_files import VIDEO_SUFFIXES
from datamodules.storage.plain_text import printable
from datamodules.video.decoding import DecodeError, count_other_streams, describe_decoder
from lightning_modules.tasks.label_task import Task
from pipeline.classify.annotate_video import annotate_video
from pipeline.classify.class_choice import ClassChoice
from pipeline.classify.class_export import ClassExportOptions, export_classes
from pipeline.classify.frame_text import describe_missing, drawable_texts
from pipeline.classify.live_stream import classify_live
from pipeline.classify.network_choice import NetworkOptions, open_network
from pipeline.classify.packed_videos import PackedVideo, VideoInput, find_inputs, open_input
from pipeline.classify.timeline import format_clock, score_seconds, shift_times
from pipeline.classify.video_input import (
    FORWARD_BYTES,
    DecodedVideo,
    Preprocessing,
    VideoClips,
    VideoFileOptions,
    read_ahead,
)
from pipeline.classify.video_scores import VideoScorer
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.inference.output_paths import refuse_unwritable_file, refuse_unwritable_folder
from pipeline.live_streams.live_options import LiveOptions
from pipeline.processes.compute_device import loader_workers


@dataclass(frozen=True)
class ClassifyOptions(
    NetworkOptions, LiveOptions, ClassExportOptions, VideoFileOptions
):  # the last base's fields come first
    """Options of `classify`.

    Attributes:
        top: number of classes to print for a video.
        threshold: for networks of several labels a video: print all classes whose probability is at or above this, in
            place of the best ones; with `timeline` the stretches of seconds in which each class reaches it.
        json: print one JSON object per line and video instead: video, its path; top, a list of class and probability,
            the best first; decoder, its name and version; other_streams, the number of further video streams in the
            file, if any; or instead of top error, why it cannot be decoded. With `threshold` also labels, the classes
            at or above it, in the form of top.
            With `timeline` also timeline, the seconds, each with start, end and top, and stretches of seconds with the
            same best class, each with start, end, class and its mean probability; with `annotate` those and annotated,
            the copy's path. Times are in seconds, to the millisecond; probabilities in [0, 1], to six digits.
        timeline: classify a clip around each second, for videos of any length; the video's probabilities are the mean
            over its seconds.
        annotate: mp4 file to write, a copy of the video with the best classes of each second drawn on it, without
            sound; for several videos a folder. Classifies each second, as `timeline`. Names are drawn in fonts of this
            machine; letters that no font has are reported.
    """

    top: int = 5
    threshold: float | None = None
    json: bool = False
    timeline: bool = False
    annotate: Path | None = None

    def check(self) -> None:
        """Raises ValueError if top is less than 1, or threshold is not in [0, 1]."""
        self.require_at_least(1, "top")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: must be from 0 to 1")
        for name in ("threshold", "json", "timeline", "annotate"):
            value = getattr(self, name)
            if self.out is not None and value is not None and value is not False:
                raise ValueError(f"{name}={value}: is for what is printed; leave it out, or leave out --out")
        if self.live:
            self._check_live()

    def _check_live(self) -> None:
        for name in ("out", "timeline", "annotate"):
            value = getattr(self, name)
            if value is not None and value is not False:
                raise ValueError(f"{name}={value}: is for video files; leave it out, or leave out --live")
        if self.decoder not in ("auto", "pyav"):
            raise ValueError(f"decoder={self.decoder!r}: live streams are read with pyav; leave it out")
        if len(self.videos) != 1:
            raise ValueError(f"live: {len(self.videos)} sources are given; run a command for each")


def classify(options: ClassifyOptions) -> None:
    """Classify video files: print the most probable classes of each file, or of each second, or write scores to a file.

    With `live` the windows of a stream instead.

    A checkpoint is given `num_clips` clips spread over a video, as in its training; a published I3D the whole video at
    25 frames a second, as its authors tested it. Probabilities are averaged over clips. As many files as fit share a
    forward pass.

    Args:
        options: videos, network and output.

    Raises:
        FileNotFoundError: a video or the checkpoint does not exist.
        ValueError: not just one of a checkpoint, weights and a model; a linear classifier of another network; or some
            videos could not be decoded, raised after all others were classified (with `out` they are listed instead).
    """
    timeline = options.timeline or options.annotate is not None
    paths = [] if options.out is not None or options.live else list(find_inputs(options.videos))
    annotated = annotated_paths(paths, options.annotate)
    decoder = "pyav" if options.live else options.decoder
    trained, model, preprocessing = open_network(options, options.num_clips, decoder)
    refuse_for_network(model.task, preprocessing, timeline, options.threshold)
    choice = ClassChoice(model.class_names, options.top, options.threshold)
    if options.live:
        classify_live(options.videos[0], options, model, preprocessing, choice)
        return
    if options.out is not None:
        export_classes(options.videos, trained, model, preprocessing, options.top, options)
        return
    scorer = VideoScorer(model)
    if timeline:
        results = _classify_seconds(paths, annotated, preprocessing, scorer, choice)
    else:
        results = _classify_videos(paths, preprocessing, scorer, choice)
    _print_results(results, len(paths), describe_decoder(preprocessing.decoder), options.json)


def refuse_for_network(task: Task, preprocessing: Preprocessing, timeline: bool, threshold: float | None) -> None:
    """Raises ValueError where a timeline, or a threshold, is asked of a network that has none."""
    if timeline and preprocessing.shape.segments:
        raise ValueError("timeline: the network was trained on frames of the whole video, and knows no seconds")
    if threshold is not None and task == "single_label":
        raise ValueError(
            f"threshold={threshold}: the network gives each video one class, whose probabilities sum to 1; leave it "
            "out, or give --top"
        )


def annotated_paths(paths: Sequence[VideoInput], annotate: Path | None) -> list[Path | None]:
    """Returns the path of the annotated copy of each video; None for no copy.

    Raises:
        ValueError: not an mp4 file, one file for several videos, two videos with the same copy, a copy that would
            replace its video, or an unwritable path.
    """
    if annotate is None:
        return [None] * len(paths)
    if annotate.suffix == ".mp4" and len(paths) > 1:
        raise ValueError(f"annotate={str(annotate)!r}: {len(paths)} videos cannot go into one file; give a folder")
    if annotate.suffix != ".mp4" and annotate.suffix.lower() in VIDEO_SUFFIXES and not annotate.is_dir():
        raise ValueError(f"annotate={str(annotate)!r}: copies are mp4 files; end the name in .mp4, or give a folder")
    copies = [annotate] if annotate.suffix == ".mp4" else [annotate / f"{path.stem}.mp4" for path in paths]
    repeated = [copy for copy in copies if copies.count(copy) > 1]
    if repeated:
        raise ValueError(f"annotate={str(annotate)!r}: two of the videos are called {repeated[0].stem}; rename one")
    for path, copy in zip(paths, copies, strict=True):
        if os.path.realpath(copy) == os.path.realpath(str(path)):
            raise ValueError(f"annotate={str(annotate)!r}: would replace the video itself; give another name")
        if copy.is_dir():
            raise ValueError(f"annotate={str(annotate)!r}: {copy} is a folder; give another name")
    (refuse_unwritable_file if annotate.suffix == ".mp4" else refuse_unwritable_folder)(annotate, "annotate")
    return list(copies)


def _classify_videos(
    paths: Sequence[VideoInput], preprocessing: Preprocessing, scorer: VideoScorer, choice: ClassChoice
) -> Iterator[dict[str, Any]]:
    for group in _group_by_size(read_ahead(paths, preprocessing, loader_workers(scorer.device, 1))):
        readable = [video.clips for video in group if isinstance(video.clips, Tensor)]
        scores = iter(scorer(readable) if readable else ())
        for video in group:
            try:
                if isinstance(video.clips, VideoClips):
                    with _progress_display(len(paths) == 1, "clips")(len(video.clips.frame_numbers)) as count:
                        result = choice.describe(scorer.score_pieces(video.clips.pieces(count)))
                else:
                    result = {"error": video.error} if video.clips is None else choice.describe(next(scores))
            except DecodeError as error:
                result = {"error": str(error)}
            yield {"video": str(video.path)} | result


def _group_by_size(files: Iterable[DecodedVideo]) -> Iterator[list[DecodedVideo]]:
    """Groups files whose clips fit into one forward pass; a long video, not decoded yet, is a group of its own."""
    group: list[DecodedVideo] = []
    group_bytes = 0
    for video in files:
        is_long = isinstance(video.clips, VideoClips)
        video_bytes = FORWARD_BYTES if is_long else 4 * video.clips.numel() if isinstance(video.clips, Tensor) else 0
        if group and group_bytes + video_bytes > FORWARD_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append(video)
        group_bytes += video_bytes
    if group:
        yield group


def _classify_seconds(
    paths: Sequence[VideoInput],
    copies: Sequence[Path | None],
    preprocessing: Preprocessing,
    scorer: VideoScorer,
    choice: ClassChoice,
) -> Iterator[dict[str, Any]]:
    is_single = len(paths) == 1
    labels = drawable_texts(choice.names) if any(copies) else []
    if note := describe_missing(labels):
        print_text(f"annotate: {note}", file=sys.stderr)
    for path, copy in zip(paths, copies, strict=True):
        result: dict[str, Any] = {"video": str(path)}
        try:
            source = preprocessing.open_frames(path)
            seconds, duration_s = score_seconds(preprocessing, source, scorer, _progress_display(is_single, "clips"))
            result |= choice.describe_timeline(seconds, duration_s)
            if isinstance(path, PackedVideo) and (times := path.source_times()) is not None:
                result["source"], start_s = times
                result |= {name: shift_times(result[name], start_s) for name in ("stretches", "timeline")}
            if copy is not None:
                annotate_video(open_input(path), copy, seconds, labels, _progress_display(is_single, "frames drawn"))
                result["annotated"] = str(copy)
        except DecodeError as error:
            result = {"video": str(path), "error": str(error)}
        yield result


def _progress_display(is_shown: bool, unit: str) -> Callable[[int], AbstractContextManager[Callable[[], None]]]:
    """Progress display, which is shown either within a single video or over several videos."""
    return lambda total: count_progress("classify", total, unit) if is_shown else nullcontext(lambda: None)


def _print_results(results: Iterable[dict[str, Any]], total: int, decoder: str, json: bool) -> None:
    """Prints each outcome as soon as it is known; raises ValueError at the end if videos failed."""
    failed = []
    with _progress_display(total > 1, "videos")(total) as count:
        for result in results:
            result["decoder"] = decoder
            is_file = os.path.isfile(result["video"])  # noqa: PTH113
            if is_file and "error" not in result and (others := count_other_streams(result["video"])):
                result["other_streams"] = others
            print_text(json_lines.dumps(result) if json else format_result(result))
            if "error" in result:
                failed.append(f"{result['video']} ({result['error']})")
            count()
    if failed:
        raise ValueError(f"{len(failed)} of {total} videos could not be decoded: {'; '.join(failed)}")


def format_result(result: dict[str, Any]) -> str:
    """Formats the outcome of a video as several lines of text."""
    chosen = result.get("labels", result.get("top", ()))
    lines = [f"  {entry['probability']:6.1%}  {entry['class']}" for entry in chosen]
    if not lines and "labels" in result:
        lines.append("  no class reaches the threshold")
    parts = result.get("stretches", ())
    width = max((len(format_clock(part["end"])) for part in parts), default=0)
    for part in parts:
        span = f"{format_clock(part['start']):>{width}} to {format_clock(part['end'] + 0.999):>{width}}"
        lines.append(f"  {span}  {part['probability']:6.1%}  {part['class']}")
    if "source" in result:
        lines.append(f"  times of {printable(result['source'])}")
    if "other_streams" in result:
        lines.append(f"  of a file with {1 + result['other_streams']} video streams, of which one was looked at")
    if "annotated" in result:
        lines.append(f"  wrote {printable(result['annotated'])}")
    return "\n".join([printable(result["video"]), *(lines or [f"  cannot be decoded: {printable(result['error'])}"])])
