"""Clips sent as planes are, on the device, the pixels that `pixels: rgb` sends."""

from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter

from datamodules.batch import ClipBatch, Window
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.shared_memory import BatchBuffer
from datamodules.transforms.crop_while_decoding import UnsupportedFramesError, decode_planes, decode_windows
from datamodules.transforms.three_crops import pad_and_stack
from datamodules.transforms.yuv420 import color_factors, num_enclosing_pairs, stack_planes, to_rgb
from datamodules.video.mp4_writer import encode_frames
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.datamodules.video.video_kinds import encode

LEVELS = 2  # FFmpeg rounds so much otherwise without x86's instructions; with them nothing differs
BT709, BT601, LIMITED, FULL = 1, 5, 1, 2


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)


def in_ffmpeg(picture: np.ndarray, matrix: int, color_range: int) -> torch.Tensor:
    frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
    frame.colorspace, frame.color_range = matrix, color_range
    return torch.from_numpy(VideoReformatter().reformat(frame, format="rgb24", threads=1).to_ndarray())


def in_torch(picture: np.ndarray, *colors: tuple[int, int]) -> torch.Tensor:
    """The first frame of clips of one picture each, converted together."""
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    batch = ClipBatch.from_clips(torch.from_numpy(picture).expand(len(colors), 1, -1, -1))
    factors = torch.tensor([color_factors(*of) for of in colors], dtype=torch.int32)
    windows = [Window(height, width, 0, 0, height, width)] * len(colors)
    return to_rgb(batch._replace(pixel_format="i420", colors=factors, windows=windows)).clips[:, 0]


