"""The frames that an mp4's own header lists are those that FFmpeg finds in it, and they decode to the same pixels."""

import io
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.encoding.transcoding import EncodeProfile, transcode
from datamodules.video.decoding import decode_frames
from datamodules.video.header_frames import NotIndexedError, frames_by_header
from datamodules.video.mp4_sample_table import read_sample_table
from datamodules.video.probing import open_video
from tests.datamodules.video.video_kinds import encode, linear, pictures

PLAIN = {
    "as we pack": {"codec": "libx264", "container": "mp4"},
    "header first, no key frame list": {"codec": "libx264", "container": "mp4", "g": 1},
    "with sound between": {"codec": "libx264", "container": "mp4", "sound": True},
}
OTHER = {
    "B-frames": {"codec": "libx264", "container": "mp4", "b_frames": 2},
    "turned": {"codec": "libx264", "container": "mp4", "turn": 90},
    "another codec": {"codec": "mpeg4", "container": "mp4"},
    "another container": {"codec": "libx264", "container": "matroska"},
    "a start that is late": {"codec": "libx264", "container": "mp4", "times": lambda number: 500 + 40 * number},
}


def fragmented() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in pictures(20, 64, 96):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


def assert_is_what_ffmpeg_finds(data: bytes) -> None:
    table = read_sample_table(data)
    assert table is not None
    with open_video(data) as (_, stream):
        entries = [(entry.size, entry.pos, entry.is_keyframe) for entry in stream.index_entries]
        assert table.configuration == stream.codec_context.extradata
    sizes, offsets, are_keys = zip(*entries, strict=True)
    assert table.sizes.tolist() == list(sizes)
    assert table.offsets.tolist() == list(offsets)
    assert table.keys == [number for number, is_key in enumerate(are_keys) if is_key]


@pytest.mark.parametrize("kind", PLAIN)
def test_says_what_ffmpeg_says(kind: str):
    data = encode(**PLAIN[kind])
    assert_is_what_ffmpeg_finds(data)
    expected, order = linear(data), [0, 3, 4, 30, 39]
    assert (decode_frames(data, order, "pyav") == expected[order]).all()


@pytest.mark.parametrize("kind", OTHER)
def test_says_nothing_of_other_kinds(kind: str):
    assert read_sample_table(encode(**OTHER[kind])) is None


def test_says_nothing_of_fragments():
    assert read_sample_table(fragmented()) is None


def test_real_clips_packed(shared_dir: Path):
    """Colors too: what the container says of them must not be needed."""
    for path in sorted((shared_dir / "data/kinetics_sample").rglob("*.mp4"))[:3]:
        data = transcode(path, EncodeProfile(short_side=128)).data
        assert_is_what_ffmpeg_finds(data)
        colors = [(frame.colorspace, frame.color_range) for _, frame in frames_by_header(data, [5, 40])]
        with open_video(data) as (container, stream):
            first = next(container.decode(stream))
        assert colors == [(first.colorspace, first.color_range)] * 2
        expected = linear(data)
        order = np.random.default_rng(0).choice(len(expected), 30, replace=False)
        order.sort()
        assert (decode_frames(data, order.tolist(), "pyav") == expected[order]).all()


def test_a_decoder_goes_from_video_to_video():
    """All have the same configuration; one ends in the middle, one is damaged."""
    videos = [encode("libx264", "mp4", crf=crf, height=96) for crf in (18, 40)]
    assert len({read_sample_table(data).configuration for data in videos}) <= 2
    expected = [linear(data) for data in videos]
    table = read_sample_table(videos[0])
    broken = bytearray(videos[0])
    start = table.offsets[14]
    broken[start + 8 : start + table.sizes[14]] = bytes(table.sizes[14] - 8)
    for numbers in ([0, 1, 2], [20], [7, 30]):
        for data, frames in zip(videos, expected, strict=True):
            assert (decode_frames(data, numbers, "pyav") == frames[numbers]).all()
            next(frames_by_header(data, [13, 22]))
            with pytest.raises((NotIndexedError, av.FFmpegError)):
                list(frames_by_header(bytes(broken), [23]))


def test_two_readers_in_turns():
    data = encode("libx264", "mp4", crf=18)
    expected = linear(data)
    decode_frames(data, [0], "pyav")  # from here on there is a decoder that both would like
    readers = [frames_by_header(data, list(range(40))) for _ in range(2)]
    for pair in zip(*readers, strict=True):
        for number, frame in pair:
            assert (frame.to_ndarray(format="rgb24") == expected[number]).all()


def test_a_damaged_header_never_gives_other_frames():
    """Each byte of the header is changed once; what FFmpeg makes of such a file is the measure where we read one."""
    data = encode("libx264", "mp4", count=13)
    right, expected = read_sample_table(data), linear(data)
    start = data.index(b"moov")
    random = np.random.default_rng(0)
    for place in range(start, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= int(random.integers(1, 256))
        table = read_sample_table(bytes(damaged))
        if table is None or all(np.array_equal(a, b) for a, b in zip(table, right, strict=True)):
            continue
        try:
            found = [frame.to_ndarray(format="rgb24") for _, frame in frames_by_header(bytes(damaged), [3, 12])]
        except (NotIndexedError, av.FFmpegError, ValueError):
            continue
        if table.configuration == right.configuration:
            assert (np.stack(found) == expected[[3, 12]]).all(), place - start


@pytest.mark.parametrize("length", [0, 7, 40, 300, -1, -200])
def test_says_nothing_of_a_file_cut_short(length: int):
    assert read_sample_table(encode("libx264", "mp4")[:length]) is None


def test_says_nothing_of_what_is_no_mp4():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w"):
        pass
    assert read_sample_table(file.getvalue()) is None
    assert read_sample_table(np.random.default_rng(0).bytes(5000)) is None
