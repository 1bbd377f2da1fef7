"""Folders of images: order, numbering, and what is refused with which reason."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.video.image_folder import is_image_folder, iterate_images, list_images
from datamodules.video.video_container import (
    ABSENT,
    DAMAGED,
    FRAME_NUMBERS,
    MIXED_SIZES,
    NO_FRAMES,
    UNREADABLE,
    DecodeError,
)


def save(path: Path, level: int | tuple[int, int, int] = 0, size: tuple[int, int] = (48, 32), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    color = (level, level, level) if isinstance(level, int) else level
    Image.new("RGB", size, color).save(path, **options)


def names(folder: Path) -> list[str]:
    return [Path(path).name for path in list_images(folder)]


def pixels(folder: Path) -> np.ndarray:
    return np.stack([frame.to_ndarray(format="rgb24") for frame in iterate_images(list_images(folder))])


def reason_of(folder: Path) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        list(iterate_images(list_images(folder)))
    return caught.value.reason, str(caught.value)


def test_natural_order_of_all_kinds_and_nothing_else(tmp_path: Path) -> None:
    for number, suffix in ((1, "jpg"), (2, "JPEG"), (3, "png"), (10, "webp")):
        for step in range(number, 11, 10) if number == 10 else (number,):
            save(tmp_path / f"img{step}.{suffix}", 20 * step)
    for number in range(4, 10):
        save(tmp_path / f"img{number}.png", 20 * number)
    for other in (".DS_Store", "._img1.jpg", "notes.txt", "flow.npy"):
        (tmp_path / other).write_bytes(b"other")
    assert names(tmp_path) == ["img1.jpg", "img2.JPEG", *(f"img{n}.png" for n in range(3, 10)), "img10.webp"]
    levels = pixels(tmp_path).mean(axis=(1, 2, 3))
    assert np.abs(levels - 20 * np.arange(1, 11)).max() <= 2
    assert is_image_folder(tmp_path)
    assert not is_image_folder(tmp_path / "img1.jpg")


@pytest.mark.parametrize(
    "numbered",
    [
        ["00001.jpg", "00002.jpg", "00003.jpg"],
        ["frame_0.png", "frame_5.png", "frame_10.png"],  # every fifth
        ["8.jpg", "9.jpg", "10.jpg"],
        ["t1.25.jpg", "t2.50.jpg", "t10.0.jpg"],  # times, which count nothing
        ["only.png"],
    ],
)
def test_numberings_that_are_whole(tmp_path: Path, numbered: list[str]) -> None:
    for name in reversed(numbered):
        save(tmp_path / name)
    assert names(tmp_path) == numbered


@pytest.mark.parametrize(
    ("numbered", "words"),
    [
        (["1.jpg", "2.jpg", "5.jpg", "7.jpg"], "5.jpg follows 2.jpg: 3 images of the numbering missing"),
        (["01.jpg", "02.jpg", "04.jpg"], "04.jpg follows 02.jpg: 1 image of the numbering missing"),
        (["1.jpg", "2.jpg", "2.png"], "2.jpg and 2.png have the same number"),
        (["img_1.jpg", "img_2.jpg", "flow_x_1.jpg", "flow_x_2.jpg"], "are of two series of images"),
        (["1.jpg", "2.jpg", "cover.jpg"], "are of two series of images"),
    ],
)
def test_numberings_that_are_not(tmp_path: Path, numbered: list[str], words: str) -> None:
    for name in numbered:
        save(tmp_path / name)
    reason, message = reason_of(tmp_path)
    assert reason == FRAME_NUMBERS
    assert words in message


def test_images_that_cannot_be_frames(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save(tmp_path / "sizes" / f"{number}.jpg", size=(48, 32) if number < 3 else (50, 32))
        save(tmp_path / "cut" / f"{number}.png", 100)
        save(tmp_path / "text" / f"{number}.jpg")
        save(tmp_path / "link" / f"{number}.jpg")
    assert reason_of(tmp_path / "sizes") == (MIXED_SIZES, "3.jpg is 50x32, the first image, 1.jpg, is 48x32")
    cut = tmp_path / "cut" / "2.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    reason, message = reason_of(tmp_path / "cut")
    assert (reason, message.startswith("2.png is damaged: ")) == (DAMAGED, True)
    (tmp_path / "text" / "2.jpg").write_text("no image")
    assert reason_of(tmp_path / "text") == (DAMAGED, "2.jpg is no image, whatever its suffix")
    (tmp_path / "link" / "2.jpg").unlink()
    (tmp_path / "link" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert reason_of(tmp_path / "link") == (ABSENT, "2.jpg is a link to a file that is not there")
    (tmp_path / "empty").mkdir()
    assert reason_of(tmp_path / "empty")[0] == NO_FRAMES
    assert reason_of(tmp_path / "gone")[0] == UNREADABLE


def test_orientation_gray_palette_and_transparency(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise to be upright
    save(tmp_path / "turned" / "1.jpg", (200, 0, 0), size=(32, 48), exif=exif)
    assert pixels(tmp_path / "turned").shape == (1, 32, 48, 3)
    folder = tmp_path / "modes"
    folder.mkdir()
    ramp = np.full((32, 48), 100, np.uint8)
    Image.fromarray(ramp).save(folder / "1.png")
    Image.fromarray(ramp.astype(np.uint16) * 256).save(folder / "2.png")
    Image.fromarray(ramp).convert("P").save(folder / "3.png")
    Image.fromarray(np.stack([ramp, ramp, ramp, ramp // 2], -1)).save(folder / "4.png")
    assert np.abs(pixels(folder).astype(int) - 100).max() <= 1
