"""Every decoder against a full linear decode of files made here and of the odd ones people bring."""

import importlib.util
import io
import itertools
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest

from datamodules import seeking
from datamodules.decoding import (
    ABSENT,
    DAMAGED,
    NO_VIDEO_STREAM,
    OUT_OF_RANGE,
    REASONS,
    UNREADABLE,
    DecodeError,
    VideoInfo,
    decode_frames,
    describe_decoder,
    iterate_frames,
    probe,
    resolve_decoder,
)

INSTALLED = ["pyav", *(name for name in ("decord", "torchcodec") if importlib.util.find_spec(name))]


def pictures(count, height, width):
    """Frames that all differ: a moving bar over ramps, and a green level that counts."""
    y, x = np.mgrid[:height, :width]
    for number in range(count):
        picture = np.stack([x * 255 // width, np.full_like(x, number * 37 % 256), y * 255 // height], -1).astype(
            np.uint8
        )
        picture[height // 4 : height // 2, number * 3 % width :][:, :8] = 255
        yield picture


def encode(
    codec, container, count=40, height=64, width=96, pixels="yuv420p", b_frames=0, times=None, turn=0, **options
):
    """A video file of any kind; `times` maps the frame's number to milliseconds, `turn` is the display rotation."""
    file = io.BytesIO()
    time_base = Fraction(1, 1000) if times else Fraction(1, 25)
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {name.replace("_", "-"): str(value) for name, value in options.items()}
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.thread_count = 12, b_frames, 1
        context.time_base = time_base
        if turn:
            stream.set_display_rotation(turn)
        for number, picture in enumerate(pictures(count, height, width)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = times(number) if times else number, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def linear(data):
    """The reference: every frame that PyAV gives, in order, turned upright; uint8 (T, H, W, 3)."""
    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(container.streams.video[0])
        return np.stack([np.rot90(f.to_ndarray(format="rgb24"), round(f.rotation / 90) % 4) for f in frames])


OPEN_GROUPS = {"x264_params": "open-gop=1:keyint=12:b-adapt=0:scenecut=0"}
KINDS = {
    "h264 with B-frames": ("libx264", "mp4", {"b_frames": 3}),
    "h264 with open groups": ("libx264", "mp4", dict(b_frames=3, **OPEN_GROUPS)),
    "h264 with intra refresh": ("libx264", "mp4", {"x264_params": "intra-refresh=1:keyint=12"}),
    "h264 in matroska": ("libx264", "matroska", {"b_frames": 3}),
    "h264 that starts at 5 s": ("libx264", "mp4", {"b_frames": 3, "times": lambda i: 5000 + 40 * i}),
    "h264 cut by its edit list": ("libx264", "mp4", {"b_frames": 2, "times": lambda i: 40 * i - 300}),
    "h264 at a variable rate": (
        "libx264",
        "mp4",
        {"b_frames": 3, "times": lambda i: 40 * i if i < 20 else 200 * i - 3200},
    ),
    "h264 in avi with B-frames": ("libx264", "avi", {"b_frames": 2}),
    "h264 in a transport stream": ("libx264", "mpegts", {"b_frames": 3}),
    "h264 of odd size": ("libx264", "mp4", {"height": 65, "width": 97, "pixels": "yuv444p"}),
    "h264 turned by 90": ("libx264", "mp4", {"turn": 90}),
    "h264 turned by -90": ("libx264", "mp4", {"turn": -90}),
    "h264 turned by 180": ("libx264", "mp4", {"turn": 180}),
    "h264 of one frame": ("libx264", "mp4", {"count": 1}),
    "hevc": ("libx265", "mp4", {"b_frames": 3, "x265_params": "log-level=none:pools=1"}),
    "mpeg4 in avi": ("mpeg4", "avi", {}),
    "mpeg4 in avi with B-frames": ("mpeg4", "avi", {"b_frames": 2}),
    "mpeg4 in avi of odd size": ("mpeg4", "avi", {"height": 65, "width": 97}),
    "vp8 with hidden frames": ("libvpx", "webm", {"auto_alt_ref": 1, "lag_in_frames": 16, "cpu_used": 5}),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu_used": 8, "height": 65, "width": 97}),
}


@pytest.fixture(scope="module", params=KINDS)
def video(request):
    """(bytes, reference frames) of one kind of file; skipped where this FFmpeg lacks the encoder."""
    codec, container, options = KINDS[request.param]
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg has no {codec}")
    data = encode(codec, container, **options)
    return data, linear(data)


def test_pyav_gives_the_frames_of_a_linear_decode(video):
    data, reference = video
    count = len(reference)
    generator = np.random.default_rng(0)
    requests = [[0], [count - 1], list(range(count)), list(range(count))[::-1], [0, 0, count - 1, 0]]
    requests += [generator.integers(0, count, 6).tolist() for _ in range(8)]
    for indices in requests:
        frames = decode_frames(data, indices, "pyav")
        assert frames.dtype == np.uint8
        assert np.array_equal(frames, reference[indices]), indices


def test_probe_tells_what_decoding_gives(video):
    data, reference = video
    info = probe(data)
    assert (info.num_frames, info.height, info.width) == reference.shape[:3]
    assert info.duration_s == pytest.approx(info.num_frames / info.fps, rel=0.01)


@pytest.mark.parametrize("decoder", [name for name in INSTALLED if name != "pyav"])
def test_decoders_agree(video, decoder):
    data, reference = video
    generator = np.random.default_rng(0)
    for _ in range(6):
        indices = generator.integers(0, len(reference), 5).tolist()
        frames = decode_frames(data, indices, decoder)
        assert frames.shape == reference[indices].shape
        # Neighboring frames differ by tens of levels; chroma of odd sizes is interpolated a little differently.
        assert np.abs(frames.astype(int) - reference[indices]).mean() < 2


@pytest.mark.parametrize("decoder", INSTALLED)
@pytest.mark.parametrize(
    "name", ["unordered.mov", "mpeg4_in_avi.avi", "video_0.mov", "video_90.mov", "video_180.mov", "video_270.mov"]
)
def test_files_people_bring(shared_dir, name, decoder):
    data = (shared_dir / "data" / "odd_videos" / name).read_bytes()
    reference = linear(data)
    indices = [len(reference) - 1, 0, 1, 1]
    assert np.abs(decode_frames(data, indices, decoder).astype(int) - reference[indices]).mean() < 2


def test_rotated_files_show_the_same_upright_scene(shared_dir):
    folder = shared_dir / "data" / "odd_videos"
    infos = {angle: probe(folder / f"video_{angle}.mov") for angle in (0, 90, 180, 270)}
    assert infos[90] == VideoInfo(3, 30.0, 320, 568, 0.1, 270, "h264")  # 90 clockwise is 270 counterclockwise
    assert [infos[angle].rotation for angle in (0, 180, 270)] == [0, 180, 90]
    frames = decode_frames((folder / "video_90.mov").read_bytes(), [0], "pyav")
    assert frames.shape == (1, 568, 320, 3)


@pytest.mark.parametrize("name", ["h264 with B-frames", "h264 with open groups", "vp9"])
def test_only_what_is_needed_is_decoded(name):
    codec, container, options = KINDS[name]
    data = encode(codec, container, **options)
    last = list(seeking._frames_by_index(data, [39]))
    assert [index for index, _ in last][-1] == 39
    assert len(last) <= 12 + 4  # one group of pictures
    assert [index for index, _ in itertools.islice(seeking._frames_by_index(data, [0, 1]), 9)] == [0, 1]


def test_iterate_frames_is_in_presentation_order():
    data = encode("libx264", "mp4", b_frames=3)
    assert [frame.time for frame in iterate_frames(data)] == pytest.approx([i / 25 for i in range(40)])


@pytest.mark.parametrize("decoder", INSTALLED)
def test_indices_out_of_range_are_errors(decoder):
    data = encode("libx264", "mp4", count=5)
    for indices in ([5], [0, 99], [-1]):
        with pytest.raises(DecodeError, match="out of range") as caught:
            decode_frames(data, indices, decoder)
        assert caught.value.reason == OUT_OF_RANGE
    with pytest.raises(DecodeError, match="the video has 5 frames"):
        decode_frames(encode("mpeg4", "avi", count=5), [5], "pyav")
    with pytest.raises(ValueError, match="indices is empty"):
        decode_frames(data, [], decoder)


def test_input_that_is_no_video(tmp_path, shared_dir):
    for function in (
        probe,
        lambda source: decode_frames(source, [0], "pyav"),
        lambda source: next(iterate_frames(source)),
    ):
        for data in (b"", b"no video at all", bytes(5000)):
            with pytest.raises(DecodeError) as caught:
                function(data)
            assert caught.value.reason == UNREADABLE
    with pytest.raises(DecodeError, match=r"absent\.mp4") as caught:
        probe(tmp_path / "absent.mp4")
    assert caught.value.reason == ABSENT
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        output.mux(stream.encode(sound))
    with pytest.raises(DecodeError) as caught:
        probe(file.getvalue())
    assert caught.value.reason == NO_VIDEO_STREAM
    with pytest.raises(DecodeError, match="does not decode") as caught:
        list(iterate_frames(shared_dir / "data" / "odd_videos" / "corrupted.mp4"))
    assert caught.value.reason == DAMAGED


def test_damaged_files_give_frames_or_a_decode_error():
    """A few hundred truncated and overwritten files, in this process: PyAV never crashes, nothing else escapes."""
    originals = [
        encode("libx264", "mp4", count=24, b_frames=2),
        encode("mpeg4", "avi", count=24),
        encode("libvpx-vp9", "webm", count=24, deadline="realtime", cpu_used=8),
    ]
    generator = np.random.default_rng(0)
    outcomes, reasons = {"frames": 0, "error": 0}, set()
    for round_, original in itertools.product(range(100), originals):
        data = bytearray(original)
        if round_ % 4 == 0:
            del data[int(generator.integers(len(data))) :]
        else:
            for position in generator.integers(0, len(data), 1 + round_ % 7):
                data[position] = generator.integers(256)
        for function in (probe, lambda source: decode_frames(source, [20, 3, 4], "pyav")):
            try:
                result = function(bytes(data))
                assert isinstance(result, VideoInfo) or (result.shape[0], result.dtype) == (3, np.uint8)
                outcomes["frames"] += 1
            except DecodeError as error:
                reasons.add(error.reason)
                outcomes["error"] += 1
    assert min(outcomes.values()) > 100, outcomes
    assert reasons <= set(REASONS)


def test_decoder_names():
    assert resolve_decoder("auto") in ("pyav", "torchcodec")
    assert describe_decoder("pyav") == f"pyav {av.__version__}"
    with pytest.raises(ValueError, match="decoder='opencv': must be one of auto, pyav, decord, torchcodec"):
        resolve_decoder("opencv")
    for name in {"decord", "torchcodec"} - set(INSTALLED):
        with pytest.raises(ValueError, match=f"decoder='{name}': it does not import here"):
            decode_frames(b"", [0], name)


def test_errors_keep_their_reason_between_processes():
    error = pickle.loads(pickle.dumps(DecodeError("frame 9 is out of range", OUT_OF_RANGE)))
    assert (str(error), error.reason) == ("frame 9 is out of range", OUT_OF_RANGE)
