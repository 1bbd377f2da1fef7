"""Pictures embedded in a page: looping previews of videos as animated WebP, single frames as JPEG."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import DecodeError, Source, iterate_frame_chunks, probe

_NUM_FRAMES = 12
_FRAME_DURATION_MS = 167  # duration of a frame, so that the 12 frames of a preview loop in two seconds
_SHORT_SIDE = 120
_WEBP = {"quality": 45, "method": 4}  # with Pillow's method for animations, 0, they are twice as large
# The same small quantization step for all frequencies: colors are closer than with quality=92, in as many bytes.
_JPEG = {"subsampling": 0, "qtables": [[4] * 64] * 2, "optimize": True}


class Preview(NamedTuple):
    """A small preview of a video.

    Attributes:
        moving: an animated WebP file that loops forever.
        still: the middle frame as a WebP file, for readers who prefer reduced motion.
        width: width of both pictures, in pixels.
        height: height of both pictures, in pixels.
    """

    moving: bytes
    still: bytes
    width: int
    height: int


def make_preview(video: Source, decoder: str = "auto") -> Preview:
    """Makes the preview of a video from up to 12 evenly spaced frames.

    Args:
        video: the bytes of the video file, or its path.
        decoder: auto, pyav, decord or torchcodec.

    Raises:
        DecodeError: the bytes are no video that can be decoded.
    """
    info = probe(video)
    numbers = np.linspace(0, info.num_frames - 1, min(_NUM_FRAMES, info.num_frames)).round().astype(int)
    size = _preview_size(info.width, info.height)
    small = [
        Image.fromarray(frame).resize(size, Image.Resampling.BOX)
        for _, frames in iterate_frame_chunks(video, numbers.tolist(), decoder)
        for frame in frames
    ]
    loop = {"save_all": True, "append_images": small[1:], "duration": _FRAME_DURATION_MS, "loop": 0}
    moving = _encode(small[0], "WEBP", **_WEBP, **loop)
    still = _encode(small[len(small) // 2], "WEBP", **_WEBP)
    return Preview(moving, still, *size)


def preview_of_key(videos: DatasetIndex, key: str, provenance: Mapping[str, Any]) -> Preview | None:
    """The preview of a video of a dataset; None if there is no such video, or it cannot be decoded.

    Args:
        videos: the dataset.
        key: key of the video.
        provenance: of the results; its `decoder` decodes the video.
    """
    rows = videos.rows_of([key])
    decoder = str(provenance.get("decoder") or "auto").split()[0]
    try:
        return make_preview(videos.read_video(int(rows[0])), decoder) if len(rows) else None
    except DecodeError:
        return None


def encode_jpeg(frame: NDArray[np.uint8]) -> bytes:
    """Encodes a frame, uint8 (H, W, 3), as a JPEG file of high quality without chroma subsampling."""
    return _encode(Image.fromarray(frame), "JPEG", **_JPEG)


def _preview_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a preview: short side at most 120 pixels, long side at most 360, even, never enlarged."""
    factor = min(1.0, _SHORT_SIDE / min(width, height))
    wide, high = (min(max(2, 2 * round(factor * side / 2)), 3 * _SHORT_SIDE) for side in (width, height))
    return wide, high


def _encode(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()
