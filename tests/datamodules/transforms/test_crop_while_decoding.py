"""Windows cut while decoding are, bit for bit, those cut out of whole frames."""

import numpy as np
import pytest
import torch

from datamodules.batch import Window
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.view_maker import ViewMaker
from datamodules.transforms.crop_while_decoding import UnsupportedFramesError, decode_windows
from datamodules.video.decoding import decode_frames
from datamodules.video.mp4_writer import encode_frames


def moving_noise(count: int, height: int, width: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    canvas = generator.integers(0, 256, (height, width + 4 * count, 3), dtype=np.uint8)
    return [np.ascontiguousarray(canvas[:, 4 * t : 4 * t + width]) for t in range(count)]


@pytest.fixture(scope="module")
def video() -> bytes:
    return encode_frames(moving_noise(40, 64, 86), 25.0)


def cut(data: bytes, numbers: np.ndarray, windows: list[Window]) -> list[np.ndarray]:
    out = [np.zeros((numbers.shape[1], window.height, window.width, 3), np.uint8) for window in windows]
    decode_windows(data, numbers, windows, out)
    return out


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    "place", [(0, 0, 64, 86), (1, 3, 33, 47), (2, 5, 32, 32), (7, 4, 56, 41), (0, 85, 64, 1), (63, 0, 1, 86)]
)
def test_is_whole_frames_cut_afterwards(video: bytes, place: tuple[int, int, int, int], mirrored: bool):
    window = Window(64, 86, *place, mirrored)
    numbers = np.array([[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], [39, 0, 17, 17, 33, 2, 1, 30, 31, 32, 5]])
    whole = decode_frames(video, numbers.ravel().tolist(), "pyav").reshape(2, 11, 64, 86, 3)
    expected = whole[:, :, window.top : window.top + window.height, window.left : window.left + window.width]
    expected = expected[:, :, :, ::-1] if mirrored else expected
    for clip, right in zip(cut(video, numbers, [window] * 2), expected, strict=True):
        assert (clip == right).all()


def test_each_clip_has_its_own_window(video: bytes):
    numbers = np.arange(20).reshape(2, 10) // 2  # they share frames
    windows = [Window(64, 86, 1, 1, 32, 32, True), Window(64, 86, 30, 54, 32, 32)]
    whole = decode_frames(video, numbers.ravel().tolist(), "pyav").reshape(2, 10, 64, 86, 3)
    first, second = cut(video, numbers, windows)
    assert (first == whole[0, :, 1:33, 1:33][:, :, ::-1]).all()
    assert (second == whole[1, :, 30:62, 54:86]).all()


def test_what_it_cannot_cut_is_left_to_the_decoders(video: bytes):
    numbers = np.arange(8)[None]
    for data, window in (
        (video, Window(64, 88, 0, 0, 32, 32)),  # another size than the index says
        (video[: len(video) // 2], Window(64, 86, 0, 0, 32, 32)),
        (b"no video", Window(64, 86, 0, 0, 32, 32)),
    ):
        with pytest.raises(UnsupportedFramesError):
            cut(data, numbers, [window])
    with pytest.raises(UnsupportedFramesError):
        cut(video, numbers + 40, [Window(64, 86, 0, 0, 32, 32)])


@pytest.mark.parametrize(
    "settings", [{}, {"clips_per_video": 2, "flip_probability": 0.9}, {"random_resized_crop": True}]
)
def test_training_batches_are_those_of_whole_frames(motion_dataset, monkeypatch, settings):
    data = ShardedVideoDataModule(
        str(motion_dataset),
        batch_size=4,
        num_frames=8,
        crop_size=32,
        sided_classes="mirror",
        decoder="pyav",
        num_workers=0,
        **settings,
    )
    loader, taken = data.train_dataloader(), []
    cut_while_decoding = ViewMaker._crop_while_decoding

    def noted(*arguments):
        taken.append(cut_while_decoding(*arguments))
        return taken[-1]

    monkeypatch.setattr(ViewMaker, "_crop_while_decoding", noted)
    fast = list(loader)
    assert len(taken) == 40
    assert None not in taken
    monkeypatch.setattr(ViewMaker, "_crop_while_decoding", lambda *arguments: None)
    slow = list(loader)
    assert len(fast) == len(slow) == 10
    for one, other in zip(fast, slow, strict=True):
        assert torch.equal(one.clips, other.clips)
        assert one.windows == other.windows
        assert one.seeds == other.seeds
        assert one.keys == other.keys
        assert torch.equal(one.frame_numbers, other.frame_numbers)


def test_test_batches_are_those_of_whole_frames(motion_dataset, monkeypatch):
    data = ShardedVideoDataModule(
        str(motion_dataset),
        batch_size=4,
        num_frames=8,
        crop_size=48,
        num_clips=2,
        num_crops=3,
        decoder="pyav",
        num_workers=0,
    )
    fast = list(data.test_dataloader())
    monkeypatch.setattr(ViewMaker, "_crop_while_decoding", lambda *arguments: None)
    for one, other in zip(fast, data.test_dataloader(), strict=True):
        assert torch.equal(one.clips, other.clips)
        assert one.windows == other.windows
