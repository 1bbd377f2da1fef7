"""`python -m pipeline classify`: any video files, top classes with names and probabilities."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from datamodules.batch import ClipBatch
from datamodules.video import Decoder
from lightning_modules import VideoClassifier
from lightning_modules.fetching import find_published
from pipeline.looking import Looking, find_videos, look_at_each, look_like, read_clips
from pipeline.trained import open_checkpoint


def classify(
    videos: list[str],
    checkpoint: Path | None = None,
    weights: str | None = None,
    top: int = 5,
    json: bool = False,
    num_clips: int = 10,
    decoder: Decoder = "auto",
    allow: list[str] | None = None,
) -> None:
    """Say what is done in video files: the most probable classes of each.

    A checkpoint sees `num_clips` clips spread over a video, as in its training; a published I3D sees the whole video at
    25 frames a second, as its authors tested it. Probabilities are averaged over clips.

    Args:
        videos: files, or folders of them.
        checkpoint: file that `fit` wrote.
        weights: instead of a checkpoint: a name of `python -m pipeline weights list`.
        top: classes to print for a video.
        json: print one JSON object a line instead: video, top (a list of class and probability), or error.
        num_clips: clips a video, for networks that take clips of one length.
        decoder: auto, pyav, decord or torchcodec.
        allow: modules that the checkpoint's model class may come from, besides lightning_modules.

    Raises:
        FileNotFoundError: no such video or checkpoint.
        ValueError: neither a checkpoint nor weights, or both; or some of the videos could not be decoded, which are
            named, after all others were classified.
    """
    if top < 1:
        raise ValueError(f"top={top}: must be at least 1")
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips}: must be at least 1")
    paths = list(find_videos(videos))
    if (checkpoint is None) == (weights is None):
        raise ValueError("give either --checkpoint, a file, or --weights, a name of `python -m pipeline weights list`")
    trained = open_checkpoint(checkpoint or Path(find_published(str(weights)).name), allow, VideoClassifier)
    model = cast(VideoClassifier, trained.model)
    looking = look_like(trained, num_clips, decoder, whole=weights is not None and trained.clips.get("fps") is not None)

    def tell(video: bytes) -> dict[str, Any]:
        return {"top": _best(score(model, looking, video), model.class_names, top)}

    look_at_each(paths, looking, tell, None if json else _in_words)


def score(model: VideoClassifier, looking: Looking, video: bytes) -> np.ndarray:
    """Probabilities of the classes, averaged over a video's clips: float32 (K,).

    Args:
        model: in evaluation mode.
        looking: how it is to see the video.
        video: bytes of the file.

    Raises:
        DecodeError: the bytes are no video that can be decoded.
    """
    with torch.inference_mode():  # clip by clip: they may be long
        scores = [model.video_scores(ClipBatch.of_video(clip[None]))[0] for clip in read_clips(looking, video)]
        return torch.stack(scores).mean(0).numpy()


def _best(scores: np.ndarray, names: list[str], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:top]
    return [{"class": names[place], "probability": round(float(scores[place]), 6)} for place in order]


def _in_words(outcome: dict[str, Any]) -> str:
    lines = [f"  {one['probability']:6.1%}  {one['class']}" for one in outcome.get("top", ())]
    return "\n".join([outcome["video"], *(lines or ["  cannot be decoded"])])
