"""Writes a copy of a video, as mp4, with the most probable classes of each second drawn on its frames."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from datamodules.storage.atomic_write import write_atomically
from datamodules.video.decoding import Source, iterate_frames, orientation_of, probe, read_frame_times
from datamodules.video.mp4_writer import as_rate
from pipeline.classify.frame_text import DrawableText, open_font

_NUM_LINES = 3
_ENCODER_THREADS = 4  # each buffers several frames; x264's default is more threads than processors
_TICK = Fraction(1, 90000)  # time base of a video with a variable frame rate, in seconds
_WHITE, _GRAY, _BAR, _BACKGROUND = "#ffffff", "#bec4cc", "#0072b2", "#000000bf"


def annotate_video(
    source: Source,
    path: Path,
    second_scores: NDArray[np.float32],
    labels: Sequence[DrawableText],
    progress: Callable[[int], AbstractContextManager[Callable[[], None]]] = lambda total: nullcontext(lambda: None),
) -> None:
    """Writes a copy of a video with the three most probable classes of each second on it: H.264, without sound.

    Every frame keeps its presentation timestamp, also with a variable frame rate.

    Args:
        source: the bytes of the video file, or its path.
        path: the path of the mp4 file to write.
        second_scores: float (S, K), the class probabilities of each second.
        labels: the K class names, as a font can show them.
        progress: function from the number of frames to a context, which yields a function to call after each frame.

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
        stream.codec_context.thread_count = _ENCODER_THREADS
        stream.codec_context.time_base = 1 / rate if times is None else _TICK
        last, second, panel = -1, -1, Image.new("RGBA", (0, 0))
        for number, frame in enumerate(iterate_frames(source)):
            picture = _rotate_and_crop(frame)
            if number == 0:
                stream.width, stream.height = picture.size
            time_s = number / info.fps if times is None else float(times[min(number, len(times) - 1)])
            if second != (second := min(len(second_scores) - 1, int(time_s + 1e-6))):
                panel = draw_scores(picture.size, second_scores[second], labels)
            picture.paste(panel, (0, picture.height - panel.height), panel)
            drawn = converter.reformat(av.VideoFrame.from_ndarray(np.asarray(picture)), format="yuv420p")
            last = number if times is None else max(last + 1, round(time_s / _TICK))
            drawn.pts, drawn.time_base = last, stream.codec_context.time_base
            container.mux(stream.encode(drawn))
            count()
        container.mux(stream.encode(None))


def _rotate_and_crop(frame: av.VideoFrame) -> Image.Image:
    """The frame after its display matrix, cropped to even sides, which H.264 requires; a side of 1 is doubled."""
    turned = orientation_of(frame).apply(np.asarray(frame.to_ndarray(format="rgb24")))
    wider = np.pad(turned, [(0, turned.shape[0] == 1), (0, turned.shape[1] == 1), (0, 0)], mode="edge")
    even = wider[: wider.shape[0] // 2 * 2, : wider.shape[1] // 2 * 2]
    return Image.fromarray(np.ascontiguousarray(even, dtype=np.uint8))


def draw_scores(size: tuple[int, int], scores: NDArray[np.float32], labels: Sequence[DrawableText]) -> Image.Image:
    """Draws the three most probable classes, each with a bar, on a translucent background.

    Args:
        size: width and height of the frames, at whose lower edge the panel is pasted.
        scores: float (K,), the class probabilities.
        labels: the K class names, as a font can show them.

    Returns:
        RGBA image, as wide as the frames and as high as its lines need, at most as high as the frames.
    """
    width, height = size
    scale = max(1, min(size) // 120)
    line, margin, letters = 12 * scale, 3 * scale, 8 * scale
    best = np.argsort(-scores, kind="stable")[:_NUM_LINES].tolist()
    panel = Image.new("RGBA", (width, min(height, line * len(best) + margin)), _BACKGROUND)
    canvas, digits = ImageDraw.Draw(panel), open_font(None, letters)
    column = margin + int(digits.getlength("100%"))
    for place, number in enumerate(best):
        share, top, color = float(scores[number]), margin + place * line, _GRAY if place else _WHITE
        bar_top, bar_width = top + line - 2 * scale, int(share * (width - 2 * margin))
        if bar_width:
            canvas.rectangle((margin, bar_top, margin + bar_width - 1, bar_top + scale - 1), fill=_BAR)
        canvas.text((column, top + letters), f"{share:.0%}", fill=color, font=digits, anchor="rs")
        font, name = open_font(labels[number].font, letters), _drawn_name(labels[number], number)
        canvas.text((column + margin, top + letters), name, fill=color, font=font, anchor="ls")
    return panel


def _drawn_name(label: DrawableText, number: int) -> str:
    """The class name, or `class` and its number where half of its characters or more cannot be drawn."""
    return f"class {number}" if label.missing and 2 * label.text.count("?") >= len(label.text) else label.text
