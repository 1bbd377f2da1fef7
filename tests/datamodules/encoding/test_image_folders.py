"""Folders of images encoded as videos: every image a frame, at the given rate, in its own colors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.annotations.segments import Segment
from datamodules.encoding.image_folders import transcode_images
from datamodules.encoding.transcoding import EncodeProfile
from datamodules.video.decoding import OUT_OF_RANGE, DecodeError, decode_frames, probe
from tests.datamodules.encoding.test_transcoding import gray_steps, numbers


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for number, picture in enumerate(gray_steps(24), 1):
        Image.fromarray(picture).save(tmp_path / f"{number:05d}.png")
    return str(tmp_path)


def test_every_image_is_a_frame(folder: str) -> None:
    large, small = transcode_images(folder, (EncodeProfile(), EncodeProfile(short_side=32)), 12.0)
    assert numbers(large.data) == numbers(small.data) == list(range(24))
    assert large.info == probe(large.data)
    assert (large.info.fps, large.info.duration_s, large.info.width, small.info.height) == (12.0, 2.0, 64, 32)
    assert (large.source_start, large.source_end) == (None, None)
    assert large.frame_hashes
    assert transcode_images(folder, (EncodeProfile(),), 12.0) == [large]


def test_parts_and_another_rate(folder: str) -> None:
    (part,) = transcode_images(folder, (EncodeProfile(),), 12.0, Segment(0.5, 1.0))
    assert numbers(part.data) == list(range(6, 12))
    assert (part.source_start, part.source_end, part.source_share) == (0.5, 1.0, 0.25)
    (part,) = transcode_images(folder, (EncodeProfile(),), 12.0, Segment(start_frame=20, end_frame=24))
    assert numbers(part.data) == list(range(20, 24))
    with pytest.raises(DecodeError) as caught:
        transcode_images(folder, (EncodeProfile(),), 12.0, Segment(start_frame=24, end_frame=30))
    assert caught.value.reason == OUT_OF_RANGE
    (slower,) = transcode_images(folder, (EncodeProfile(fps=6.0),), 12.0)
    assert (slower.info.num_frames, slower.info.fps) == (12, 6.0)


def test_colors_are_kept(tmp_path: Path) -> None:
    colors = [(230, 20, 20), (20, 200, 30), (30, 40, 220), (240, 240, 240), (10, 10, 10)]
    for number, color in enumerate(colors):
        Image.new("RGB", (64, 48), color).save(tmp_path / f"{number}.png")
    (video,) = transcode_images(str(tmp_path), (EncodeProfile(crf=5),), 5.0)
    shown = decode_frames(video.data, range(5), "pyav").mean(axis=(1, 2))
    assert np.abs(shown - np.array(colors)).max() <= 6
