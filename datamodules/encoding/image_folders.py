"""Encoding of folders of images, or parts of them, as videos of a constant rate."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av

from datamodules.annotations.segments import Segment
from datamodules.encoding.rendition_encoder import EncodedVideo, encode_renditions
from datamodules.encoding.segments import with_source_times
from datamodules.video.frame_table import count_steps
from datamodules.video.image_folder import image_frame_table, iterate_images, list_images
from datamodules.video.mp4_writer import EncodeProfile


def transcode_images(
    folder: str,
    profiles: Sequence[EncodeProfile],
    frames_per_second: float,
    segment: Segment | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[EncodedVideo]:
    """Encodes the images of a folder with each profile, as `transcode_renditions` encodes a video of their rate.

    Args:
        folder: path of the folder.
        profiles: encoder settings of each rendition; at least one.
        frames_per_second: rate at which the images were taken.
        segment: the part of the images to encode; None: all. Only these are decoded.
        progress: called with the number of images decoded so far.

    Returns:
        One video per profile, in their order.

    Raises:
        DecodeError: the folder or segment is refused, with the `reason`; nothing partial is returned.
    """
    report_step = count_steps(progress)
    paths = list_images(folder)
    table = image_frame_table(len(paths), frames_per_second)
    first, stop = (0, len(paths)) if segment is None else segment.locate(table)

    def frames() -> Iterator[av.VideoFrame]:
        for frame in iterate_images(paths[first:stop]):
            report_step()
            yield frame

    videos = encode_renditions(frames(), table.part(first, stop), lambda orientation: Fraction(1), profiles)
    if segment is None:
        return videos
    return [with_source_times(video, segment, table, first, stop) for video in videos]
