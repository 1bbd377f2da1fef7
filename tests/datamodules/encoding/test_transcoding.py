"""Transcoding: every frame once, scaled, resampled, trimmed and rotated; damaged files are refused."""

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.encoding.transcoding import (
    EncodeProfile,
    encode_frames,
    inspect,
    transcode,
    transcode_renditions,
)
from datamodules.video.decoding import (
    ABSENT,
    DAMAGED,
    NO_VIDEO_STREAM,
    TOO_SHORT,
    TRUNCATED,
    UNREADABLE,
    DecodeError,
    VideoInfo,
    decode_frames,
    probe,
)
from tests.datamodules.video.video_kinds import encode, sound_alone


def gray_steps(count, height=48, width=64):
    """Frames of one gray level each, 6 levels apart, so that a decoded frame tells its number."""
    return [np.full((height, width, 3), 6 * number % 240, np.uint8) for number in range(count)]


def numbers(data):
    """The numbers of the `gray_steps` that a video shows."""
    frames = decode_frames(data, range(probe(data).num_frames), "pyav")
    return np.round(frames.mean(axis=(1, 2, 3)) / 6).astype(int).tolist()


def packets(data):
    with av.open(io.BytesIO(data)) as container:
        return [(packet.pts, packet.dts, packet.is_keyframe) for packet in container.demux(video=0) if packet.size]


