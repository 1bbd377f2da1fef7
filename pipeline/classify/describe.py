"""`python -m pipeline describe`: any video files, a sentence about each."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from datamodules.storage.plain_text import printable
from datamodules.video.decoding import Decoder, Source
from lightning_modules import VideoDescriber
from pipeline.classify.video_input import VideoClips, choose_clips, find_videos, preprocessing_of, process_videos
from pipeline.inference.trained_checkpoint import open_checkpoint


def describe(
    videos: list[str],
    checkpoint: Path,
    beam_size: int | None = None,
    json: bool = False,
    num_clips: int = 10,
    decoder: Decoder = "auto",
    allow: list[str] | None = None,
) -> None:
    """Say in a sentence what is to be seen in video files, with a checkpoint of a VideoDescriber.

    It sees `num_clips` clips spread over a video, as in its training, and describes the mean of what it made of them.

    Args:
        videos: files, or folders of them.
        checkpoint: file that `fit` wrote.
        beam_size: beginnings that beam search keeps, 1 is greedy; default: the checkpoint's.
        json: print one JSON object a line instead: video, caption and log_probability, or error.
        num_clips: clips a video.
        decoder: auto, pyav, decord or torchcodec.
        allow: modules that the checkpoint's model class may come from, besides lightning_modules.

    Raises:
        FileNotFoundError: no such video or checkpoint.
        ValueError: a checkpoint of another network; or some of the videos could not be decoded, which are named, after
            all others were described.
    """
    if beam_size is not None and beam_size < 1:
        raise ValueError(f"beam_size={beam_size}: must be at least 1")
    paths = list(find_videos(videos))
    trained = open_checkpoint(checkpoint, allow, VideoDescriber)
    model, looking = cast(VideoDescriber, trained.model), preprocessing_of(trained, num_clips, decoder)

    def tell(source: Source) -> dict[str, Any]:
        with torch.inference_mode():
            [caption], scores = model.say(_states(model, choose_clips(looking, source)), beam_size)
        return {"caption": caption, "log_probability": round(float(scores[0]), 6)}

    process_videos(paths, looking, tell, None if json else _in_words)


def _states(model: VideoDescriber, clips: VideoClips) -> tuple[Tensor, ...]:
    """What the network makes of a video, averaged over all of its clips, of which some are held at a time."""
    sums: list[Tensor] = []
    for piece in clips.pieces():
        parts = [len(piece) * part.double() for part in model.video_states(ClipBatch.of_video(piece))]
        sums = [sum_ + part for sum_, part in zip(sums, parts, strict=True)] if sums else parts
    return tuple((sum_ / len(clips.frame_numbers)).to(model.mean.dtype) for sum_ in sums)


def _in_words(outcome: dict[str, Any]) -> str:
    return f"{printable(outcome['video'])}\n  {outcome.get('caption', 'cannot be decoded')}"
