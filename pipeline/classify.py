"""`python -m pipeline classify`: any video files, top classes with names and probabilities."""

from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from datamodules.batch import ClipBatch
from datamodules.clips import ClipSampler, ClipShape
from datamodules.decoding import DecodeError, decode_frames, describe_decoder, probe, resolve_decoder
from datamodules.transforms import EvalTransform
from datamodules.video import Decoder
from datamodules.video_files import walk_videos
from lightning_modules import VideoClassifier
from lightning_modules.pretrained import find_published
from pipeline.trained import open_checkpoint

_FRAMES_AT_ONCE = 256  # of a network that takes any number: about 10 s of video, 2 GB of activations in I3D


class Looking(NamedTuple):
    """A network and how it is to see videos.

    Attributes:
        model: in evaluation mode.
        sampler: which frames make the clips of a video.
        transform: uint8 frames to the crop that the network takes.
        decoder: name, resolved.
    """

    model: VideoClassifier
    sampler: ClipSampler
    transform: EvalTransform
    decoder: str


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
    paths = list(_files(videos))
    looking = _looking(checkpoint, weights, num_clips, resolve_decoder(decoder), allow)
    failed = []
    for path in paths:
        outcome: dict[str, Any] = {"video": str(path)}
        try:
            scores = score(looking, path.read_bytes())
            outcome["top"] = _best(scores, looking.model.class_names, top)
        except DecodeError as error:
            failed.append(f"{path} ({error})")
            outcome["error"] = str(error)
        outcome["decoder"] = describe_decoder(looking.decoder)
        print(dumps(outcome) if json else _in_words(outcome), flush=True)
    if failed:
        raise ValueError(f"{len(failed)} of {len(paths)} videos could not be decoded: {'; '.join(failed)}")


def score(looking: Looking, video: bytes) -> np.ndarray:
    """Probabilities of the classes, averaged over a video's clips: float32 (K,).

    Args:
        looking: network and clips.
        video: bytes of the file.

    Raises:
        DecodeError: the bytes are no video that can be decoded.
    """
    info = probe(video)
    clips = looking.sampler(info.num_frames, info.fps, np.random.default_rng(0))  # nothing here is random
    frames = torch.from_numpy(decode_frames(video, clips.ravel().tolist(), looking.decoder))
    with torch.inference_mode():
        scores = [_probabilities(looking, clip) for clip in torch.split(frames, clips.shape[1])]
        return torch.stack(scores).mean(0).numpy()


def _probabilities(looking: Looking, clip: torch.Tensor) -> torch.Tensor:
    crop, _ = looking.transform(clip)
    none = torch.zeros(1, dtype=torch.int64)
    times = torch.zeros(1, 2, dtype=torch.float64)
    batch = ClipBatch(clips=crop[None], video_index=none, labels=none, keys=[""], rows=none, clip_times=times)
    return looking.model.video_scores(batch)[0]


def _looking(
    checkpoint: Path | None, weights: str | None, num_clips: int, decoder: str, allow: list[str] | None
) -> Looking:
    if (checkpoint is None) == (weights is None):
        raise ValueError("give either --checkpoint, a file, or --weights, a name of `python -m pipeline weights list`")
    trained = open_checkpoint(checkpoint or Path(find_published(str(weights)).name), allow)
    clips: dict[str, Any] = {"resize": None, "frame_interval": 1, "fps": None, "short_videos": "loop"} | trained.clips
    if not {"num_frames", "crop_size"} <= clips.keys():
        raise ValueError(f"checkpoint {str(checkpoint)!r} does not say what its clips were like")
    whole = weights is not None and clips["fps"] is not None
    shape = ClipShape(1 if whole else clips["num_frames"], clips["frame_interval"], clips["fps"], clips["short_videos"])
    sampler = ClipSampler(shape, "whole" if whole else "uniform", num_clips, max_frames=_FRAMES_AT_ONCE)
    return Looking(trained.model, sampler, EvalTransform(clips["crop_size"], clips["resize"]), decoder)


def _files(videos: list[str]) -> Iterator[Path]:
    for path in map(Path, videos):
        if path.is_dir():
            found = sorted(walk_videos(path))
            if not found:
                raise FileNotFoundError(f"videos={path}: no video in this folder")
            yield from (path / name for name in found)
        elif path.is_file():
            yield path
        else:
            raise FileNotFoundError(f"videos={path}: there is no such file or folder")


def _best(scores: np.ndarray, names: list[str], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:top]
    return [{"class": names[place], "probability": round(float(scores[place]), 6)} for place in order]


def _in_words(outcome: dict[str, Any]) -> str:
    lines = [f"  {one['probability']:6.1%}  {one['class']}" for one in outcome.get("top", ())]
    return "\n".join([outcome["video"], *(lines or ["  cannot be decoded"])])
