"""Frame hashes: the mirror image's hash is derived, flat frames say nothing, times are even."""

import numpy as np
import pytest

from datamodules.encoding.transcoding import EncodeProfile, encode_frames, inspect, transcode
from datamodules.leakage.perceptual_hash import FLAT, hash_picture, mirror_hashes
from tests.datamodules.leakage.test_split_leakage import moving_texture


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)


def test_the_hash_of_the_mirror_image_needs_no_picture() -> None:
    for seed in range(50):
        derived = mirror_hashes(np.array([hash_picture(picture(seed))], np.uint64))
        assert int(derived[0]) == hash_picture(picture(seed)[:, ::-1])
        assert int(mirror_hashes(derived)[0]) == hash_picture(picture(seed))


def test_a_hash_keeps_under_brightness_and_contrast_and_differs_between_pictures() -> None:
    one = picture(0)
    darker = (one // 2 + 20).astype(np.uint8)
    assert (hash_picture(one) ^ hash_picture(darker)).bit_count() <= 2
    distances = [(hash_picture(one) ^ hash_picture(picture(seed))).bit_count() for seed in range(1, 100)]
    assert min(distances) > 14


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_flat_pictures_say_nothing(level: int) -> None:
    flat = np.full((32, 32), level, np.uint8)
    flat[0, 0] ^= 1
    assert hash_picture(flat) == FLAT
    assert mirror_hashes(np.array([FLAT], np.uint64)).tolist() == [FLAT]


@pytest.mark.parametrize(("num_frames", "fps", "count"), [(60, 10.0, 48), (40, 25.0, 13), (10, 25.0, 4), (1, 25.0, 1)])
def test_hashes_are_taken_at_even_times(num_frames: int, fps: float, count: int) -> None:
    data = encode_frames(moving_texture(0, num_frames), fps)
    for hashes in (inspect(data).frame_hashes, transcode(data, EncodeProfile(short_side=48)).frame_hashes):
        assert len(hashes) == count
        assert FLAT not in hashes
    assert transcode(data, EncodeProfile()) == transcode(data, EncodeProfile())
