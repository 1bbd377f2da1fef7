"""Encoding for training: what goes in comes out, in the same bytes every time, and damage is refused."""

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
    SourceIrregularities,
    encode_frames,
    inspect,
    target_size,
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
    read_frame_times,
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


def test_encoded_frames_have_key_frames_where_asked_and_no_reordering():
    data = encode_frames(gray_steps(20), 25.0, key_frame_interval=8)
    table = packets(data)
    assert [index for index, (_, _, is_key) in enumerate(table) if is_key] == [0, 8, 16]
    assert all(pts == dts for pts, dts, _ in table)
    assert numbers(data) == list(range(20))
    assert probe(data) == VideoInfo(20, 25.0, 64, 48, 0.8, 0, "h264")


@pytest.mark.parametrize("fast", [True, False])
def test_what_takes_long_to_decode_is_left_out_unless_wanted(fast):
    data = transcode(encode_frames(gray_steps(4), 10.0), EncodeProfile(short_side=48, fast_decode=fast)).data
    settings = [b"cabac=0", b"deblock=0", b"weightp=0"] if fast else [b"cabac=1", b"deblock=1", b"weightp=1"]
    assert all(setting in data for setting in settings)  # x264 writes its settings into the file
    assert numbers(data) == [0, 1, 2, 3]


def test_a_cut_in_the_scene_adds_no_key_frame():
    generator = np.random.default_rng(0)
    frames = [np.broadcast_to(generator.integers(0, 256, 3, np.uint8), (48, 64, 3)) for _ in range(16)]
    assert [is_key for _, _, is_key in packets(encode_frames(frames, 10.0))] == [True] + [False] * 15


def test_bytes_are_the_same_every_time():
    assert encode_frames(gray_steps(20), 25.0) == encode_frames(iter(gray_steps(20)), 25.0)
    source = encode_frames(gray_steps(20), 30.0)
    profile = EncodeProfile(short_side=32)
    assert transcode(source, profile).data == transcode(source, profile).data


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 12.5, 7.0])
def test_frame_rates_survive(fps):
    info = probe(encode_frames(gray_steps(10), fps))
    assert info.fps == pytest.approx(fps, abs=1e-6)
    assert info.duration_s == pytest.approx(10 / fps, rel=1e-3)


@pytest.mark.parametrize(
    ("width", "height", "short", "expected"),
    [
        (340, 256, 128, (170, 128)),
        (256, 340, 128, (128, 170)),
        (101, 75, 256, (100, 74)),
        (1920, 1080, 256, (456, 256)),
    ],
)
def test_target_size(width, height, short, expected):
    assert target_size(width, height, short) == expected


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


def test_frames_of_a_variable_rate_keep_their_times():
    """10 frames in the first second, then 5 a second; the file says 40 ms for the last one: 20 frames in 2.84 s."""
    times = [100 * i for i in range(10)] + [1000 + 200 * i for i in range(10)]
    source = timed_video(times)
    video = transcode(source, EncodeProfile())
    assert numbers(video.data) == list(range(20))
    assert 1000 * read_frame_times(video.data) == pytest.approx(times, abs=0.1)
    assert video.info == VideoInfo(20, 20 / 2.84, 64, 48, 2.84, 0, "h264", variable_rate=True) == probe(video.data)
    assert video.notes == SourceIrregularities(variable_rate=True)
    assert probe(source)[:6] == video.info[:6]


def test_a_variable_rate_is_made_constant_where_that_is_asked_for():
    """At 5 a second every other frame of the first second is dropped, at 10 each later one is shown twice."""
    source = timed_video([100 * i for i in range(10)] + [1000 + 200 * i for i in range(10)])
    slow, fast = (transcode(source, EncodeProfile(fps=fps)) for fps in (5.0, 10.0))
    assert numbers(slow.data) == [0, 2, 4, 6, 8, *range(10, 20)]
    assert (slow.notes.frames_dropped, slow.notes.frames_repeated) == (5, 0)
    assert numbers(fast.data) == [*range(10), *np.repeat(range(10, 19), 2).tolist(), 19]
    assert (fast.notes.frames_dropped, fast.notes.frames_repeated) == (0, 9)
    assert not slow.info.variable_rate


@pytest.mark.parametrize("pause", [60_000, 3_600_000])
def test_a_pause_loses_no_frame(pause):
    times = [40 * i for i in range(20)] + [pause + 40 * i for i in range(20)]
    video = transcode(timed_video(times), EncodeProfile())
    assert numbers(video.data) == list(range(40))
    assert 1000 * read_frame_times(video.data) == pytest.approx(times, abs=1)
    assert video.notes == SourceIrregularities(variable_rate=True)


def test_one_frame_an_hour():
    video = transcode(timed_video([3_600_000 * i for i in range(5)], "mp4"), EncodeProfile())
    assert numbers(video.data) == list(range(5))
    assert probe(video.data) == video.info
    assert video.info.fps == pytest.approx(1 / 3600, rel=0.3)  # the file says 40 ms for the last frame


def test_jittered_times_lose_no_frame():
    """Matroska rounds 1/30 s to milliseconds: still 30 frames a second, each once."""
    video = transcode(timed_video([round(1000 * i / 30) for i in range(35)]), EncodeProfile())
    assert video.info.num_frames == 35
    assert numbers(video.data) == list(range(35))


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: encode_frames([], 25.0), "frames is empty"),
        (lambda: encode_frames([np.zeros((47, 64, 3), np.uint8)], 25.0), "64x47: both sides must be even"),
        (lambda: encode_frames([np.zeros((48, 64, 3), np.float32)], 25.0), "float32"),
        (lambda: encode_frames(gray_steps(1) + gray_steps(1, 32, 32), 25.0), "must all be uint8"),
        (lambda: encode_frames(gray_steps(1), 0.0), "fps=0.0"),
        (lambda: EncodeProfile(short_side=0), "short_side=0"),
        (lambda: EncodeProfile(key_frame_interval=0), "key_frame_interval=0"),
        (lambda: EncodeProfile(crf=52), "crf=52"),
        (lambda: EncodeProfile(preset="best"), "preset='best'"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_profile_is_plain_data():
    assert EncodeProfile(fps=10.0).as_dict() == {
        "short_side": 256,
        "fps": 10.0,
        "key_frame_interval": 16,
        "crf": 23,
        "preset": "veryfast",
        "fast_decode": True,
        "square_pixels": False,
    }


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
