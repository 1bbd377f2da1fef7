"""Frames in chunks and clips one by one are those of decoding everything at once, and memory does not grow."""

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.transforms.clip_stream import iterate_clips
from datamodules.transforms.clip_transforms import EvalTransform
from datamodules.video.decoding import DecodeError, decode_frames, iterate_frame_chunks
from datamodules.video.header_frames import NotIndexedError
from datamodules.video.pyav_decoder import _frames_by_index
from tests.datamodules.video.video_kinds import INSTALLED, KINDS, encode, linear

CHOSEN = [
    "h264 with B-frames",
    "h264 without B-frames",
    "h264 turned by 90",
    "h264 in avi with B-frames",
    "h264 in matroska",
    "h264 in a transport stream",
    "mpeg4 in avi",
    "vp8 with hidden frames",
]


@pytest.mark.parametrize("kind", CHOSEN)
@pytest.mark.parametrize("decoder", INSTALLED)
def test_chunks_are_the_frames_asked_for(kind: str, decoder: str, tmp_path: Path) -> None:
    codec, container, options = KINDS[kind]
    data = encode(codec, container, **options)
    path = tmp_path / "video"
    path.write_bytes(data)
    indices = [0, 1, 2, 5, 20, 21, 38, 39]
    expected = decode_frames(data, indices, decoder)
    for source in (data, path):
        chunks = list(iterate_frame_chunks(source, indices, decoder, 3 * expected[0].nbytes))
        assert [number for numbers, _ in chunks for number in numbers] == indices
        assert max(len(frames) for _, frames in chunks) == 3
        assert np.array_equal(np.concatenate([frames for _, frames in chunks]), expected)
    assert len(list(iterate_frame_chunks(data, indices, decoder, 1))) == len(indices)  # one frame at least


def test_a_frame_that_is_not_there_is_an_error_after_those_that_are() -> None:
    chunks = iterate_frame_chunks(encode("mpeg4", "avi"), [0, 39, 40], "pyav", 1)
    assert [next(chunks)[0], next(chunks)[0]] == [[0], [39]]
    with pytest.raises(DecodeError, match="frame 40 is out of range: the video has 40 frames"):
        next(chunks)


def test_where_one_way_to_find_frames_fails_the_next_goes_on() -> None:
    """Two packets late in the file have each other's time, which shows when they are decoded; no frame comes twice."""
    data = encode("libx264", "mp4", b_frames=2)
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format="mp4") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        one, other = sorted(packet.pts for packet in packets)[30:32]
        for packet in packets:
            packet.pts = {one: other, other: one}.get(packet.pts, packet.pts)
            packet.dts, packet.stream = min(packet.dts, packet.pts), stream
            output.mux_one(packet)
    by_index = _frames_by_index(file.getvalue(), range(40))
    assert [next(by_index)[0] for _ in range(30)] == list(range(30))
    with pytest.raises(NotIndexedError):
        next(by_index)
    indices = list(range(0, 40, 3))
    frames = [chunk[0] for _, chunk in iterate_frame_chunks(file.getvalue(), indices, "pyav", 1)]
    assert np.array_equal(frames, linear(data)[indices])


SAMPLERS = {
    "uniform": ClipSampler(ClipShape(4, 2), "uniform", 5),
    "dense": ClipSampler(ClipShape(8), "dense", step=3),
    "whole": ClipSampler(ClipShape(1, fps=20.0), "whole", max_frames=12),
    "short, looped": ClipSampler(ClipShape(64), "uniform", 2),
    "segments": ClipSampler(ClipShape(5, segments=True), "uniform", 3),
    "still": ClipSampler(ClipShape(4), "uniform", 3, still=True),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("transform", [EvalTransform(32, 40), EvalTransform(48, None, 3), EvalTransform(112)])
def test_clips_are_those_cut_out_of_all_frames(name: str, transform: EvalTransform) -> None:
    data = encode("mpeg4", "avi")
    numbers = SAMPLERS[name](40, 25.0, np.random.default_rng(0))
    frames = torch.from_numpy(decode_frames(data, numbers.ravel().tolist()))
    expected = [transform(clip) for clip in torch.split(frames, numbers.shape[1])]
    found = list(iterate_clips(data, numbers, transform))
    assert len(found) == len(expected)
    for (clip, window), (expected_clip, expected_window) in zip(found, expected, strict=True):
        assert torch.equal(clip, expected_clip)
        assert window == expected_window


def uncompressed(count: int, height: int, width: int) -> bytes:
    """A large file that is quickly made: frames as they are, in matroska."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame(width, height, "yuv420p")
        for number in range(count):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from datamodules.transforms.clip_stream import iterate_clips
from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.video.decoding import probe
from datamodules.transforms.clip_transforms import EvalTransform

def peak_mib(path):
    info = probe(Path(path))
    numbers = ClipSampler(ClipShape(8), "dense", step=4)(info.num_frames, info.fps, np.random.default_rng(0))
    for clip in iterate_clips(Path(path), numbers, EvalTransform(720), "pyav"):
        pass
    # Not getrusage's: that of the process that started this one is in it.
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

print(*[peak_mib(path) for path in sys.argv[1:]])
"""


def test_neither_a_long_video_nor_its_file_is_held(tmp_path: Path) -> None:
    """Of 138 MB of file, 276 MB of frames and 156 MB of crops less than 160 MB is held."""
    for name, count in (("short", 1), ("long", 100)):
        (tmp_path / name).write_bytes(uncompressed(count, 720, 1280))
    words = [sys.executable, "-c", MEASURE, str(tmp_path / "short"), str(tmp_path / "long")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    short, long = map(float, told.split())
    assert long - short < 160
