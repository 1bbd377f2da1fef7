"""Videos of optical flow: x above y in the luma of one H.264 video, near lossless, decoded as fast as other videos.

Frame t is the flow from frame t to frame t + 1 of the video that it belongs to, so it has a frame less; a video of one
frame has one frame of no motion. Both planes are in luma, because chroma would have half the resolution; chroma is
constant and takes next to no bytes. A quantizer as low as this one moves levels by little more than their rounding did
(docs/datasets/flow.md has the numbers).
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from datamodules.optical_flow.flow_estimation import FRAME_FORMATS, FlowMethod, Frame, estimate_flow
from datamodules.optical_flow.flow_levels import Levels, flow_levels
from datamodules.video.decoding import DecodeError, Source, iterate_frames, orientation_of
from datamodules.video.header_frames import NotIndexedError, frames_by_header
from datamodules.video.mp4_writer import EncodeProfile, Mp4Writer
from datamodules.video.pyav_decoder import out_of_range
from datamodules.video.video_container import library_errors

FLOW_CRF = 12  # x264's constant rate factor
_NEUTRAL_CHROMA = 128
_PLAYBACK_RATE = Fraction(25)  # for players; frames are addressed by number


def encode_flow(
    source: Source,
    method: FlowMethod,
    key_frame_interval: int = 16,
    progress: Callable[[int], None] | None = None,
    crf: int = FLOW_CRF,
) -> bytes:
    """Computes the flow of consecutive frames of a video, and encodes it.

    Args:
        source: the bytes of a video file, or its path; of even width and height, as `pack` stores videos.
        method: how flow is estimated.
        key_frame_interval: frames from one key frame to the next.
        progress: called with the number of frames so far.
        crf: x264's constant rate factor.

    Returns:
        The bytes of an mp4; the same video, method and libraries give the same bytes on processors of one kind.

    Raises:
        DecodeError: the video does not decode, or has no frame.
        FlowUnavailableError: the library does not import, or lacks the method.
        OSError: the weights of RAFT cannot be downloaded.
    """
    writer: Mp4Writer | None = None
    profile = EncodeProfile(crf=crf, key_frame_interval=key_frame_interval)
    previous: Frame | None = None
    for count, frame in enumerate(_frames(source, FRAME_FORMATS[method])):
        if writer is None:
            height, width = frame.shape[:2]
            writer = Mp4Writer(width, 2 * height, _PLAYBACK_RATE, profile)
        if previous is not None:
            writer.write(_flow_frame(flow_levels(estimate_flow(previous, frame, method))))
        previous = frame
        if progress is not None:
            progress(count)
    if writer is None or previous is None:
        raise DecodeError("the video has no frames")
    if writer.num_frames == 0:
        writer.write(_flow_frame(flow_levels(np.zeros((*previous.shape[:2], 2), np.float32))))
    return writer.finish()


def num_flow_frames(num_frames: int) -> int:
    """Number of flow frames of a video of `num_frames` frames, at least 1."""
    return max(1, num_frames - 1)


def _frames(source: Source, pixel_format: str) -> Iterator[Frame]:
    converter = VideoReformatter()
    for frame in iterate_frames(source):
        pixels = converter.reformat(frame, format=pixel_format, threads=1).to_ndarray()
        yield np.ascontiguousarray(orientation_of(frame).apply(pixels))


def _flow_frame(levels: Levels) -> av.VideoFrame:
    """A frame of flow, uint8 (H, W, 2), for the encoder."""
    height, width, _ = levels.shape
    planes = np.full((2 * height + height, width), _NEUTRAL_CHROMA, np.uint8)
    planes[:height], planes[height : 2 * height] = levels[..., 0], levels[..., 1]
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.color_range = ColorRange.JPEG
    return frame


def read_flow(data: bytes, indices: Sequence[int]) -> Levels:
    """Decodes frames of a flow video.

    Args:
        data: the bytes of a flow video.
        indices: frame numbers, ascending and distinct, at least one.

    Returns:
        uint8 (T, H, W, 2): levels of x and y, from 1 to 255.

    Raises:
        DecodeError: the flow does not decode, or has too few frames.
    """
    flow: Levels | None = None
    number = 0
    with library_errors("the flow cannot be decoded"):
        try:
            for index, frame in frames_by_header(data, indices):
                if number == len(indices) or index != indices[number]:
                    continue
                planes = _planes(frame)
                if flow is None:
                    flow = np.empty((len(indices), *planes.shape[1:], 2), np.uint8)
                flow[number, ..., 0], flow[number, ..., 1] = planes
                number += 1
        except NotIndexedError:
            raise out_of_range(indices[number]) from None
    if flow is None or number < len(indices):
        raise out_of_range(indices[number])
    return np.maximum(flow, 1, out=flow)


def _planes(frame: av.VideoFrame) -> Levels:
    """The planes of x and y of a decoded frame: uint8 (2, H, W)."""
    luma = frame.planes[0]
    rows = np.frombuffer(memoryview(luma), np.uint8).reshape(-1, luma.line_size)
    if frame.format.name not in ("yuv420p", "yuvj420p") or frame.height % 2:
        raise DecodeError(
            f"the flow has frames of {frame.width}x{frame.height} in {frame.format.name}, which `pack` does not write"
        )
    planes: Levels = rows[: frame.height, : frame.width].reshape(2, frame.height // 2, frame.width)
    return planes
