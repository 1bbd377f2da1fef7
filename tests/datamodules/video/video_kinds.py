"""Video files of every kind that people bring, made here, and what a plain decode from start to end gives of them."""

import importlib.util
import io
from fractions import Fraction

import av
import numpy as np

from tests.ordinary_priority import ordinary_priority

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


def sound_alone():
    """A file without any video."""
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        output.mux(stream.encode(sound))
    return file.getvalue()


def encode(
    codec,
    container,
    count=40,
    height=64,
    width=96,
    pixels="yuv420p",
    b_frames=0,
    times=None,
    turn=0,
    sound=False,
    **options,
):
    """A video file of any kind.

    `times` maps the frame's number to milliseconds, `turn` is the display rotation, `sound` adds 4 s of it from 0 on.
    """
    file = io.BytesIO()
    time_base = Fraction(1, 1000) if times else Fraction(1, 25)
    with ordinary_priority(), av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {name.replace("_", "-"): str(value) for name, value in options.items()}
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.thread_count = 12, b_frames, 1
        context.time_base = time_base
        if turn:
            stream.set_display_rotation(turn)
        if sound:
            _add_silence(output)
        for number, picture in enumerate(pictures(count, height, width)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = times(number) if times else number, time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def _add_silence(output):
    stream = output.add_stream("aac", rate=8000)
    for number in range(32):
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
        silence.rate, silence.pts, silence.time_base = 8000, 1000 * number, Fraction(1, 8000)
        output.mux(stream.encode(silence))
    output.mux(stream.encode(None))


def linear(data):
    """The reference: every frame that PyAV gives, in order, turned upright; uint8 (T, H, W, 3)."""
    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(container.streams.video[0])
        return np.stack([np.rot90(f.to_ndarray(format="rgb24"), round(f.rotation / 90) % 4) for f in frames])


def slow_then_fast(number):
    return 200 * number if number < 20 else 3200 + 40 * number


def late(number):
    return 2500 + 40 * number


QUIET_X265 = "log-level=none:pools=1"
QUICK_VP9 = {"deadline": "realtime", "cpu_used": 8}
QUICK_AV1 = {"preset": 12, "svtav1_params": "lp=1"}
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
    "h264 without B-frames": ("libx264", "mp4", {}),
    "h264 of 10 bit": ("libx264", "mp4", {"b_frames": 2, "pixels": "yuv420p10le"}),
    "h264 later than its sound": ("libx264", "mp4", {"b_frames": 3, "times": late, "sound": True}),
    "h264 in matroska, later than its sound": ("libx264", "matroska", {"b_frames": 3, "times": late, "sound": True}),
    "h264 of one frame": ("libx264", "mp4", {"count": 1}),
    "hevc": ("libx265", "mp4", {"b_frames": 3, "x265_params": "log-level=none:pools=1"}),
    "hevc with open groups": ("libx265", "mp4", {"b_frames": 3, "x265_params": f"{QUIET_X265}:open-gop=1:keyint=12"}),
    "hevc of 10 bit in matroska": ("libx265", "matroska", {"pixels": "yuv420p10le", "x265_params": QUIET_X265}),
    "hevc turned by 90, of one frame": ("libx265", "mp4", {"turn": 90, "count": 1, "x265_params": QUIET_X265}),
    "hevc cut by its edit list": (
        "libx265",
        "mp4",
        {"b_frames": 3, "times": lambda i: 40 * i - 300, "x265_params": QUIET_X265},
    ),
    "mpeg4 in avi": ("mpeg4", "avi", {}),
    "mpeg4 in avi of one frame": ("mpeg4", "avi", {"count": 1}),
    "mpeg4 in mp4 with B-frames, late": ("mpeg4", "mp4", {"b_frames": 2, "times": late, "sound": True}),
    "mpeg4 in matroska at a variable rate": ("mpeg4", "matroska", {"times": slow_then_fast}),
    "mpeg4 in avi with B-frames": ("mpeg4", "avi", {"b_frames": 2}),
    "mpeg4 in avi of odd size": ("mpeg4", "avi", {"height": 65, "width": 97}),
    "vp8 with hidden frames": ("libvpx", "webm", {"auto_alt_ref": 1, "lag_in_frames": 16, "cpu_used": 5}),
    "vp9": ("libvpx-vp9", "webm", {"height": 65, "width": 97, **QUICK_VP9}),
    "vp9 with hidden frames": ("libvpx-vp9", "webm", {"auto_alt_ref": 1, "lag_in_frames": 16, "cpu_used": 5}),
    "vp9 in mp4 at a variable rate": ("libvpx-vp9", "mp4", {"times": slow_then_fast, **QUICK_VP9}),
    "vp9 of one frame": ("libvpx-vp9", "webm", {"count": 1, **QUICK_VP9}),
    "av1": ("libsvtav1", "webm", QUICK_AV1),
    "av1 of odd size and 10 bit": (
        "libsvtav1",
        "mp4",
        {"height": 67, "width": 99, "pixels": "yuv420p10le", **QUICK_AV1},
    ),
    "av1 in matroska, late": ("libsvtav1", "matroska", {"times": late, "count": 12, **QUICK_AV1}),
}
