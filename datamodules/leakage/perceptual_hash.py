"""Perceptual hashes of a video's frames: 64 bits a frame that stay nearly the same when the video is encoded anew.

The hash is the signs of low frequencies of the cosine transform of a 32 x 32 gray picture of the frame (pHash). In the
mirror image the coefficients of odd horizontal frequency change their sign and the others keep it, so the hash of the
mirror image is the hash with those bits flipped: it need not be computed or stored. All arithmetic is in integers, so
the same pixels give the same hash on every machine.
"""

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from datamodules.video.orientation import UPRIGHT, Orientation

HASHES_PER_SECOND = 8.0  # at 4, one in ten overlaps of 3 s of fast motion was missed, as the samples fall between
MIN_HASHES = 4  # of a shorter video, as far as it has frames
HASH_VERSION = 1
FLAT = 0  # stands for a frame that shows nothing, such as a black one: it would match those of any other video

_SIDE = 32
_MIN_CONTRAST = 4.0  # standard deviation of the gray picture, of 255


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
        64 bits as an int; `FLAT` where the picture has hardly any contrast.
    """
    pixels = picture.astype(np.int64)
    count = pixels.size
    if count * int((pixels**2).sum()) - int(pixels.sum()) ** 2 < (_MIN_CONTRAST * count) ** 2:
        return FLAT
    coefficients = _BASIS @ pixels @ _BASIS[:8].T  # (9, 8): vertical, horizontal frequency
    signs = coefficients[:8].copy()
    signs[0, 0] = coefficients[8, 0]  # the mean says nothing; the next vertical frequency stands in for it
    return int(_BITS[signs.reshape(-1) > 0].sum()) or 1


def mirror_hashes(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The hashes of the mirror images of frames, uint64 of the same shape; flat frames stay flat."""
    return np.where(hashes == FLAT, hashes, hashes ^ MIRROR_MASK)


class FrameHasher:
    """Hashes frames of a video at even times while they go by.

    Args:
        duration_s: of the video, as far as known; a video shorter than half a second is hashed more densely.
    """

    def __init__(self, duration_s: float):
        self._interval = min(1 / HASHES_PER_SECOND, max(duration_s, 0.0) / MIN_HASHES)
        self._converter = VideoReformatter()
        self._hashes: list[int] = []

    def offer(self, frame: av.VideoFrame, time_s: float, orientation: Orientation = UPRIGHT) -> None:
        """Hash the frame if its time has come.

        Args:
            frame: of any size and format.
            time_s: of the frame in the video; not before that of the last one.
            orientation: how the frame is shown.
        """
        if time_s + 1e-6 < len(self._hashes) * self._interval:
            return
        small = self._converter.reformat(
            frame, width=_SIDE, height=_SIDE, format="gray", interpolation=Interpolation.AREA, threads=1
        )
        self._hashes.append(hash_picture(orientation.apply(np.asarray(small.to_ndarray(), np.uint8))))

    def hashes(self) -> tuple[int, ...]:
        """Hash i is of the frame at about i / n of the video's duration, for n hashes."""
        return tuple(self._hashes)
