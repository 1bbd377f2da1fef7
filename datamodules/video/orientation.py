"""How a decoded frame is shown: the display matrix of its file, as a mirroring and a number of quarter turns.

Phones write such a matrix for videos held upright, selfie cameras and recorders that "flip" one that mirrors. FFmpeg's
decoders leave the frames as stored and hand the matrix on; `frame.rotation` tells its angle alone, which is 180 degrees
for a mirror.
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
    """From a stored frame to the frame as it is shown: first mirrored, then turned.

    Attributes:
        quarter_turns: counterclockwise, 0 to 3.
        mirrored: left and right change places before the turn.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether the height of the stored frame is the width of the shown one."""
        return self.quarter_turns % 2 == 1

    def apply(self, pixels: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        """The pixels as they are shown: (H, W, ...) to (H', W', ...), a view."""
        mirrored = pixels[:, ::-1] if self.mirrored else pixels
        return np.rot90(mirrored, self.quarter_turns) if self.quarter_turns else mirrored


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """How a decoded frame is shown, by its display matrix, to the nearest quarter turn; `UPRIGHT` without one."""
    # Not `frame.side_data`: the frame would keep that, and that the frame, until Python's collector comes by, hundreds
    # of frames later.
    beside = SideDataContainer(frame)  # type: ignore[call-arg] # the stub lacks __init__
    matrix = beside.get("DISPLAYMATRIX") if len(beside) else None  # mostly there is nothing: that is quickly seen
    return UPRIGHT if matrix is None else orientation_of_matrix(bytes(cast(Buffer, matrix)))


def orientation_of_matrix(matrix: bytes) -> Orientation:
    """What a display matrix does.

    Args:
        matrix: nine 32-bit integers in this machine's byte order, a, b, u, c, d, v, x, y, w: the pixel at column p and
            row q is shown at column a p + c q + x and row b p + d q + y (FFmpeg, libavutil/display.h; ISO/IEC 14496-12,
            section 6.2.2).
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    determinant = a * d - b * c
    if determinant == 0:
        return UPRIGHT  # no orientation at all: such files are shown as stored
    mirrored = determinant < 0
    # Without the mirroring of the columns what is left is a rotation, clockwise because rows count downwards.
    clockwise = math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a))
    return Orientation(round(-clockwise / 90) % 4, mirrored)
