"""Frames of RGB, of optical flow, or of both: read from a packed dataset, or computed for plain video files.

Frame n of flow is the flow from frame n to frame n + 1, so a video of F frames has F - 1 such pairs, and clips are made
of their numbers. Both together are five channels, R, G, B, x and y, whose crops are then the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.batch import STREAM_CHANNELS, Stream
from datamodules.optical_flow.flow_estimation import FlowMethod, convert_frame, estimate_flow, resize_frame
from datamodules.optical_flow.flow_levels import Levels, flow_levels
from datamodules.optical_flow.flow_video import num_flow_frames, read_flow
from datamodules.video.decoding import DecodeError, Source, decode_frames, iterate_frame_chunks
from datamodules.video.mp4_writer import target_size

Channels = Levels  # uint8 (T, H, W, C), C as in `STREAM_CHANNELS`
_FLOW_FRAMES_AT_ONCE = 16


@dataclass(frozen=True)
class PackedFlow:
    """A video of a packed dataset with its stored flow.

    Attributes:
        stream: `flow` or `both`.
        flow: the bytes of the flow.
        rgb: the bytes of the video; None where only its flow is read.
    """

    stream: Stream
    flow: bytes
    rgb: Source | None = None

    def chunks(self, indices: Sequence[int], decoder: str, chunk_bytes: int | None) -> Iterator[Channels]:
        """Decodes the frames at ascending indices, in one pass."""
        if self.stream == "flow" or self.rgb is None:
            size = len(indices) if chunk_bytes is None else _FLOW_FRAMES_AT_ONCE
            for first in range(0, len(indices), size):
                yield read_flow(self.flow, indices[first : first + size])
            return
        for numbers, frames in iterate_frame_chunks(self.rgb, indices, decoder, chunk_bytes):
            flow = read_flow(self.flow, numbers)
            if flow.shape[:3] != frames.shape[:3]:
                sizes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in (frames.shape, flow.shape))
                raise DecodeError(f"the video and its flow have frames of different sizes, {sizes}")
            yield np.concatenate([frames, flow], axis=3)


@dataclass(frozen=True)
class ComputedFlow:
    """A video file whose flow is computed where it is needed, from frames scaled as `pack` scales them.

    Attributes:
        stream: `flow` or `both`.
        rgb: the bytes of the video, or its path.
        num_frames: number of its frames.
        method: how flow is estimated.
        short_side: pixels of the shorter side of the training videos, whose flow was in pixels of that size; None keeps
            the size.
    """

    stream: Stream
    rgb: Source
    num_frames: int
    method: FlowMethod = "dis"
    short_side: int | None = None

    def chunks(self, indices: Sequence[int], decoder: str, chunk_bytes: int | None) -> Iterator[Channels]:
        """Decodes the frames at ascending indices and those after them, in one pass; a frame a chunk."""
        wanted = set(indices)
        needed = sorted(wanted | {min(index + 1, self.num_frames - 1) for index in indices})
        previous: tuple[int, Levels] | None = None
        for numbers, frames in iterate_frame_chunks(self.rgb, needed, decoder, chunk_bytes):
            for number, frame in zip(numbers, frames, strict=True):
                scaled = self._scale(frame)
                if previous is not None and previous[0] == number - 1 and previous[0] in wanted:
                    yield self._join(previous[1], scaled)
                previous = number, scaled
        if previous is not None and self.num_frames == 1:
            yield self._join(previous[1], previous[1])

    def _scale(self, frame: Levels) -> Levels:
        if self.short_side is None:
            return frame
        return resize_frame(frame, target_size(frame.shape[1], frame.shape[0], self.short_side))

    def _join(self, frame: Levels, following: Levels) -> Channels:
        """The channels of a frame, uint8 (1, H, W, C)."""
        first, second = (convert_frame(one, self.method) for one in (frame, following))
        flow = flow_levels(estimate_flow(first, second, self.method))
        return (flow if self.stream == "flow" else np.concatenate([frame, flow], axis=2))[None]


FrameSource = Source | PackedFlow | ComputedFlow


def num_clip_frames(num_frames: int, stream: Stream) -> int:
    """Number of frames that clips of a video can be made of: those that have flow, if it is needed."""
    return num_frames if stream == "rgb" else num_flow_frames(num_frames)


def rgb_source(source: FrameSource) -> Source | None:
    """The video itself; None where only its flow is there."""
    return source.rgb if isinstance(source, (PackedFlow, ComputedFlow)) else source


def iterate_channel_chunks(
    source: FrameSource, indices: Sequence[int], decoder: str, chunk_bytes: int | None
) -> Iterator[tuple[Sequence[int], Channels]]:
    """Decodes frames in one pass, one chunk in memory at a time; see `iterate_frame_chunks`.

    Args:
        source: a video, or a video with its flow.
        indices: frame numbers, ascending and distinct.
        decoder: decoder of RGB.
        chunk_bytes: maximum size of the RGB frames of a chunk; None: all in one chunk, where nothing is computed.

    Yields:
        The next indices and their frames, uint8 (n, H, W, C).

    Raises:
        DecodeError: the video or its flow does not decode, or an index is out of range.
    """
    if not isinstance(source, (PackedFlow, ComputedFlow)):
        yield from iterate_frame_chunks(source, indices, decoder, chunk_bytes)
        return
    done = 0
    for frames in source.chunks(indices, decoder, chunk_bytes):
        yield indices[done : done + len(frames)], frames
        done += len(frames)


def decode_channels(source: FrameSource, indices: Sequence[int], decoder: str) -> Channels:
    """Decodes the frames at the given indices, which may repeat and come in any order: uint8 (T, H, W, C).

    Raises:
        DecodeError: the video or its flow does not decode, or an index is out of range.
    """
    if not isinstance(source, (PackedFlow, ComputedFlow)):
        return decode_frames(source, indices, decoder)
    unique, positions = np.unique(np.asarray(indices), return_inverse=True)
    frames = np.concatenate([chunk for _, chunk in iterate_channel_chunks(source, unique.tolist(), decoder, None)])
    assert frames.shape[-1] == STREAM_CHANNELS[source.stream]
    return frames[positions.reshape(-1)]
