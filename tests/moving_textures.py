"""Videos of a texture that moves as told, for tests of optical flow."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from datamodules.encoding.transcoding import encode_frames

MOTIONS = {"move_right": (3, 0), "move_left": (-3, 0), "move_down": (0, 3), "move_up": (0, -3)}


def moving_texture(
    motion: tuple[int, int], num_frames: int = 6, size: tuple[int, int] = (64, 96), seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Frames of a smooth random texture that moves by (right, down) pixels a frame: uint8 (T, H, W, 3)."""
    right, down = motion
    reach = num_frames * max(abs(right), abs(down), 1)
    height, width = size
    noise = gaussian_filter(np.random.default_rng(seed).random((height + 2 * reach, width + 2 * reach)), 2)
    texture = ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)
    tops, lefts = (reach - step * np.arange(num_frames) for step in (down, right))
    frames = [texture[top : top + height, left : left + width] for top, left in zip(tops, lefts, strict=True)]
    return np.repeat(np.stack(frames)[..., None], 3, axis=3)


def moving_video(
    motion: tuple[int, int], num_frames: int = 6, size: tuple[int, int] = (64, 96), seed: int = 0
) -> bytes:
    """The same as an mp4 of 10 frames a second, nearly lossless."""
    return encode_frames(moving_texture(motion, num_frames, size, seed), 10.0, crf=5)
