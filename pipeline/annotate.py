"""A video with what a network makes of each second written onto it, as mp4."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from datamodules.aside import write_aside
from datamodules.decoding import iterate_frames, orientation_of, probe
from datamodules.mp4_writer import as_rate
from pipeline.bitmap_text import HEIGHT, WIDTH, draw_text, to_ascii

_LINES = 3
_WHITE, _GRAY, _BAR = (255, 255, 255), (190, 196, 204), (0, 114, 178)


def annotate_video(video: bytes, path: Path, seconds: NDArray[np.float32], class_names: Sequence[str]) -> None:
    """Writes a copy of a video with the three most probable classes of each second on it: H.264, without sound.

    Args:
        video: bytes of the file.
        path: of the mp4.
        seconds: float (S, K), the probabilities of each second.
        class_names: the K names.

    Raises:
        DecodeError: a frame does not decode; nothing is written.
    """
    info = probe(video)
    path.parent.mkdir(parents=True, exist_ok=True)
    converter = VideoReformatter()
    with write_aside(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=as_rate(info.fps), options={"crf": "20", "preset": "veryfast"})
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(iterate_frames(video)):
            picture = _upright(frame)
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            draw_scores(picture, seconds[min(len(seconds) - 1, int(number / info.fps))], class_names)
            drawn = converter.reformat(av.VideoFrame.from_ndarray(picture, format="rgb24"), format="yuv420p")
            drawn.pts, drawn.time_base = number, 1 / as_rate(info.fps)
            container.mux(stream.encode(drawn))
        container.mux(stream.encode(None))


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The frame as it is shown, with even sides, which H.264 wants: uint8 (H, W, 3)."""
    turned = orientation_of(frame).apply(np.asarray(frame.to_ndarray(format="rgb24")))
    even = turned[: turned.shape[0] // 2 * 2, : turned.shape[1] // 2 * 2]
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
