"""Orientation of a video: its file's display matrix as a mirroring and a number of quarter turns.

Phones write a display matrix for videos held upright; selfie cameras and recorders with a "flip" write one that
mirrors. FFmpeg's decoders return the frames as stored, with the matrix as side data; `frame.rotation` is only its
angle, which for a mirroring is 180 degrees.
"""

import math
import struct
from typing import NamedTuple, TypeVar, cast

import av
import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.sidedata.sidedata import SideDataContainer

Pixel = TypeVar("Pixel", bound=np.generic)


class Orientation(NamedTuple):
    """The transformation from a stored frame to the displayed frame: mirroring, then rotation.

    Attributes:
        quarter_turns: counterclockwise rotation in units of 90 degrees, 0 to 3.
        mirrored: whether left and right are swapped before the rotation.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height of the displayed frame are swapped from the stored one's."""
        return self.quarter_turns % 2 == 1

    def apply(self, pixels: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        """Transforms stored pixels to displayed ones: (H, W, ...) to (H', W', ...), a view."""
        mirrored = pixels[:, ::-1] if self.mirrored else pixels
        return np.rot90(mirrored, self.quarter_turns) if self.quarter_turns else mirrored


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation of a decoded frame by its display matrix, to the nearest quarter turn; `UPRIGHT` without one."""
    # Not `frame.side_data`: it makes a reference cycle with the frame, which then stays in memory until Python's
    # garbage collector runs, hundreds of frames later.
    side_data = SideDataContainer(frame)  # type: ignore[call-arg] # the stub lacks __init__
    matrix = side_data.get("DISPLAYMATRIX") if len(side_data) else None  # most frames have none: a quick test
    return UPRIGHT if matrix is None else orientation_of_matrix(bytes(cast(Buffer, matrix)))


def orientation_of_matrix(matrix: bytes) -> Orientation:
    """The orientation that a display matrix describes.

    Args:
        matrix: nine 32-bit integers in this machine's byte order, a, b, u, c, d, v, x, y, w: the pixel at column p and
            row q is shown at column a p + c q + x and row b p + d q + y (FFmpeg, libavutil/display.h; ISO/IEC 14496-12,
            section 6.2.2).
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    determinant = a * d - b * c
    if determinant == 0:
        return UPRIGHT  # a degenerate matrix: the frame is shown as stored
    mirrored = determinant < 0
    # With the mirroring of the columns removed, a rotation is left, clockwise because rows count downwards.
    clockwise = math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a))
    return Orientation(round(-clockwise / 90) % 4, mirrored)