def timed_video(times_ms, container="matroska"):
    """Gray steps shown at the given milliseconds."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.codec_context.time_base = 64, 48, Fraction(1, 1000)
        for picture, time in zip(gray_steps(len(times_ms)), times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def test_transcode_keeps_every_frame_in_order_and_scales():
    source = encode_frames(gray_steps(30), 25.0)
    video = transcode(source, EncodeProfile(short_side=24))
    assert video.info == VideoInfo(30, 25.0, 32, 24, 1.2, 0, "h264") == probe(video.data)
    assert numbers(video.data) == list(range(30))
    assert transcode(source, EncodeProfile(short_side=256)).info[2:4] == (64, 48)  # never enlarged


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (10.0, list(range(0, 20, 2))),
        (40.0, [i // 2 for i in range(40)]),
        (5.0, [1, 5, 9, 13, 17]),  # shown in the middle of each 0.2 s: the last frame that started by then
    ],
)
def test_transcode_resamples_to_the_asked_rate(fps, expected):
    video = transcode(encode_frames(gray_steps(20), 20.0), EncodeProfile(fps=fps))
    assert video.info.fps == fps
    assert video.info.num_frames == len(expected)
    assert np.abs(np.array(numbers(video.data)) - expected).max() <= 1


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1.0, 2.0, list(range(10, 20))),  # the whole source: cut
        (100.0, 104.0, list(range(40))),  # a file of the clip's own duration: cut already
        (100.0, 103.5, list(range(40))),  # a little longer than the clip: cut already
        (None, None, list(range(40))),
        (3.0, None, list(range(30, 40))),
        (0.0, 2.5, list(range(25))),
    ],
)
def test_only_whole_sources_are_trimmed(start, end, expected):
    video = transcode(encode_frames(gray_steps(40), 10.0), EncodeProfile(), start, end)
    assert numbers(video.data) == expected
    assert packets(video.data)[0][0] == 0


def test_spans_that_are_none():
    source = encode_frames(gray_steps(10), 10.0)
    with pytest.raises(ValueError, match=r"time_end=1.0: must be after time_start=2.0"):
        transcode(source, EncodeProfile(), 2.0, 1.0)
    with pytest.raises(ValueError, match=r"time_start=-1.0"):
        transcode(source, EncodeProfile(), -1.0, 1.0)
    with pytest.raises(DecodeError) as caught:
        transcode(source, EncodeProfile(), 5.0, None)
    assert caught.value.reason == TOO_SHORT


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_is_applied(shared_dir, angle):
    path = str(shared_dir / "data" / "odd_videos" / f"video_{angle}.mov")
    video = transcode(path, EncodeProfile(short_side=160))
    expected = (284, 160) if angle == 180 else (160, 284)
    assert video.info == VideoInfo(3, 30.0, *expected, 0.1, 0, "h264") == probe(video.data)
    original = decode_frames(Path(path).read_bytes(), [1], "pyav")[0]
    result = decode_frames(video.data, [1], "pyav")[0]
    small = av.VideoFrame.from_ndarray(original, format="rgb24").reformat(*expected, interpolation="AREA").to_ndarray()
    assert np.abs(small.astype(int) - result).mean() < 6
    assert np.abs(small[::-1, ::-1].astype(int) - result).mean() > 12


def test_colors_are_kept_with_and_without_tags():
    """A source tagged BT.709 looks the same after transcoding, because the tag travels."""
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    for matrix in (2, 1):  # AVCOL_SPC_UNSPECIFIED, AVCOL_SPC_BT709
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as output:
            stream = output.add_stream("libx264", rate=10, options={"crf": "10"})
            stream.width, stream.height, stream.codec_context.colorspace = 64, 48, matrix
            for color in colors:
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), color, np.uint8), format="rgb24")
                frame = picture.reformat(format="yuv420p", dst_colorspace="ITU709" if matrix == 1 else "ITU601")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        video = transcode(file.getvalue(), EncodeProfile())
        shown = decode_frames(video.data, [0, 1, 2], "pyav").mean(axis=(1, 2))
        assert np.abs(shown - colors).max() < 8, matrix


def test_sound_is_left_out_and_real_clips_keep_their_frames(shared_dir):
    path = str(shared_dir / "data" / "kinetics_sample" / "demo_arm_wrestling.mp4")
    video = transcode(path, EncodeProfile(short_side=64), 10.0, 20.0)
    assert video.info == VideoInfo(280, 28.0, 84, 64, 10.0, 0, "h264", pixel_aspect=64 / 51) == probe(video.data)
    with av.open(io.BytesIO(video.data)) as container:
        assert len(container.streams) == 1


def test_inspect_keeps_the_bytes():
    data = encode_frames(gray_steps(12), 25.0)
    assert inspect(data)[:2] == (data, probe(data))


def test_unordered_and_mpeg4_files(shared_dir):
    folder = shared_dir / "data" / "odd_videos"
    assert transcode(str(folder / "unordered.mov"), EncodeProfile()).info.num_frames == 4
    video = transcode(str(folder / "mpeg4_in_avi.avi"), EncodeProfile())
    assert video.info == VideoInfo(164, 25.0, 320, 240, 6.56, 0, "h264")
    with av.open(str(folder / "mpeg4_in_avi.avi")) as container:
        reference = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    result = decode_frames(video.data, range(164), "pyav")
    assert np.abs(result[::9].astype(int) - reference[::9]).mean(axis=(1, 2, 3)).max() < 8


@pytest.mark.parametrize("function", [lambda source: transcode(source, EncodeProfile()), inspect])
def test_damaged_input_is_refused_with_its_reason(function, shared_dir, tmp_path):
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    whole = encode_frames(noise, 25.0)
    index = whole[whole.rindex(b"moov") - 4 :]
    media = whole[: -len(index)]
    # Our mp4 has its index at the end: cutting the end off leaves nothing to read; the index in front shows the cut.
    offset = len(index)
    front = io.BytesIO()
    with av.open(io.BytesIO(whole)) as source, av.open(front, "w", format="matroska") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    cases = [
        (str(tmp_path / "absent.mp4"), {ABSENT}),
        (b"nothing", {UNREADABLE}),
        (whole[: len(whole) // 2], {UNREADABLE}),
        (front.getvalue()[: len(front.getvalue()) // 3], {TRUNCATED, DAMAGED}),
        (media[: len(media) // 2] + bytes(len(media) - len(media) // 2) + whole[-offset:], {DAMAGED}),
        (str(shared_dir / "data" / "odd_videos" / "corrupted.mp4"), {DAMAGED, TRUNCATED}),
    ]
    for source, reasons in cases:
        with pytest.raises(DecodeError) as caught:
            function(source)
        assert caught.value.reason in reasons, str(caught.value)
    with pytest.raises(DecodeError) as caught:
        function(sound_alone())
    assert caught.value.reason == NO_VIDEO_STREAM


def test_a_real_clip_cut_at_any_place_is_refused(shared_dir):
    """The index of these files is at the front, as on the web: the cut shows in what it promises."""
    data = sorted((shared_dir / "data" / "kinetics_sample" / "videos").rglob("*.mp4"))[0].read_bytes()
    for share in (0.2, 0.5, 0.9):
        with pytest.raises(DecodeError) as caught:
            transcode(data[: int(share * len(data))], EncodeProfile(short_side=64))
        assert caught.value.reason in (TRUNCATED, UNREADABLE, DAMAGED)


def test_memory_does_not_grow_with_the_length():
    """2000 frames of 320x240 are 440 MB in RGB and 220 MB as decoded; alone in a process, whose peak is its own."""
    program = """
import resource, numpy as np
from datamodules.encoding.transcoding import EncodeProfile, SourceIrregularities, encode_frames, transcode
frame = np.zeros((240, 320, 3), np.uint8)
source = encode_frames((frame for _ in range(2000)), 30.0, preset="ultrafast")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert transcode(source, EncodeProfile(preset="ultrafast")).info.num_frames == 2000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    repository = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 60_000  # KiB


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_progress_is_told_while_a_video_is_read(container):
    """A packet or frame at a time: who watches can tell a long video from one that hangs."""
    data = encode("libx264", container)
    for work in (
        lambda progress: transcode_renditions(data, (EncodeProfile(),), progress=progress),
        lambda progress: inspect(data, progress),
    ):
        told = []
        work(told.append)
        assert told == list(range(1, len(told) + 1))
        assert len(told) >= 80  # 40 packets, then 40 frames
    told = []
    probe(data, told.append)
    assert told == list(range(1, 41 if container == "mp4" else 81))  # which frames those packets make, decoding tells
