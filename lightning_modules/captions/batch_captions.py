"""The captions of a batch's videos."""

import random

from datamodules.batch import ClipBatch


def captions_of(batch: ClipBatch) -> list[list[str]]:
    """The captions of each video; raises ValueError if the batch has none."""
    if batch.captions is None:
        raise ValueError("data.init_args.captions=false: a VideoDescriber needs captions; set it to true")
    return batch.captions


def draw_captions(batch: ClipBatch, seed: int) -> list[str]:
    """One caption for each clip, drawn from those of its video; equal seeds draw equally."""
    captions = captions_of(batch)
    draw = random.Random(seed)
    videos = batch.video_index.tolist() if batch.videos_of_clips is None else batch.videos_of_clips
    return [draw.choice(captions[video]) for video in videos]