def difference(one: torch.Tensor, other: torch.Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


def test_all_levels_are_converted_as_ffmpeg_converts_them():
    picture = random_picture(64, 128)
    colors = [(matrix, of) for matrix in (1, 2, 4, 5, 6, 7) for of in (0, LIMITED, FULL)]
    expected = [in_ffmpeg(picture, *of) for of in colors]
    assert [difference(*pair) <= LEVELS for pair in zip(in_torch(picture, *colors), expected, strict=True)] == [
        True
    ] * 18
    for one, other in pairwise(in_ffmpeg(picture, *of) for of in ((BT709, LIMITED), (BT601, LIMITED), (BT601, FULL))):
        assert difference(one, other) > 10 * LEVELS  # a wrong matrix or range, or exchanged planes, would be seen
    exchanged = np.concatenate([picture[:64], picture[80:], picture[64:80]])
    assert difference(in_torch(exchanged, (BT601, LIMITED))[0], expected[10]) > 10 * LEVELS


def test_factors_of_bt601_by_hand():
    # 255 / 219 and 2 * (1 - 0.299) * 255 / 224, and so on, of 8192.
    assert color_factors(BT601, LIMITED) == (128, 9539, 13075, 16525, -3209, -6660)
    assert color_factors(BT601, FULL) == (0, 8192, 11485, 14516, -2819, -5850)
    assert color_factors(9, LIMITED) is None


def read(data: bytes, windows: list[Window], planar: bool) -> torch.Tensor:
    """Twelve frames of each window, cut, sent and made RGB, with what pads them."""
    numbers = np.arange(12)[None].repeat(len(windows), 0)
    if not planar:
        out = [np.full((12, window.height, window.width, 3), 99, np.uint8) for window in windows]
        decode_windows(data, numbers, windows, out)
        return pad_and_stack([torch.from_numpy(clip) for clip in out], BatchBuffer(None))
    out = [
        np.full((12, 3 * num_enclosing_pairs(one.height), 2 * num_enclosing_pairs(one.width)), 99, np.uint8)
        for one in windows
    ]
    factors = torch.tensor(decode_planes(data, numbers, windows, out), dtype=torch.int32)
    batch = ClipBatch.from_clips(stack_planes([torch.from_numpy(clip) for clip in out], windows, BatchBuffer(None)))
    return to_rgb(batch._replace(pixel_format="i420", colors=factors, windows=windows)).clips


@pytest.fixture(scope="module")
def noise() -> bytes:
    return encode_frames(np.random.default_rng(0).integers(0, 256, (12, 64, 86, 3), dtype=np.uint8), 25.0)


@pytest.mark.parametrize("size", [32, 33])
def test_windows_at_any_place_mirrored_or_not(noise, size):
    places = [(0, 0), (1, 3), (64 - size, 86 - size), (7, 4), (2, 5), (63 - size, 85 - size)]
    windows = [Window(64, 86, *place, size, size, number % 2 == 1) for number, place in enumerate(places)]
    assert difference(read(noise, windows, True), read(noise, windows, False)) <= LEVELS


def test_windows_of_different_length_lie_on_their_side(noise):
    windows = [Window(64, 86, 5, 3, 31, 80), Window(64, 86, 1, 2, 60, 31), Window(64, 86, 3, 1, 32, 31)]
    planar, rgb = (read(noise, windows, planar) for planar in (True, False))
    assert planar.shape == rgb.shape == (3, 12, 31, 80, 3)
    assert difference(planar, rgb) <= LEVELS


def test_a_real_clip(shared_dir, tmp_path):
    video = sorted((shared_dir / "data" / "kinetics_sample" / "videos").glob("*/*.mp4"))[0]
    (tmp_path / "list.csv").write_text(f"path,label\n{video},one\n")
    pack(PackOptions(tmp_path / "shards", [tmp_path / "list.csv"], split="train", short_side=128, processes=1))
    clips = {}
    for pixels in ("rgb", "i420"):
        data = ShardedVideoDataModule(
            str(tmp_path / "shards"), batch_size=1, num_frames=16, crop_size=112, num_clips=2, num_crops=3,
            num_workers=0, pixels=pixels, test_split="train", decoder="pyav",
        )  # fmt: skip
        [batch] = data.test_dataloader()
        assert batch.pixel_format == pixels
        clips[pixels] = data.on_after_batch_transfer(batch, 0).clips
    assert clips["rgb"].shape == (6, 16, 112, 112, 3)
    assert clips["rgb"].float().std() > 10
    assert difference(clips["rgb"], clips["i420"]) <= LEVELS


@pytest.mark.parametrize("workers", [0, 1])
def test_training_batches_are_those_in_rgb_at_half_the_bytes(motion_dataset, workers):
    settings = {"crop_size": 32, "clips_per_video": 2, "flip_probability": 0.5, "sided_classes": "mirror"}
    sides = [
        ShardedVideoDataModule(
            str(motion_dataset), batch_size=4, num_frames=8, pixels=pixels, num_workers=workers, **settings
        )
        for pixels in ("rgb", "i420")
    ]
    assert sides[1].decoder == "pyav"
    for rgb, planar in zip(*(data.train_dataloader() for data in sides), strict=True):
        assert planar.pixel_format == "i420"
        assert planar.clips.nbytes < 0.6 * rgb.clips.nbytes
        made = sides[1].on_after_batch_transfer(planar, 0)
        assert made.pixel_format == "rgb"
        assert difference(made.clips, rgb.clips) <= LEVELS
        assert made.windows == rgb.windows
        assert made.seeds == rgb.seeds
        assert made.keys == rgb.keys
    assert {window.top % 2 for window in rgb.windows} == {0, 1}


@pytest.fixture
def mixed(tmp_path):
    """A dataset of three videos kept as they were: planes, no such planes (4:4:4), too small."""
    kinds = {"a": {}, "b": {"pixels": "yuv444p"}, "c": {"height": 32, "width": 48}}
    for name, options in kinds.items():
        (tmp_path / f"{name}.mp4").write_bytes(encode("libx264", "mp4", **options))
    lines = ["path,label", *(f"{tmp_path}/{name}.mp4,one" for name in kinds)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    pack(PackOptions(tmp_path / "shards", [tmp_path / "list.csv"], split="train", copy=True, processes=1))
    return tmp_path / "shards"


def test_a_batch_with_other_videos_travels_in_rgb(mixed):
    settings = {"num_workers": 0, "crop_size": 48, "shuffle": "none", "val_split": None, "decoder": "pyav"}
    rgb, planar = (
        ShardedVideoDataModule(str(mixed), batch_size=1, num_frames=8, pixels=one, **settings)
        for one in ("rgb", "i420")
    )
    batches = {batch.keys[0]: batch for batch in planar.train_dataloader()}
    formats = sorted(batch.pixel_format for batch in batches.values())
    assert formats == ["i420", "rgb", "rgb"]
    for batch in rgb.train_dataloader():
        made = planar.on_after_batch_transfer(batches[batch.keys[0]], 0)
        assert difference(made.clips, batch.clips) <= LEVELS
        assert made.windows == batch.windows


def test_says_what_does_not_go_together(motion_dataset, noise):
    root = str(motion_dataset)
    for settings, problem in (
        ({"pixels": "yuv"}, "pixels='yuv': must be rgb or i420"),
        ({"pixels": "i420", "decoder": "decord"}, "decoder='decord': only PyAV gives planes"),
        ({"pixels": "i420", "random_resized_crop": True}, "random_resized_crop=true: crops are resized in RGB"),
    ):
        with pytest.raises(ValueError, match=problem):
            ShardedVideoDataModule(root, **settings)
    data = ShardedVideoDataModule(root, pixels="i420", resize=40, crop_size=32, sided_classes="keep")
    with pytest.raises(ValueError, match="frames of 48 x 64 would be resized"):
        data.train_dataloader()
    with pytest.raises(UnsupportedFramesError):
        decode_planes(
            b"no video", np.arange(2)[None], [Window(64, 86, 0, 0, 32, 32)], [np.empty((2, 51, 34), np.uint8)]
        )


def test_a_network_does_not_take_planes(motion_dataset):
    from lightning_modules import C3D

    data = ShardedVideoDataModule(
        str(motion_dataset), batch_size=2, num_frames=16, crop_size=32, num_workers=0, pixels="i420"
    )
    batch = next(iter(data.test_dataloader()))
    with pytest.raises(ValueError, match="the clips are still i420, not rgb"):
        C3D(num_classes=8, width=2, crop_size=32).normalize(batch)
