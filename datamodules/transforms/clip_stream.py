"""The clips of a video one after the other, each frame resized and cropped as soon as it is decoded.

What is held are some decoded frames and the crops of those clips that are not whole yet, so that neither a long video
nor one of large frames fills the memory.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Window
from datamodules.sampling.clip_sampling import Integers
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import Source, iterate_frame_chunks


def iterate_clips(
    source: Source, frame_numbers: Integers, transform: EvalTransform, decoder: str = "auto"
) -> Iterator[tuple[Tensor, Window]]:
    """Decodes the clips of a video in one pass.

    Memory is bounded where clips that follow each other begin ever later, as those of
    `datamodules.sampling.clip_sampling` do.

    Args:
        source: the bytes of a video file, or its path; of a path the file is not held either.
        frame_numbers: int64 (N, T), the frames of each clip; N and T at least 1.
        transform: frames to the crop, or to the window that holds the crops.
        decoder: `auto`, `pyav`, `decord` or `torchcodec`.

    Yields:
        Clip by clip, uint8 (T, H, W, C), and the window of the resized frames that it shows.

    Raises:
        DecodeError: the video does not decode, or has too few frames; clips before that have been given.
    """
    wanted, places = np.unique(frame_numbers, return_inverse=True)
    last_clip = np.zeros(len(wanted), np.int64)  # that shows each frame
    np.maximum.at(last_clip, places.reshape(-1), np.repeat(np.arange(len(frame_numbers)), frame_numbers.shape[1]))
    ends = frame_numbers.max(axis=1)
    held: dict[int, Tensor] = {}
    clip = 0
    for numbers, frames in iterate_frame_chunks(source, wanted.tolist(), decoder):
        cropped, window = transform(torch.from_numpy(frames))
        held.update(zip(numbers, cropped.unbind(), strict=True))
        while clip < len(ends) and ends[clip] <= numbers[-1]:
            shown = frame_numbers[clip].tolist()
            yield torch.stack([held[number] for number in shown]), window
            for number in set(shown):
                if last_clip[np.searchsorted(wanted, number)] == clip:
                    del held[number]
            clip += 1
