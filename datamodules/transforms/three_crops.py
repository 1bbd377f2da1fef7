"""Three-crop testing: layout of the crops that workers send, and cutting of the crops on the device.

Three squares along the longer side of a clip overlap unless its aspect ratio exceeds 3 : 1. A worker therefore sends
the window that contains all three, and the squares are cut on the device, where copying is cheap. All windows have one
side of the crop size S; portrait windows are transposed, so that S is the height of all, and all are padded to the
longest:

    clip 0, 112 x 149   ─▶  |            149|........|      \
    clip 1, 199 x 112   ─▶  |           transposed   199|       }  uint8 (N, T, 112, 199, C)
    clip 2, 112 x 112   ─▶  |      112|..............|      /
"""

import torch
from torch import Tensor

from datamodules.batch import Allocate, ClipBatch, Window
from datamodules.sampling.crop_windows import crop_offsets


def pad_and_stack(clips: list[Tensor], allocate: Allocate) -> Tensor:
    """Stacks windows with one side of S into one tensor, padded with 0 to the longest.

    Args:
        clips: at least one uint8 (T, S, L, C) or, in portrait format, (T, L, S, C), with any L >= S.
        allocate: allocates the tensor that they are written to.

    Returns:
        uint8 (N, T, S, longest L, C).
    """
    landscape = [clip.transpose(1, 2) if _is_portrait(clip) else clip for clip in clips]
    longest = max(clip.shape[2] for clip in landscape)
    frames, side, _, channels = landscape[0].shape
    stacked = allocate((len(landscape), frames, side, longest, channels))
    for output, clip in zip(stacked, landscape, strict=True):
        output[:, :, : clip.shape[2]] = clip
        output[:, :, clip.shape[2] :] = 0
    return stacked


def _is_portrait(clip: Tensor) -> bool:
    return clip.shape[1] > clip.shape[2]


def cut_crops(batch: ClipBatch) -> ClipBatch:
    """Cuts the crops from the clips of a batch; a batch without crops to cut is returned unchanged.

    The crops equal those of `datamodules.transforms.resize_and_crop.spatial_crops`, bit for bit, on any device.

    Returns:
        The batch with clips uint8 (N * crops, T, S, S, C), all crops of a clip in succession, from left to right or
        from top to bottom; `video_index`, `clip_times`, `frame_numbers`, `frame_labels` and `windows` are
        repeated to match.
    """
    count = batch.crops_to_cut
    if count == 1:
        return batch
    crops: list[Tensor] = []
    windows: list[Window] = []
    for clip, window in zip(batch.clips, batch.windows or [], strict=True):
        side = min(window.height, window.width)
        for offset in crop_offsets(max(window.height, window.width) - side):
            crop = clip[:, :, offset : offset + side]
            if window.height > window.width:
                crops.append(crop.transpose(1, 2))
                windows.append(window._replace(top=window.top + offset, height=side))
            else:
                crops.append(crop)
                windows.append(window._replace(left=window.left + offset, width=side))
    numbers, labels = batch.frame_numbers, batch.frame_labels
    return batch._replace(
        clips=torch.stack(crops) if crops else batch.clips,
        video_index=batch.video_index.repeat_interleave(count),
        clip_times=batch.clip_times.repeat_interleave(count, dim=0),
        frame_numbers=None if numbers is None else numbers.repeat_interleave(count, dim=0),
        frame_labels=None if labels is None else labels.repeat_interleave(count, dim=0),
        windows=windows,
        crops_to_cut=1,
    )
