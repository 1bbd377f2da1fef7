"""Videos of flow: levels by hand, colors, and what a video has after it was encoded and decoded."""

import io

import av
import numpy as np
import pytest

from datamodules.batch import FLOW_MEAN, FLOW_STD
from datamodules.optical_flow.flow_levels import color_flow, draw_channels, flow_displacements, flow_levels
from datamodules.optical_flow.flow_video import encode_flow, num_flow_frames, read_flow
from datamodules.optical_flow.frame_source import ComputedFlow, decode_channels
from datamodules.video.decoding import DecodeError
from tests.moving_textures import moving_video

INNER = np.s_[:, 12:-12, 12:-12]


def test_levels_by_hand() -> None:
    pixels = np.float32([-100, -20, -10, -0.07, 0, 0.07, 0.08, 10, 20, 100])
    assert flow_levels(pixels).tolist() == [1, 1, 64, 128, 128, 128, 129, 192, 255, 255]
    for level in range(1, 256):
        assert flow_levels(flow_displacements(np.array([level], np.uint8))).tolist() == [level]
        # what a network gets is the displacement in twentieths of a pixel
        scaled = (level / 255 - FLOW_MEAN) / FLOW_STD
        assert scaled == pytest.approx(flow_displacements(np.array([level], np.uint8))[0] / 20, abs=1e-6)


def test_opposite_levels_add_up_to_256() -> None:
    pixels = np.random.default_rng(0).uniform(-25, 25, 1000).astype(np.float32)
    assert (flow_levels(pixels).astype(int) + flow_levels(-pixels) == 256).all()


def test_colors_are_directions() -> None:
    motions = np.float32([[0, 0], [20, 0], [-20, 0], [0, 20], [0, -20]])
    still, right, left, down, up = color_flow(flow_levels(motions)).tolist()
    assert still == [255, 255, 255]
    assert right == [255, 0, 0]
    assert left == [0, 255, 255]
    assert down == [128, 255, 0]
    assert up == [128, 0, 255] or up == [127, 0, 255]
    assert color_flow(flow_levels(np.float32([[5, 0], [2.5, 0]]))).tolist() == [[255, 0, 0], [255, 126, 126]]


def test_both_are_drawn_side_by_side() -> None:
    frames = np.random.default_rng(0).integers(1, 256, (2, 4, 6, 5)).astype(np.uint8)
    drawn = draw_channels(frames)
    assert drawn.shape == (2, 4, 12, 3)
    assert np.array_equal(drawn[:, :, :6], draw_channels(frames[..., :3]))
    assert np.array_equal(drawn[:, :, 6:], draw_channels(frames[..., 3:]))


@pytest.mark.parametrize("motion", [(3, 0), (0, -4), (-6, 2)])
def test_a_frame_of_flow_is_the_motion_to_the_next_frame(motion: tuple[int, int]) -> None:
    flow = flow_displacements(read_flow(encode_flow(moving_video(motion, 6), "dis"), range(5)))
    assert flow.shape == (5, 64, 96, 2)
    assert np.abs(flow[INNER].mean((1, 2)) - np.float32(motion)).max() < 0.1
    assert np.abs(flow[INNER] - np.float32(motion)).mean() < 0.15


def test_any_frames_are_those_of_the_whole() -> None:
    data = encode_flow(moving_video((2, 1), 40, size=(32, 48)), "dis")
    whole = read_flow(data, range(39))
    for numbers in ([0], [38], [15, 16, 17], [3, 20, 38]):
        assert np.array_equal(read_flow(data, numbers), whole[numbers])
    assert whole.min() >= 1


def test_computed_flow_of_frames_apart_is_that_to_the_next_frame_of_the_video() -> None:
    source = ComputedFlow("both", moving_video((2, 1), 8), 8)
    whole = decode_channels(source, range(7), "pyav")
    for numbers in ([0], [6], [0, 2, 4, 6], [5, 1, 1]):
        assert np.array_equal(decode_channels(source, numbers, "pyav"), whole[numbers])


def test_the_same_video_gives_the_same_bytes() -> None:
    video = moving_video((2, 1))
    assert encode_flow(video, "dis") == encode_flow(video, "dis")


def test_a_video_of_one_frame_has_one_frame_of_no_motion() -> None:
    data = encode_flow(moving_video((0, 0), 1), "dis")
    assert num_flow_frames(1) == num_flow_frames(2) == 1
    assert set(np.unique(read_flow(data, [0]))) == {128}
    with pytest.raises(DecodeError, match="frame 1 is out of range"):
        read_flow(data, [1])


def test_players_show_x_above_y() -> None:
    with av.open(io.BytesIO(encode_flow(moving_video((4, 0)), "dis"))) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (96, 128)


def test_damaged_flow_is_one_sentence() -> None:
    data = bytearray(encode_flow(moving_video((2, 1)), "dis"))
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    with pytest.raises(DecodeError):
        read_flow(bytes(data), range(5))
    with pytest.raises(DecodeError):
        read_flow(b"no video", [0])
