"""The page that `show` writes: one HTML file, its pictures inside, for a bright or dark screen of any width."""

import base64
import html
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from datamodules.storage.plain_text import printable

_MOST_FRAMES = 16  # of a clip on the page
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --quiet: #6b7280; --paper: #ffffff; --card: #f3f4f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --quiet: #9ca3af; --paper: #111827; --card: #1f2937; } }
body { margin: 0 auto; max-width: 90rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin: 2rem 0 0; } h3 { font-size: 1rem; margin: 0; }
small, figcaption, .quiet { color: var(--quiet); font-size: .8rem; }
article { background: var(--card); border-radius: .5rem; padding: .75rem; margin: .75rem 0; }
.strip { display: flex; gap: 2px; overflow-x: auto; padding-bottom: .25rem; }
figure { margin: 0; flex: none; } figcaption { font-size: .7rem; text-align: center; }
img { display: block; height: 7rem; width: auto; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: .1rem 1rem; margin: .5rem 0; }
dl div { display: flex; gap: .5rem; } dt { color: var(--quiet); } dd { margin: 0; }
p { margin: .4rem 0 .2rem; }
"""


class ShownClip(NamedTuple):
    """A view of a video.

    Attributes:
        name: which clip and which crop.
        frames: uint8 (T, H, W, 3).
        numbers: T of them, the frames' numbers in the video.
        times: T of them, the frames' times in the video, in seconds.
        span: start and end of the clip in the video, in seconds.
        words: what was done to it.
    """

    name: str
    frames: NDArray[np.uint8]
    numbers: Sequence[int]
    times: Sequence[float]
    span: tuple[float, float]
    words: Sequence[str]


class ShownVideo(NamedTuple):
    """A video, some of its views, and how many more it has."""

    key: str
    label: str
    clips: Sequence[ShownClip]
    more: int


class ShownStage(NamedTuple):
    """Train, val, test or predict; a line that says what of; its first videos."""

    name: str
    line: str
    videos: Sequence[ShownVideo]


def draw_page(title: str, origin: Mapping[str, Any], settings: Mapping[str, str], stages: Sequence[ShownStage]) -> str:
    """The page as HTML; whatever text comes from the data is escaped.

    Args:
        title: above all.
        origin: what the clips come from, by name.
        settings: what made them, by name.
        stages: in order.
    """
    body = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _list(origin),
        f"<details><summary>settings</summary>{_list(settings)}</details>",
        '<p class="quiet">Before the network normalizes them, and mixes them where MixUp or CutMix is on. The pictures '
        "are JPEG of high quality; levels may differ by a few.</p>",
    ]
    for stage in stages:
        body.append(f"<section><h2>{escape(stage.name)}</h2><small>{escape(stage.line)}</small>")
        body += [_video(video) for video in stage.videos]
        body.append("</section>")
    return "\n".join([*body, "</body></html>"]) + "\n"


def escape(text: str) -> str:
    """The text with all that means something in HTML escaped, and control characters shown."""
    return html.escape(printable(text))


def _list(named: Mapping[str, Any]) -> str:
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in named.items())
    return f"<dl>{''.join(rows)}</dl>"


def _video(video: ShownVideo) -> str:
    more = f'<p class="quiet">and {video.more} more views</p>' if video.more else ""
    clips = "".join(_clip(clip) for clip in video.clips)
    return f"<article><h3>{escape(video.label)}</h3><small>{escape(video.key)}</small>{clips}{more}</article>"


def _clip(clip: ShownClip) -> str:
    count = len(clip.frames)
    chosen = sorted({round(place) for place in np.linspace(0, count - 1, min(count, _MOST_FRAMES))})
    shown = "" if len(chosen) == count else f", {len(chosen)} of {count} frames"
    pictures = zip(chosen, encode_jpegs(clip.frames[chosen]), strict=True)
    figures = "".join(
        f'<figure><img alt="frame {clip.numbers[number]}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(picture).decode()}"><figcaption>{clip.numbers[number]} · {clip.times[number]:.2f} s'
        "</figcaption></figure>"
        for number, picture in pictures
    )
    line = f"{clip.name}, {clip.span[0]:.2f} to {clip.span[1]:.2f} s{shown}: {'; '.join(clip.words)}"
    return f'<p>{escape(line)}</p><div class="strip">{figures}</div>'


def encode_jpegs(frames: NDArray[np.uint8]) -> list[bytes]:
    """JPEG files of frames of one size: uint8 (T, H, W, 3), at full color resolution and FFmpeg's best quality."""
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext), "mjpeg is a video codec"
    encoder.height, encoder.width = frames.shape[1:3]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuvj444p", Fraction(1, 25), 1
    encoder.options = {"qmin": "1", "qmax": "1"}
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuvj444p")
        picture.pts = number
        packets += encoder.encode(picture)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]
