"""Short looping previews of videos: animated WebP, small enough to lie inside a page by the dozen."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from datamodules.video.decoding import iterate_frame_chunks, probe

_FRAMES = 12
_RATE = 6  # frames a second, so that a preview goes round in two seconds
_SHORT_SIDE = 120
_QUALITY = "45"


class Preview(NamedTuple):
    """A video in small.

    Attributes:
        moving: an animated WebP that goes round for ever.
        still: its middle frame alone, a WebP, for people who do not want things to move.
        width: of both, in pixels.
        height: likewise.
    """

    moving: bytes
    still: bytes
    width: int
    height: int


def make_preview(video: bytes, decoder: str = "auto") -> Preview:
    """The preview of a video: frames spread evenly over all of it.

    Args:
        video: bytes of the file.
        decoder: auto, pyav, decord or torchcodec.

    Raises:
        DecodeError: the bytes are no video that can be decoded.
    """
    info = probe(video)
    places = np.linspace(0, info.num_frames - 1, min(_FRAMES, info.num_frames)).round().astype(int)
    height, width = _size(info.height, info.width)
    scaler, small = VideoReformatter(), []
    for _, frames in iterate_frame_chunks(video, places.tolist(), decoder):
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            small.append(scaler.reformat(picture, width, height, "yuv420p", interpolation="AREA"))
    return Preview(_webp(small, height, width), _webp([small[len(small) // 2]], height, width), width, height)


def _size(height: int, width: int) -> tuple[int, int]:
    """Scaled to the short side, even, never enlarged, and no longer than three times as long as short."""
    factor = min(1.0, _SHORT_SIDE / min(height, width))
    scaled = (max(2, 2 * round(factor * side / 2)) for side in (height, width))
    high, wide = scaled
    return min(high, 3 * _SHORT_SIDE), min(wide, 3 * _SHORT_SIDE)


def _webp(frames: Sequence[av.VideoFrame], height: int, width: int) -> bytes:
    """Frames of this size as WebP: one picture, or an endless loop of several."""
    file = io.BytesIO()
    with av.open(file, "w", format="webp", options={"loop": "0"}) as container:
        name = "libwebp_anim" if len(frames) > 1 else "libwebp"
        stream = container.add_stream(name, rate=_RATE, options={"quality": _QUALITY, "compression_level": "4"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
