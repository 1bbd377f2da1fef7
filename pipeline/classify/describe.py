"""`python -m pipeline describe`: captions of video files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from datamodules.loading.loader_options import DecoderOptions
from datamodules.storage.plain_text import printable
from lightning_modules import VideoDescriber
from pipeline.classify.packed_videos import VideoInput, find_inputs
from pipeline.classify.video_input import (
    VideoClips,
    VideoFileOptions,
    choose_clips,
    preprocessing_of,
    process_videos,
)
from pipeline.inference.inference_options import CheckpointOptions
from pipeline.inference.trained_checkpoint import open_checkpoint


@dataclass(frozen=True)
class DescribeOptions(CheckpointOptions, DecoderOptions, VideoFileOptions):  # the fields of the last base come first
    """Options of `describe`.

    Attributes:
        checkpoint: file of a `VideoDescriber` that `fit` wrote, folder that `publish` wrote, or
            hf://ORG/NAME[@REVISION].
        beam_size: hypotheses that beam search keeps, 1 is greedy; default: the checkpoint's.
        temperature: draw each word at random instead, from the probabilities at this temperature: 1 are the network's,
            lower ones prefer likely words.
        num_samples: captions drawn per video, with a temperature.
        seed: seed of the draws, together with the name of the video.
        json: print one JSON object per line instead: video, caption and log_probability, or error; with a temperature
            samples, a list of captions and log-probabilities.
    """

    checkpoint: Path
    beam_size: int | None = None
    temperature: float | None = None
    num_samples: int = 1
    seed: int = 0
    json: bool = False

    def check(self) -> None:
        """Raises ValueError for a value out of range, or for options of beam search and of sampling together."""
        self.require_at_least(1, "beam_size", "num_samples")
        if self.temperature is None and self.num_samples > 1:
            raise ValueError(
                f"num_samples={self.num_samples}: captions are drawn with a temperature; add --temperature 1"
            )
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature}: must be above 0; --beam-size 1 says the likeliest words")
        if self.temperature is not None and self.beam_size is not None:
            raise ValueError(
                "temperature and beam_size: give one of them; a beam finds likely captions, draws vary them"
            )


def describe(options: DescribeOptions) -> None:
    """Caption video files with a checkpoint of a VideoDescriber.

    The network encodes `num_clips` clips spread over a video, as in its training, and decodes their mean.

    Args:
        options: videos, network and output.

    Raises:
        FileNotFoundError: a video or the checkpoint does not exist.
        ValueError: a checkpoint of another network; or some videos could not be decoded, raised after all others were
            described.
    """
    paths = list(find_inputs(options.videos))
    trained = open_checkpoint(options.checkpoint, options.allow, VideoDescriber)
    model = cast(VideoDescriber, trained.model)
    preprocessing = preprocessing_of(trained, options.num_clips, options.decoder)

    def caption_video(video: VideoInput) -> dict[str, Any]:
        with torch.inference_mode():
            states = _mean_encoder_states(model, choose_clips(preprocessing, preprocessing.open_frames(video)))
            if options.temperature is None:
                return _as_results(*model.generate(states, options.beam_size))[0]
            repeated = tuple(part.repeat_interleave(options.num_samples, dim=1) for part in states)
            generators = _generators(options.seed, video.stem, options.num_samples)
            return {"samples": _as_results(*model.sample(repeated, options.temperature, generators))}

    process_videos(paths, preprocessing, caption_video, None if options.json else _format_caption)


def _mean_encoder_states(model: VideoDescriber, clips: VideoClips) -> tuple[Tensor, ...]:
    """Computes the encoder states of a video, averaged over its clips, which are read in pieces."""
    sums: list[Tensor] = []
    for piece in clips.pieces():
        parts = [len(piece) * part.double() for part in model.video_states(ClipBatch.from_clips(piece))]
        sums = [sum_ + part for sum_, part in zip(sums, parts, strict=True)] if sums else parts
    return tuple((sum_ / len(clips.frame_numbers)).to(model.mean.dtype) for sum_ in sums)


def _generators(seed: int, video: str, count: int) -> list[torch.Generator]:
    """One generator for each sample of a video, by (seed, video, sample): other videos and samples change nothing."""
    digests = [hashlib.sha256(f"{seed}/{sample}/{video}".encode()).digest() for sample in range(count)]
    return [torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1) for digest in digests]


def _as_results(captions: list[str], scores: Tensor) -> list[dict[str, Any]]:
    return [
        {"caption": caption, "log_probability": round(score, 6)}
        for caption, score in zip(captions, scores.tolist(), strict=True)
    ]


def _format_caption(result: dict[str, Any]) -> str:
    if "error" in result:
        captions = ["cannot be decoded"]
    else:
        captions = [one["caption"] or "(no word)" for one in result.get("samples", [result])]
    return "\n  ".join([printable(result["video"]), *captions])
