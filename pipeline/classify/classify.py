"""`python -m pipeline classify`: classification of video files, as a whole or for each second."""

import json as json_lines
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from datamodules.annotations.video_files import VIDEO_SUFFIXES
from datamodules.loading.loader_options import DecoderOptions
from datamodules.storage.plain_text import printable
from datamodules.video.decoding import DecodeError, count_other_streams, describe_decoder
from lightning_modules import VideoClassifier, VideoNetwork
from lightning_modules.weights.download import find_published
from pipeline.classify.annotate_video import annotate_video
from pipeline.classify.frame_text import describe_missing, drawable_texts
from pipeline.classify.linear_head import LinearHead, attach_head
from pipeline.classify.timeline import as_clock, by_second, score_seconds, segments, top_classes
from pipeline.classify.video_input import (
    FORWARD_BYTES,
    DecodedVideo,
    Preprocessing,
    VideoClips,
    VideoFileOptions,
    find_videos,
    open_source,
    preprocessing_of,
    read_ahead,
)
from pipeline.classify.video_scores import VideoScorer
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.inference.inference_options import CheckpointOptions
from pipeline.inference.output_paths import refuse_unwritable_file, refuse_unwritable_folder
from pipeline.inference.trained_checkpoint import open_checkpoint

_THREADS = 2


@dataclass(frozen=True)
class ClassifyOptions(CheckpointOptions, DecoderOptions, VideoFileOptions):  # the fields of the last base come first
    """Options of `classify`.

    Attributes:
        checkpoint: file that `fit` wrote.
        weights: instead of a checkpoint: a name of `python -m pipeline weights list`.
        linear: weights.safetensors of `linear`, fitted on features of this checkpoint, to use instead of the
            network's own classifier: clips are those of the export, regardless of `num_clips`; the probabilities of an
            SVM are the softmax of its margins.
        top: number of classes to print for a video.
        json: print one JSON object per line and video instead: video, its path; top, a list of class and probability,
            the best first; decoder, its name and version; other_streams, the number of further video streams in the
            file, if any; or instead of top error, why it cannot be decoded.
            With `timeline` also timeline, the seconds, each with start, end and top, and stretches of seconds with the
            same best class, each with start, end, class and its mean probability; with `annotate` those and annotated,
            the copy's path. Times are in seconds, to the millisecond; probabilities in [0, 1], to six digits.
        timeline: classify a clip around each second, for videos of any length; the video's probabilities are the mean
            over its seconds.
        annotate: mp4 file to write, a copy of the video with the best classes of each second drawn on it, without
            sound; for several videos a folder. Classifies each second, as `timeline`. Names are drawn in fonts of this
            machine; letters that no font has are reported.
    """

    checkpoint: Path | None = None
    weights: str | None = None
    linear: Path | None = None
    top: int = 5
    json: bool = False
    timeline: bool = False
    annotate: Path | None = None

    def check(self) -> None:
        """Raises ValueError if top is less than 1."""
        self.require_at_least(1, "top")


def classify(options: ClassifyOptions) -> None:
    """Classify video files: print the most probable classes of each file, or of each second.

    A checkpoint is given `num_clips` clips spread over a video, as in its training; a published I3D the whole video at
    25 frames a second, as its authors tested it. Probabilities are averaged over clips. As many files as fit share a
    forward pass.

    Args:
        options: videos, network and output.

    Raises:
        FileNotFoundError: a video or the checkpoint does not exist.
        ValueError: neither a checkpoint nor weights, or both; a linear classifier of another network; or some videos
            could not be decoded, raised after all others were classified.
    """
    checkpoint, weights, timeline = (
        options.checkpoint,
        options.weights,
        options.timeline or options.annotate is not None,
    )
    paths = list(find_videos(options.videos))
    if (checkpoint is None) == (weights is None):
        raise ValueError("give either --checkpoint, a file, or --weights, a name of `python -m pipeline weights list`")
    if weights is not None and Path(weights).exists():
        raise ValueError(f"weights={weights}: is a file, not a published name; give it as --checkpoint {weights}")
    copies = copies_of(paths, options.annotate)
    kind = VideoClassifier if options.linear is None else VideoNetwork
    trained = open_checkpoint(checkpoint or Path(find_published(str(weights)).name), options.allow, kind)
    if options.linear is None:
        model: VideoClassifier | LinearHead = cast(VideoClassifier, trained.model)
        whole = weights is not None and trained.clips.get("fps") is not None
        preprocessing = preprocessing_of(trained, options.num_clips, options.decoder, whole)
    else:
        model, preprocessing = attach_head(options.linear, trained, options.decoder)
    if timeline and preprocessing.shape.segments:
        raise ValueError("timeline: the network was trained on frames of the whole video, and knows no seconds")
    score = VideoScorer(model)
    if timeline:
        outcomes = _by_second(paths, copies, preprocessing, score, model.class_names, options.top)
    else:
        outcomes = _by_video(paths, preprocessing, score, model.class_names, options.top)
    _tell(outcomes, len(paths), describe_decoder(preprocessing.decoder), options.json)


