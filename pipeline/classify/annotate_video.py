"""A video with what a network makes of each second written onto it, as mp4."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from datamodules.storage.atomic_write import write_atomically
from datamodules.video.decoding import Source, iterate_frames, orientation_of, probe, read_frame_times
from datamodules.video.mp4_writer import as_rate
from pipeline.classify.bitmap_font import HEIGHT, WIDTH, draw_text, to_ascii

_LINES = 3
_ENCODERS = 4  # threads of x264: each holds several frames, and there would be more than one a processor
_TICK = Fraction(1, 90000)  # of the clock of a variable rate, in seconds
_WHITE, _GRAY, _BAR = (255, 255, 255), (190, 196, 204), (0, 114, 178)


def annotate_video(
    source: Source,
    path: Path,
    seconds: NDArray[np.float32],
    class_names: Sequence[str],
    progress: Callable[[int], AbstractContextManager[Callable[[], None]]] = lambda total: nullcontext(lambda: None),
) -> None:
    """Writes a copy of a video with the three most probable classes of each second on it: H.264, without sound.

    Every frame is shown when the video shows it, at a variable rate too.

    Args:
        source: the bytes of the file, or its path.
        path: of the mp4.
        seconds: float (S, K), the probabilities of each second.
        class_names: the K names.
        progress: given the number of frames, a context with a function to call after each one.

    Raises:
        DecodeError: a frame does not decode; nothing is written.
    """
    info = probe(source)
    rate = max(as_rate(info.fps), Fraction(1))
    times = read_frame_times(source) if info.variable_rate or info.fps < rate / 2 else None
    path.parent.mkdir(parents=True, exist_ok=True)
    converter = VideoReformatter()
    with (
        write_atomically(path) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
        progress(info.num_frames) as count,
    ):
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = _ENCODERS
        stream.codec_context.time_base = 1 / rate if times is None else _TICK
        last = -1
        for number, frame in enumerate(iterate_frames(source)):
            picture = _upright(frame)
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            time_s = number / info.fps if times is None else float(times[min(number, len(times) - 1)])
            draw_scores(picture, seconds[min(len(seconds) - 1, int(time_s + 1e-6))], class_names)
            drawn = converter.reformat(av.VideoFrame.from_ndarray(picture, format="rgb24"), format="yuv420p")
            last = number if times is None else max(last + 1, round(time_s / _TICK))
            drawn.pts, drawn.time_base = last, stream.codec_context.time_base
            container.mux(stream.encode(drawn))
            count()
        container.mux(stream.encode(None))


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The frame as it is shown, with even sides, which H.264 wants, a single row doubled: uint8 (H, W, 3)."""
    turned = orientation_of(frame).apply(np.asarray(frame.to_ndarray(format="rgb24")))
    wider = np.pad(turned, [(0, turned.shape[0] == 1), (0, turned.shape[1] == 1), (0, 0)], mode="edge")
    even = wider[: wider.shape[0] // 2 * 2, : wider.shape[1] // 2 * 2]
    return np.ascontiguousarray(even, dtype=np.uint8)


def draw_scores(frame: NDArray[np.uint8], scores: NDArray[np.float32], class_names: Sequence[str]) -> None:
    """Writes the three most probable classes onto the lower edge of a frame, each with a bar; uint8 (H, W, 3)."""
    height, width = frame.shape[:2]
    scale = max(1, min(height // 120, width // (WIDTH * 30)))
    line, margin = (HEIGHT + 3) * scale, 3 * scale
    best = np.argsort(-scores, kind="stable")[:_LINES].tolist()
    top = max(0, height - line * len(best) - margin)
    frame[top:] = frame[top:] // 4
    for place, number in enumerate(best):
        upper = top + margin + place * line
        share = float(scores[number])
        bar_top = upper + HEIGHT * scale
        frame[bar_top : bar_top + scale, margin : margin + int(share * (width - 2 * margin))] = _BAR
        told = f"{100 * share:3.0f}% {_shown(class_names[number], number)}"
        draw_text(frame, told, upper, margin, scale, _GRAY if place else _WHITE)


def _shown(name: str, number: int) -> str:
    """The name, or its number where hardly any of its letters can be drawn."""
    plain = to_ascii(name)
    return plain if plain.count("?") - name.count("?") <= len(plain) // 2 else f"class {number}"
