"""The display matrix of a file, applied whole and by every decoder alike."""

import itertools
import struct

import numpy as np
import pytest

from datamodules.encoding.transcoding import EncodeProfile, transcode
from datamodules.video.decoding import decode_frames, probe
from datamodules.video.orientation import UPRIGHT, Orientation, orientation_of_matrix
from tests.datamodules.video.video_kinds import INSTALLED, encode

ONE = 0x10000
# a, b, c, d of the eight orientations: a pixel at column p and row q goes to column a p + c q and row b p + d q
EIGHT = [
    (a, b, c, d)
    for a, b, c, d in itertools.product((-1, 0, 1), repeat=4)
    if abs(a * d - b * c) == 1 and a * b == 0 and c * d == 0
]


def matrix_bytes(a, b, c, d):
    return struct.pack("=9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


def shown_by_formula(pixels, a, b, c, d):
    """Each pixel put where the matrix says, and the whole moved back to begin at 0."""
    height, width = pixels.shape[:2]
    q, p = np.mgrid[:height, :width]
    columns, rows = a * p + c * q, b * p + d * q
    columns, rows = columns - columns.min(), rows - rows.min()
    shown = np.empty((rows.max() + 1, columns.max() + 1, *pixels.shape[2:]), pixels.dtype)
    shown[rows, columns] = pixels
    return shown


@pytest.mark.parametrize("matrix", EIGHT)
def test_all_eight_orientations_by_the_formula(matrix):
    assert len(EIGHT) == 8
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    orientation = orientation_of_matrix(matrix_bytes(*matrix))
    assert np.array_equal(orientation.apply(pixels), shown_by_formula(pixels, *matrix))
    assert orientation.swaps_sides == (matrix[0] == 0)


def test_no_orientation_and_angles_in_between():
    assert orientation_of_matrix(struct.pack("=9i", *[0] * 9)) == UPRIGHT
    tilted = [round(ONE * x) for x in (0.94, 0.34)]  # 20 degrees
    assert (
        orientation_of_matrix(struct.pack("=9i", tilted[0], tilted[1], 0, -tilted[1], tilted[0], 0, 0, 0, 1 << 30))
        == UPRIGHT
    )
    assert orientation_of_matrix(matrix_bytes(-1, 0, 0, 1)) == Orientation(0, mirrored=True)


def with_matrix(data, matrix):
    """An mp4 whose track header has another matrix (ISO/IEC 14496-12, section 8.3.2)."""
    upright = struct.pack(">9I", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    a, b, c, d = matrix
    numbers = struct.pack(">9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    return data[:place] + numbers + data[place + 36 :]


@pytest.mark.parametrize("matrix", EIGHT)
def test_files_are_decoded_and_packed_as_they_are_shown(matrix):
    plain = encode("libx264", "mp4", count=3)
    [stored] = decode_frames(plain, [1], "pyav")
    data = with_matrix(plain, matrix)
    expected = shown_by_formula(stored, *matrix)
    for decoder in INSTALLED:
        [frame] = decode_frames(data, [1], decoder)
        assert frame.shape == expected.shape, decoder
        assert np.abs(frame.astype(int) - expected).mean() < 1, decoder
    info = probe(data)
    assert (info.height, info.width) == expected.shape[:2]
    packed = transcode(data, EncodeProfile(crf=5))
    [frame] = decode_frames(packed.data, [1], "pyav")
    assert np.abs(frame.astype(int) - expected).mean() < 6
    assert not probe(packed.data).mirrored
    determinant = matrix[0] * matrix[3] - matrix[1] * matrix[2]
    assert info.mirrored == (determinant < 0)
