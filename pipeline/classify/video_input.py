"""Input of `classify` and `describe`: finds video files, and decodes and preprocesses their clips."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from json import dumps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Stream
from datamodules.loading.flow_input import flow_method_of
from datamodules.optical_flow.flow_estimation import FlowMethod, flow_library
from datamodules.optical_flow.frame_source import ComputedFlow, FrameSource, PackedFlow, num_clip_frames, rgb_source
from datamodules.options import Options
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape, Integers
from datamodules.transforms.clip_stream import iterate_clips
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import DecodeError, Source, describe_decoder, probe, read_frame_times, resolve_decoder
from pipeline.classify.packed_videos import PackedVideo, VideoInput, open_input
from pipeline.cli.terminal import print_text
from pipeline.inference.trained_checkpoint import TrainedCheckpoint

FORWARD_BYTES = 2**25  # most bytes of float32 clips in one forward pass
_MAX_FRAMES_PER_PIECE = 256  # for networks that take any number: about 10 s of video, 2 GB of activations in I3D
_MAX_CLIP_BYTES = 2**27  # most bytes of a video's clips decoded ahead; ten clips of 64 frames of 224 x 224 are 92 MB


@dataclass(frozen=True)
class VideoFileOptions(Options):
    """Video files.

    Attributes:
        videos: files, folders of them, or folders of packed datasets, of which all videos are taken.
        num_clips: clips a video, for networks that take clips of one length.
    """

    videos: list[str]
    num_clips: int = field(default=10, kw_only=True)

    def check(self) -> None:
        """Raises ValueError where `num_clips` is below 1."""
        self.require_at_least(1, "num_clips")


class Preprocessing(NamedTuple):
    """Preprocessing of videos for a network.

    Attributes:
        sampler: chooses the frames of a video's clips.
        transform: resizes and crops uint8 frames to the network's input size.
        decoder: name of the decoder, resolved, never `auto`.
        shape: length and frame interval of a clip in training, also where the sampler takes whole videos.
        stream: what the frames are: RGB, optical flow, or both.
        flow_method: how the flow of plain files is computed.
        short_side: pixels of the shorter side to which frames are scaled before; None keeps their size.
    """

    sampler: ClipSampler
    transform: EvalTransform
    decoder: str
    shape: ClipShape
    stream: Stream = "rgb"
    flow_method: FlowMethod = "dis"
    short_side: int | None = None

    def open_frames(self, video: VideoInput) -> FrameSource:
        """The input of a decoder: a video, or where the network takes optical flow, a video with its flow.

        Raises:
            DecodeError: the video cannot be read, or is in a dataset without flow.
        """
        source = open_input(video)
        if self.stream != "rgb" and isinstance(video, PackedVideo) and video.index.entry(video.row).flow_size:
            return PackedFlow(self.stream, video.index.read_flow(video.row), source)
        return self.frames_of(source)

    def frames_of(self, source: Source) -> FrameSource:
        """The input of a decoder for a video file, whose flow is computed where the network takes optical flow.

        Raises:
            DecodeError: the video cannot be read.
        """
        if self.stream == "rgb":
            return source
        return ComputedFlow(self.stream, source, probe(source).num_frames, self.flow_method, self.short_side)


def preprocessing_of(
    trained: TrainedCheckpoint, num_clips: int, decoder: str, whole_video: bool = False
) -> Preprocessing:
    """The preprocessing of a checkpoint's training, with `num_clips` clips spread over a video, or the whole video.

    Args:
        trained: the checkpoint.
        num_clips: clips a video, at least 1.
        decoder: auto, pyav, decord or torchcodec.
        whole_video: take the whole video at the network's frame rate, in pieces, for networks that take any number of
            frames.

    Raises:
        ValueError: the checkpoint does not contain the settings of its clips.
    """
    clips: dict[str, Any] = {"resize": None, "frame_interval": 1, "fps": None, "short_videos": "loop"} | trained.clips
    if not {"num_frames", "crop_size"} <= clips.keys():
        raise ValueError(
            f"checkpoint {str(trained.path)!r} does not say what its clips were like; convert it again with "
            "`python -m pipeline weights convert`"
        )
    sizes = (clips["num_frames"], clips["frame_interval"], clips["fps"], clips["short_videos"])
    shape = ClipShape(*sizes, clips.get("segments", False))
    sampled = replace(shape, num_frames=1) if whole_video else shape
    sampler = ClipSampler(sampled, "whole" if whole_video else "uniform", num_clips, max_frames=_MAX_FRAMES_PER_PIECE)
    transform = EvalTransform(clips["crop_size"], clips["resize"])
    return with_stream(Preprocessing(sampler, transform, resolve_decoder(decoder), shape), trained)


def with_stream(preprocessing: Preprocessing, trained: TrainedCheckpoint) -> Preprocessing:
    """A preprocessing for the stream of a checkpoint, with the optical flow of its training where it takes that.

    Raises:
        FlowUnavailableError: it takes optical flow, and its library does not import, or lacks the method.
    """
    stream, method = trained.clips.get("stream", "rgb"), flow_method_of(trained.dataset.get("flow"))
    if stream != "rgb":
        flow_library(method)
    return preprocessing._replace(stream=stream, flow_method=method, short_side=trained.dataset.get("rendition"))


class VideoClips(NamedTuple):
    """The clips of a video before they are decoded.

    Attributes:
        source: the bytes of the video file, or its path.
        frame_numbers: int64 (N, T), the frame numbers of each clip.
        preprocessing: the preprocessing, with decoder and crop.
    """

    source: FrameSource
    frame_numbers: Integers
    preprocessing: Preprocessing

    @property
    def num_bytes(self) -> int:
        """Approximate size of all decoded clips together, in bytes."""
        return 3 * self.frame_numbers.size * self.preprocessing.transform.crop_size**2

    @property
    def is_long(self) -> bool:
        """Whether the clips are decoded in pieces, where they are used, and not all at once."""
        return self.num_bytes > _MAX_CLIP_BYTES

    def decode(self, count: Callable[[], None] = lambda: None) -> Iterator[Tensor]:
        """Yields the clips one by one, uint8 (T, H, W, C); `count` is called after each clip.

        Raises:
            DecodeError: the video cannot be decoded; earlier clips have been yielded.
        """
        for clip, _ in iterate_clips(
            self.source, self.frame_numbers, self.preprocessing.transform, self.preprocessing.decoder
        ):
            yield clip
            count()

    def pieces(self, count: Callable[[], None] = lambda: None) -> Iterator[Tensor]:
        """Yields the clips of `decode` in pieces, uint8 (N, T, H, W, C), of at most `FORWARD_BYTES` in float32."""
        piece: list[Tensor] = []
        for clip in self.decode(count):
            piece.append(clip)
            if 4 * clip.numel() * (len(piece) + 1) > FORWARD_BYTES:
                yield torch.stack(piece)
                piece = []
        if piece:
            yield torch.stack(piece)

    def decode_all(self) -> Tensor:
        """Decodes all clips into one tensor: uint8 (N, T, H, W, C)."""
        clips: Tensor | None = None
        for number, clip in enumerate(self.decode()):
            if clips is None:
                clips = torch.empty((len(self.frame_numbers), *clip.shape), dtype=torch.uint8)
            clips[number] = clip
        assert clips is not None, "a sampler gives at least one clip"
        return clips


def choose_clips(preprocessing: Preprocessing, source: FrameSource) -> VideoClips:
    """Chooses the clips of a video by the preprocessing's sampler.

    Raises:
        DecodeError: the source is no video that can be decoded.
    """
    video = rgb_source(source)
    assert video is not None, "`open_frames` reads the video beside its flow"
    info = probe(video)
    times = read_frame_times(video) if info.variable_rate and preprocessing.sampler.by_time else None
    count = num_clip_frames(info.num_frames, preprocessing.stream)
    times = None if times is None else times[:count]
    numbers = preprocessing.sampler(count, info.fps, np.random.default_rng(0), times)  # these samplers draw nothing
    return VideoClips(source, numbers, preprocessing)


def process_videos(
    paths: Sequence[VideoInput],
    preprocessing: Preprocessing,
    process: Callable[[VideoInput], dict[str, Any]],
    format_result: Callable[[dict[str, Any]], str] | None,
) -> None:
    """Prints the result of each video, and continues after a video that cannot be decoded.

    Args:
        paths: the paths of the videos.
        preprocessing: the preprocessing, whose decoder is part of the result.
        process: function from a video to the result as plain data.
        format_result: formats a result, with `video` (the path), `decoder` and, after a failure, `error` added; None
            prints JSON lines.

    Raises:
        ValueError: videos could not be decoded; the message names each of them.
    """
    failed = []
    for path in paths:
        result: dict[str, Any] = {"video": str(path)}
        try:
            result |= process(path)
        except DecodeError as error:
            failed.append(f"{path} ({error})")
            result["error"] = str(error)
        result["decoder"] = describe_decoder(preprocessing.decoder)
        print_text(format_result(result) if format_result else dumps(result))
    if failed:
        raise ValueError(f"{len(failed)} of {len(paths)} videos could not be decoded: {'; '.join(failed)}")


class DecodedVideo(NamedTuple):
    """The clips of a file, uint8 (N, T, H, W, C), or not yet decoded for a long video, or None and the error."""

    path: VideoInput
    clips: Tensor | VideoClips | None
    error: str


def read_ahead(paths: Sequence[VideoInput], preprocessing: Preprocessing, threads: int) -> Iterator[DecodedVideo]:
    """Reads and decodes files ahead in `threads` threads, and yields them in order.

    The clips of a long video are yielded undecoded, to be decoded in pieces where they are used.
    """
    pending: deque[Future[DecodedVideo]] = deque()
    remaining = iter(paths)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for path in remaining:
            pending.append(pool.submit(_decode_video, path, preprocessing))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _decode_video(path: VideoInput, preprocessing: Preprocessing) -> DecodedVideo:
    try:
        clips = choose_clips(preprocessing, preprocessing.open_frames(path))
        return DecodedVideo(path, clips if clips.is_long else clips.decode_all(), "")
    except DecodeError as error:
        return DecodedVideo(path, None, str(error))
