"""Renditions with optical flow: the flow of what is stored, so that it can be computed again from the dataset alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from datamodules.encoding.rendition_encoder import EncodedVideo
from datamodules.optical_flow.flow_estimation import FlowMethod
from datamodules.optical_flow.flow_video import encode_flow


def encode_with_flow(
    method: FlowMethod,
    key_frame_interval: int,
    encode: Callable[..., Sequence[EncodedVideo]],
    *arguments: Any,
    progress: Callable[[int], None] | None = None,
) -> list[EncodedVideo]:
    """Encodes the renditions of a video, then the optical flow of each; runs in a process that can be killed.

    Args:
        method: how flow is estimated.
        key_frame_interval: frames from one key frame of the flow to the next.
        encode: function that encodes the renditions, such as `transcode_renditions`, with a keyword `progress`.
        *arguments: arguments of `encode`.
        progress: called with the number of packets and frames so far.

    Raises:
        DecodeError: the video is refused, with the `reason`.
        FlowUnavailableError: its library does not import, or lacks the method.
    """
    done = 0

    def report(number: int) -> None:
        nonlocal done
        done = max(done, number)
        if progress is not None:
            progress(done)

    def report_frames(first: int, count: int) -> None:
        report(first + count)

    videos = []
    for video in encode(*arguments, progress=report):
        flow = encode_flow(video.data, method, key_frame_interval, partial(report_frames, done + 1))
        videos.append(video._replace(flow=flow))
    return videos
