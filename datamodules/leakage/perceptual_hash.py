"""Perceptual hashes: 64 bits per frame that change little when a video is encoded again.

The hash is the signs of the low frequencies of the cosine transform of a 32 x 32 gray picture of the frame (pHash). In
the mirror image the coefficients of odd horizontal frequency change their sign and the others keep it, so its hash is
the same hash with those bits flipped, and need not be computed or stored. All arithmetic is in integers, so the same
pixels give the same hash on every machine.
"""

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from datamodules.video.orientation import UPRIGHT, Orientation

HASHES_PER_SECOND = 8.0  # at 4, one in ten 3 s overlaps of fast motion was missed, for lack of aligned samples
MIN_HASHES = 4  # for shorter videos, if they have as many frames
HASH_VERSION = 1
FLAT = 0  # hash of frames without contrast, such as black ones, which would match those of any other video

_SIDE = 32
_MIN_CONTRAST = 4.0  # minimum standard deviation of the gray picture, of 255


def _frequencies() -> npt.NDArray[np.int64]:
    """The cosines of frequencies 0 to 8 over 32 pixels, scaled to integers; int64 (9, 32)."""
    angles = np.pi / _SIDE * np.outer(np.arange(9), np.arange(_SIDE) + 0.5)
    basis: npt.NDArray[np.int64] = np.rint(np.cos(angles) * 4096).astype(np.int64)
    return basis


_BASIS = _frequencies()
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
# Bit 8 v + h is the sign at vertical frequency v and horizontal frequency h.
MIRROR_MASK = np.uint64(sum(1 << bit for bit in range(64) if bit % 2))


def hash_picture(picture: npt.NDArray[np.uint8]) -> int:
    """The hash of a gray picture.

    Args:
        picture: uint8 (32, 32).

    Returns:
        64 bits as an int; `FLAT` if the picture has hardly any contrast.
    """
    pixels = picture.astype(np.int64)
    count = pixels.size
    if count * int((pixels**2).sum()) - int(pixels.sum()) ** 2 < (_MIN_CONTRAST * count) ** 2:
        return FLAT
    coefficients = _BASIS @ pixels @ _BASIS[:8].T  # (9, 8): vertical, horizontal frequency
    signs = coefficients[:8].copy()
    signs[0, 0] = coefficients[8, 0]  # the mean carries no information; replaced by the next vertical frequency
    return int(_BITS[signs.reshape(-1) > 0].sum()) or 1


def mirror_hashes(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The hashes of the mirror images of frames, uint64 of the same shape; flat frames stay flat."""
    return np.where(hashes == FLAT, hashes, hashes ^ MIRROR_MASK)


class FrameHasher:
    """Hashes frames of a video at even intervals as they are passed to `add_frame`.

    Args:
        duration_s: duration of the video in seconds, as far as known; below half a second, hashes are denser.
    """

    def __init__(self, duration_s: float):
        self._interval = min(1 / HASHES_PER_SECOND, max(duration_s, 0.0) / MIN_HASHES)
        self._converter = VideoReformatter()
        self._hashes: list[int] = []

    def add_frame(self, frame: av.VideoFrame, time_s: float, orientation: Orientation = UPRIGHT) -> None:
        """Hashes the frame if the next sampling time has come.

        Args:
            frame: a frame of any size and format.
            time_s: time of the frame in the video in seconds, not before the previous frame's.
            orientation: orientation in which the frame is shown.
        """
        if time_s + 1e-6 < len(self._hashes) * self._interval:
            return
        small = self._converter.reformat(
            frame, width=_SIDE, height=_SIDE, format="gray", interpolation=Interpolation.AREA, threads=1
        )
        self._hashes.append(hash_picture(orientation.apply(np.asarray(small.to_ndarray(), np.uint8))))

    def hashes(self) -> tuple[int, ...]:
        """All hashes; hash i of n is of the frame at about i / n of the video's duration."""
        return tuple(self._hashes)
