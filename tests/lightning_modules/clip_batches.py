"""Batches of made-up clips whose class is the motion of a bright bar: down or up."""

import torch

from datamodules.batch import ClipBatch


def moving_bars(num_videos: int, clips_per_video: int = 1, num_frames: int = 16, size: int = 32) -> ClipBatch:
    """Videos of class 0 move a bar down, those of class 1 up; every clip starts elsewhere."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.zeros(num_videos * clips_per_video, num_frames, size, size, 3, dtype=torch.uint8)
    index = torch.arange(num_videos).repeat_interleave(clips_per_video)
    labels = torch.arange(num_videos) % 2
    for clip, video in enumerate(index.tolist()):
        start = int(torch.randint(size, (1,), generator=generator))
        for frame in range(num_frames):
            row = (start + (2 * frame if labels[video] == 0 else -2 * frame)) % size
            clips[clip, frame, row] = 255
    return ClipBatch(
        clips=clips,
        video_index=index,
        labels=labels,
        keys=[f"video{number}" for number in range(num_videos)],
        rows=torch.arange(num_videos),
        clip_times=torch.zeros(len(index), 2, dtype=torch.float64),
    )