def copies_of(paths: Sequence[Path], annotate: Path | None) -> list[Path | None]:
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
    twice = [copy for copy in copies if copies.count(copy) > 1]
    if twice:
        raise ValueError(f"annotate={str(annotate)!r}: two of the videos are called {twice[0].stem}; rename one")
    for path, copy in zip(paths, copies, strict=True):
        if os.path.realpath(copy) == os.path.realpath(path):
            raise ValueError(f"annotate={str(annotate)!r}: would replace the video itself; give another name")
        if copy.is_dir():
            raise ValueError(f"annotate={str(annotate)!r}: {copy} is a folder; give another name")
    (refuse_unwritable_file if annotate.suffix == ".mp4" else refuse_unwritable_folder)(annotate, "annotate")
    return list(copies)


def _by_video(
    paths: Sequence[Path], preprocessing: Preprocessing, score: VideoScorer, names: Sequence[str], top: int
) -> Iterator[dict[str, Any]]:
    for group in _groups(read_ahead(paths, preprocessing, _THREADS)):
        readable = [one.clips for one in group if isinstance(one.clips, Tensor)]
        scores = iter(score(readable) if readable else ())
        for one in group:
            try:
                if isinstance(one.clips, VideoClips):
                    with _progress(len(paths) == 1, "clips")(len(one.clips.frame_numbers)) as count:
                        told: dict[str, Any] = {
                            "top": top_classes(score.of_pieces(one.clips.pieces(count)), names, top)
                        }
                else:
                    told = {"error": one.error} if one.clips is None else {"top": top_classes(next(scores), names, top)}
            except DecodeError as error:
                told = {"error": str(error)}
            yield {"video": str(one.path)} | told


def _groups(files: Iterable[DecodedVideo]) -> Iterator[list[DecodedVideo]]:
    """Groups files whose clips fit into one forward pass; a long video, not decoded yet, is a group of its own."""
    waiting: list[DecodedVideo] = []
    size = 0
    for one in files:
        long = isinstance(one.clips, VideoClips)
        bytes_of_it = FORWARD_BYTES if long else 4 * one.clips.numel() if isinstance(one.clips, Tensor) else 0
        if waiting and size + bytes_of_it > FORWARD_BYTES:
            yield waiting
            waiting, size = [], 0
        waiting.append(one)
        size += bytes_of_it
    if waiting:
        yield waiting


def _by_second(
    paths: Sequence[Path],
    copies: Sequence[Path | None],
    preprocessing: Preprocessing,
    score: VideoScorer,
    names: Sequence[str],
    top: int,
) -> Iterator[dict[str, Any]]:
    alone = len(paths) == 1
    labels = drawable_texts(names) if any(copies) else []
    if note := describe_missing(labels):
        print_text(f"annotate: {note}", file=sys.stderr)
    for path, copy in zip(paths, copies, strict=True):
        outcome: dict[str, Any] = {"video": str(path)}
        try:
            source = open_source(path)
            seconds, duration_s = score_seconds(preprocessing, source, score, _progress(alone, "clips"))
            outcome["top"] = top_classes(seconds.mean(axis=0), names, top)
            outcome["stretches"] = segments(seconds, duration_s, names)
            outcome["timeline"] = by_second(seconds, duration_s, names, top)
            if copy is not None:
                annotate_video(source, copy, seconds, labels, _progress(alone, "frames drawn"))
                outcome["annotated"] = str(copy)
        except DecodeError as error:
            outcome = {"video": str(path), "error": str(error)}
        yield outcome


def _progress(shown: bool, what: str) -> Callable[[int], AbstractContextManager[Callable[[], None]]]:
    """Progress display, which is shown either within a single video or over several videos."""
    return lambda total: count_progress("classify", total, what) if shown else nullcontext(lambda: None)


def _tell(outcomes: Iterable[dict[str, Any]], total: int, decoder: str, json: bool) -> None:
    """Prints each outcome as soon as it is known; raises ValueError at the end if videos failed."""
    failed = []
    with _progress(total > 1, "videos")(total) as count:
        for outcome in outcomes:
            outcome["decoder"] = decoder
            if "error" not in outcome and (others := count_other_streams(outcome["video"])):
                outcome["other_streams"] = others
            print_text(json_lines.dumps(outcome) if json else in_words(outcome))
            if "error" in outcome:
                failed.append(f"{outcome['video']} ({outcome['error']})")
            count()
    if failed:
        raise ValueError(f"{len(failed)} of {total} videos could not be decoded: {'; '.join(failed)}")


def in_words(outcome: dict[str, Any]) -> str:
    """Formats the outcome of a video as several lines of text."""
    lines = [f"  {one['probability']:6.1%}  {one['class']}" for one in outcome.get("top", ())]
    parts = outcome.get("stretches", ())
    width = max((len(as_clock(part["end"])) for part in parts), default=0)
    for part in parts:
        span = f"{as_clock(part['start']):>{width}} to {as_clock(part['end'] + 0.999):>{width}}"
        lines.append(f"  {span}  {part['probability']:6.1%}  {part['class']}")
    if "other_streams" in outcome:
        lines.append(f"  of a file with {1 + outcome['other_streams']} video streams, of which one was looked at")
    if "annotated" in outcome:
        lines.append(f"  wrote {printable(outcome['annotated'])}")
    return "\n".join([printable(outcome["video"]), *(lines or [f"  cannot be decoded: {printable(outcome['error'])}"])])
