"""Encoding of arrays: key frames, settings, reproducible bytes, frame rates, and sizes."""

import numpy as np
import pytest

from datamodules.encoding.transcoding import (
    EncodeProfile,
    encode_frames,
    target_size,
    transcode,
)
from datamodules.video.decoding import (
    VideoInfo,
    probe,
)
from tests.datamodules.encoding.test_transcoding import gray_steps, numbers, packets


def test_encoded_frames_have_key_frames_where_asked_and_no_reordering():
    data = encode_frames(gray_steps(20), 25.0, key_frame_interval=8)
    table = packets(data)
    assert [index for index, (_, _, is_key) in enumerate(table) if is_key] == [0, 8, 16]
    assert all(pts == dts for pts, dts, _ in table)
    assert numbers(data) == list(range(20))
    assert probe(data) == VideoInfo(20, 25.0, 64, 48, 0.8, 0, "h264")


@pytest.mark.parametrize("fast", [True, False])
def test_what_takes_long_to_decode_is_left_out_unless_wanted(fast):
    data = transcode(encode_frames(gray_steps(4), 10.0), EncodeProfile(short_side=48, fast_decode=fast)).data
    settings = [b"cabac=0", b"deblock=0", b"weightp=0"] if fast else [b"cabac=1", b"deblock=1", b"weightp=1"]
    assert all(setting in data for setting in settings)  # x264 writes its settings into the file
    assert numbers(data) == [0, 1, 2, 3]


def test_a_cut_in_the_scene_adds_no_key_frame():
    generator = np.random.default_rng(0)
    frames = [np.broadcast_to(generator.integers(0, 256, 3, np.uint8), (48, 64, 3)) for _ in range(16)]
    assert [is_key for _, _, is_key in packets(encode_frames(frames, 10.0))] == [True] + [False] * 15


def test_bytes_are_the_same_every_time():
    assert encode_frames(gray_steps(20), 25.0) == encode_frames(iter(gray_steps(20)), 25.0)
    source = encode_frames(gray_steps(20), 30.0)
    profile = EncodeProfile(short_side=32)
    assert transcode(source, profile).data == transcode(source, profile).data


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 12.5, 7.0])
def test_frame_rates_survive(fps):
    info = probe(encode_frames(gray_steps(10), fps))
    assert info.fps == pytest.approx(fps, abs=1e-6)
    assert info.duration_s == pytest.approx(10 / fps, rel=1e-3)


@pytest.mark.parametrize(
    ("width", "height", "short", "expected"),
    [
        (340, 256, 128, (170, 128)),
        (256, 340, 128, (128, 170)),
        (101, 75, 256, (100, 74)),
        (1920, 1080, 256, (456, 256)),
    ],
)
def test_target_size(width, height, short, expected):
    assert target_size(width, height, short) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: encode_frames([], 25.0), "frames is empty"),
        (lambda: encode_frames([np.zeros((47, 64, 3), np.uint8)], 25.0), "64x47: both sides must be even"),
        (lambda: encode_frames([np.zeros((48, 64, 3), np.float32)], 25.0), "float32"),
        (lambda: encode_frames(gray_steps(1) + gray_steps(1, 32, 32), 25.0), "must all be uint8"),
        (lambda: encode_frames(gray_steps(1), 0.0), "fps=0.0"),
        (lambda: EncodeProfile(short_side=0), "short_side=0"),
        (lambda: EncodeProfile(key_frame_interval=0), "key_frame_interval=0"),
        (lambda: EncodeProfile(crf=52), "crf=52"),
        (lambda: EncodeProfile(preset="best"), "preset='best'"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_profile_is_plain_data():
    assert EncodeProfile(fps=10.0).as_dict() == {
        "short_side": 256,
        "fps": 10.0,
        "key_frame_interval": 16,
        "crf": 23,
        "preset": "veryfast",
        "fast_decode": True,
        "square_pixels": False,
    }
