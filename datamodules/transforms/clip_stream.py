"""Clip stream: decodes the clips of a video one after the other, resizing and cropping each frame as it is decoded.

Memory holds only a chunk of decoded frames and the crops of unfinished clips, so that long videos and videos of large
frames fit.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Window
from datamodules.optical_flow.frame_source import FrameSource, iterate_channel_chunks
from datamodules.sampling.clip_sampling import Integers
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import CHUNK_BYTES


def iterate_clips(
    source: FrameSource, frame_numbers: Integers, transform: EvalTransform, decoder: str = "auto"
) -> Iterator[tuple[Tensor, Window]]:
    """Decodes the clips of a video in one pass.

    Memory is bounded if the clips' start frames ascend, as those of `datamodules.sampling.clip_sampling` do.

    Args:
        source: the bytes of a video file, or its path, which is not loaded into memory; or a video with its flow.
        frame_numbers: int64 (N, T), the frame numbers of each clip; N and T at least 1.
        transform: resizes frames and cuts out the window that contains all crops.
        decoder: `auto`, `pyav`, `decord` or `torchcodec`.

    Yields:
        For each clip, its pixels, uint8 (T, H, W, C), and its window in the resized frames.

    Raises:
        DecodeError: the video does not decode, or has too few frames; earlier clips have been yielded already.
    """
    unique_numbers, positions = np.unique(frame_numbers, return_inverse=True)
    last_clip = np.zeros(len(unique_numbers), np.int64)  # number of the last clip that contains each frame
    np.maximum.at(last_clip, positions.reshape(-1), np.repeat(np.arange(len(frame_numbers)), frame_numbers.shape[1]))
    ends = frame_numbers.max(axis=1)
    cropped_frames: dict[int, Tensor] = {}
    clip = 0
    for numbers, frames in iterate_channel_chunks(source, unique_numbers.tolist(), decoder, CHUNK_BYTES):
        cropped, window = transform(torch.from_numpy(frames))
        cropped_frames.update(zip(numbers, cropped.unbind(), strict=True))
        while clip < len(ends) and ends[clip] <= numbers[-1]:
            numbers_of_clip = frame_numbers[clip].tolist()
            yield torch.stack([cropped_frames[number] for number in numbers_of_clip]), window
            for number in set(numbers_of_clip):
                if last_clip[np.searchsorted(unique_numbers, number)] == clip:
                    del cropped_frames[number]
            clip += 1
