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
from lightning_modules.pretrained import read_weights
from pipeline.trained import open_checkpoint
from pipeline.weights import clip_settings

_FRAMES_AT_ONCE = 256  # of a network that takes any number: about 10 s of video, 2 GB of activations in I3D


class Looking(NamedTuple):
    """A network and how it is to see videos.

    Attributes:
        model: in evaluation mode.
        clips: settings of the data module: num_frames, frame_interval, fps, crop_size, resize, short_videos.
        whole: the network takes any number of frames, and is shown all of them.
    """

    model: VideoClassifier
    clips: dict[str, Any]
    whole: bool


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
    looking = _looking(checkpoint, weights, allow)
    chosen = resolve_decoder(decoder)
    failed = []
    for path in paths:
        outcome: dict[str, Any] = {"video": str(path)}
        try:
            scores = score(looking, path.read_bytes(), num_clips, chosen)
            outcome["top"] = _best(scores, looking.model.class_names, top)
        except DecodeError as error:
            failed.append(f"{path} ({error})")
            outcome["error"] = str(error)
        outcome["decoder"] = describe_decoder(chosen)
        print(dumps(outcome) if json else _in_words(outcome), flush=True)
    if failed:
        raise ValueError(f"{len(failed)} of {len(paths)} videos could not be decoded: {'; '.join(failed)}")


def score(looking: Looking, video: bytes, num_clips: int, decoder: str) -> np.ndarray:
    """Probabilities of the classes: float32 (K,).

    Args:
        looking: network and clips.
        video: bytes of the file.
        num_clips: clips, where the network takes clips of one length.
        decoder: resolved name.

    Raises:
        DecodeError: the bytes are no video that can be decoded.
    """
    info = probe(video)
    settings = looking.clips
    transform = EvalTransform(settings["crop_size"], settings["resize"])
    numbers = _frame_numbers(looking, info.num_frames, info.fps, num_clips)
    frames = [decode_frames(video, clip.tolist(), decoder) for clip in numbers]
    clips = [transform(torch.from_numpy(clip))[0] for clip in frames]
    weights = torch.tensor([len(clip) for clip in clips], dtype=torch.float32)
    with torch.inference_mode():
        scores = torch.stack([_probabilities(looking.model, clip) for clip in clips])
    return ((scores * weights[:, None]).sum(0) / weights.sum()).numpy()


def _probabilities(model: VideoClassifier, clip: torch.Tensor) -> torch.Tensor:
    none = torch.zeros(1, dtype=torch.int64)
    batch = ClipBatch(clip[None], none, none, [""], none, torch.zeros(1, 2, dtype=torch.float64))
    return model.video_scores(batch)[0]


def _frame_numbers(looking: Looking, num_frames: int, fps: float, num_clips: int) -> list[np.ndarray]:
    """Frames of each clip, int64 (T,): all of the video at the network's rate, in pieces, or `num_clips` clips."""
    settings = looking.clips
    if looking.whole:
        rate = settings["fps"] or fps
        count = max(1, int(num_frames / fps * rate + 1e-6))
        shape = ClipShape(count, 1, rate, "repeat_last")
        [numbers] = ClipSampler(shape, "uniform", 1)(num_frames, fps, np.random.default_rng(0))
        return list(np.array_split(numbers, -(-count // _FRAMES_AT_ONCE)))
    shape = ClipShape(
        settings["num_frames"],
        settings.get("frame_interval", 1),
        settings.get("fps"),
        settings.get("short_videos", "loop"),
    )
    return list(ClipSampler(shape, "uniform", num_clips)(num_frames, fps, np.random.default_rng(0)))


def _looking(checkpoint: Path | None, weights: str | None, allow: list[str] | None) -> Looking:
    if (checkpoint is None) == (weights is None):
        raise ValueError("give either --checkpoint, a file, or --weights, a name of `python -m pipeline weights list`")
    if checkpoint is not None:
        trained = open_checkpoint(checkpoint, allow)
        if not {"num_frames", "crop_size"} <= trained.clips.keys():
            raise ValueError(f"checkpoint {str(checkpoint)!r} does not say what its clips were like")
        return Looking(trained.model, {"resize": None} | trained.clips, whole=False)
    told = read_weights(str(weights))
    if told.published is None:
        raise ValueError(f"weights={weights!r}: give a published name; for a file, use --checkpoint")
    if told.init_args.get("in_channels", 3) != 3:
        raise ValueError(f"weights={weights!r}: takes optical flow, and this reads RGB")
    model = VideoClassifier.from_pretrained(str(weights))
    return Looking(model, clip_settings(told.published), whole=told.published.fps is not None)


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
