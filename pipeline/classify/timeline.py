"""Timelines: the class scores of each second of a video, for videos of up to 48 hours."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.optical_flow.frame_source import FrameSource, num_clip_frames, rgb_source
from datamodules.sampling.clip_sampling import Seconds, clips_by_second
from datamodules.video.decoding import TOO_LARGE, DecodeError, VideoInfo, probe, read_frame_times
from pipeline.classify.frame_timeline import plan_frames
from pipeline.classify.video_input import Preprocessing, VideoClips
from pipeline.classify.video_scores import VideoScorer

MAX_HOURS = 48  # longest timeline; it has an entry a second, so a frame of a time-lapse would fill thousands
_CLIPS_PER_BATCH = 16  # number of clips, one a second, that go through the network together

ScoreVideos = Callable[[Sequence[Tensor]], NDArray[np.float32]]


class SecondClips(NamedTuple):
    """The clips of a timeline before they are decoded.

    Attributes:
        clips: a clip around each second, each different one once.
        inverse: int64 (S,), the row of each second's clip.
        duration_s: duration of the video, in seconds.
    """

    clips: VideoClips
    inverse: NDArray[np.int64]
    duration_s: float


def plan_seconds(preprocessing: Preprocessing, source: FrameSource) -> SecondClips:
    """Chooses a clip around each second of a video.

    Args:
        preprocessing: the preprocessing of the network; clips have the length of its training.
        source: the bytes of the video file, or its path; or a video with its flow.

    Raises:
        DecodeError: the source is no video that can be decoded, or is longer than 48 hours.
    """
    info, times = _read_times(source)
    numbers = clips_by_second(preprocessing.shape, info.num_frames, info.fps, times)
    numbers = np.minimum(numbers, num_clip_frames(info.num_frames, preprocessing.stream) - 1)
    distinct, inverse = np.unique(numbers, axis=0, return_inverse=True)  # a frame may be shown for many seconds
    return SecondClips(VideoClips(source, distinct, preprocessing), inverse.reshape(-1), info.num_frames / info.fps)


def _read_times(source: FrameSource) -> tuple[VideoInfo, Seconds | None]:
    """The properties of a video, and when its frames are shown, None if evenly spaced; at most 48 hours."""
    video = rgb_source(source)
    assert video is not None, "`Preprocessing.open_frames` reads the video beside its flow"
    info = probe(video)
    times = read_frame_times(video) if info.variable_rate else None
    if info.duration_s > MAX_HOURS * 3600:
        raise DecodeError(
            f"it lasts {info.duration_s / 3600:.0f} hours by its frames' times, and {MAX_HOURS} are the most for a "
            "timeline: leave --timeline and --annotate out",
            TOO_LARGE,
        )
    return info, times


def score_seconds(
    preprocessing: Preprocessing,
    source: FrameSource,
    score: ScoreVideos,
    progress: Callable[[int], AbstractContextManager[Callable[[], None]]] = lambda total: nullcontext(lambda: None),
) -> tuple[NDArray[np.float32], float]:
    """Scores each second, in one pass over the video: a clip around it, or its frames by a network that labels them.

    Args:
        preprocessing: the preprocessing of the network; clips have the length of its training.
        source: the bytes of the video file, or its path; or a video with its flow.
        score: function from the clips of V videos, each uint8 (N, T, H, W, C), to scores, float32 (V, K).
        progress: function from the number of clips to a context, which yields a function to call after each clip.

    Returns:
        The scores of S seconds, float32 (S, K), and the video's duration in seconds.

    Raises:
        DecodeError: the source is no video that can be decoded, or is longer than 48 hours.
    """
    if isinstance(score, VideoScorer) and score.labels_frames:
        info, times = _read_times(source)
        frames = plan_frames(preprocessing, source, info, times, score.is_causal)
        with progress(len(frames.clips.frame_numbers)) as count:
            batches = second_batches(frames.clips.decode(count))
            means = frames.means(chain.from_iterable(map(score.frames, batches)))
        return means, info.num_frames / info.fps
    plan = plan_seconds(preprocessing, source)
    with progress(len(plan.clips.frame_numbers)) as count:
        scores = [score(batch) for batch in second_batches(plan.clips.decode(count))]
    return np.concatenate(scores)[plan.inverse], plan.duration_s


def second_batches(clips: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Groups clips, uint8 (T, H, W, C), into batches of 16, each clip a video of its own: uint8 (1, T, H, W, C)."""
    batch: list[Tensor] = []
    for clip in clips:
        batch.append(clip[None])
        if len(batch) == _CLIPS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def segments(second_scores: NDArray[np.float32], duration_s: float, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Merges consecutive seconds with the same best class into segments.

    Args:
        second_scores: float (S, K), the class probabilities of each second.
        duration_s: duration of the video, in seconds.
        class_names: the K class names.

    Returns:
        For each segment: start and end in seconds, to the millisecond; class; probability, the class's mean over the
        segment, to six digits.
    """
    return [
        {
            "start": first,
            "end": second_end(last - 1, duration_s),
            "class": class_names[label],
            "probability": _round_probability(second_scores[first:last, label].mean()),
        }
        for label, first, last in runs_of_best_class(second_scores)
    ]


def runs_of_best_class(second_scores: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """Class number, first second and second after the last of each run of seconds with the same best class."""
    best = second_scores.argmax(axis=1)
    starts = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
    return [(int(best[first]), first, last) for first, last in pairwise(starts)]


def runs_of_true(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First number and number after the last of each run of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))).tolist()
    return list(pairwise(edges))[::2]


def shift_times(entries: Sequence[dict[str, Any]], start_s: float) -> list[dict[str, Any]]:
    """Entries with start and end, in seconds, of a segment, as times in the source, where it begins at `start_s`."""
    return [entry | {name: round(entry[name] + start_s, 3) for name in ("start", "end")} for entry in entries]


def format_clock(second: float) -> str:
    """Formats seconds as m:ss, or h:mm:ss from an hour on, rounded down."""
    minutes, rest = divmod(int(second), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def second_end(second: int, duration_s: float) -> float:
    """The end of a second of the timeline, in seconds: the last one ends with the video."""
    return min(second + 1.0, round(duration_s, 3))


def _round_probability(probability: Any) -> float:
    return round(float(probability), 6)


def top_classes(scores: NDArray[Any], class_names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """The `top` most probable classes, the best first: class and probability."""
    order = np.argsort(-scores, kind="stable")[:top]
    return [{"class": class_names[label], "probability": _round_probability(scores[label])} for label in order.tolist()]
