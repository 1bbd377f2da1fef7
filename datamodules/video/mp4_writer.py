"""Mp4 writer: encodes frames as H.264 for fast random access in training, with frequent key frames and no B-frames.

Training reads a video many times and writes it once, so the encoding is cheap to decode: without arithmetic coding
(CABAC) and without the deblocking filter, decoding takes half the time and files are an eighth larger
(benchmarks/README.md, "key frames, entropy coding and size").

The same frames give the same bytes on every machine with the same x264 (one thread, `cpu-independent`).
"""

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, VideoReformatter

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class EncodeProfile:
    """Encoder settings for training videos; plain data, recorded in dataset.json.

    Attributes:
        short_side: pixels of the shorter side; a smaller source keeps its size, rounded down to even.
        fps: frames per second, or None for the source's average rate.
        key_frame_interval: frames from one key frame to the next; a random clip is decoded from the one before it.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset, `ultrafast` to `veryslow`.
        fast_decode: x264's tune `fastdecode`: no CABAC, no deblocking filter, no weighted prediction.
        square_pixels: rescale sources with non-square pixels to square ones; otherwise pixels are kept as stored, and
            their aspect ratio is written to the file and the index.
    """

    short_side: int = 256
    fps: float | None = None
    key_frame_interval: int = 16
    crf: int = 23
    preset: str = "veryfast"
    fast_decode: bool = True
    square_pixels: bool = False

    def __post_init__(self) -> None:
        if self.short_side < 16:
            raise ValueError(f"short_side={self.short_side}: must be at least 16 pixels")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps={self.fps}: must be above 0 and at most 1000, or None for the source's rate")
        if self.key_frame_interval < 1:
            raise ValueError(f"key_frame_interval={self.key_frame_interval}: must be at least 1")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf}: must be from 0 to 51")
        if self.preset not in _PRESETS:
            raise ValueError(f"preset={self.preset!r}: must be one of {', '.join(_PRESETS)}")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain data: str, int, float, bool and None."""
        return asdict(self)


# Resolution of the timestamps of variable-rate videos, in ticks per second: MPEG's, or a coarser one where two frames
# are too far apart for the 32 bits that an mp4 has for a frame's duration.
_FINE_TICKS, _COARSE_TICKS = 90_000, 1_000
_MAX_FINE_STEP_S = 2**31 // _FINE_TICKS


class Mp4Writer:
    """Encodes yuv420p frames of one size, one after the other, into an mp4 in memory.

    Args:
        width: pixels, even.
        height: pixels, even.
        rate: frames per second; the average rate where each frame is written with its own time.
        profile: encoder settings.
        pixel_aspect: width of a pixel divided by its height, written to the file.
        longest_step: the longest time between two frames in seconds, if frames are written with their own times; None
            if frame i is shown at i / rate.
    """

    def __init__(
        self,
        width: int,
        height: int,
        rate: Fraction,
        profile: EncodeProfile,
        pixel_aspect: Fraction = Fraction(1),  # immutable
        longest_step: Fraction | None = None,
    ) -> None:
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        fine = longest_step is None or longest_step <= _MAX_FINE_STEP_S
        ticks = Fraction(_FINE_TICKS if fine else _COARSE_TICKS)
        self._stream.codec_context.time_base = 1 / (rate if longest_step is None else ticks)
        if pixel_aspect != 1:
            self._stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._stream.codec_context.thread_count = 1
        interval = profile.key_frame_interval
        self._stream.options = {
            "preset": profile.preset,
            "crf": str(profile.crf),
            "x264-params": (
                f"keyint={interval}:min-keyint={interval}:scenecut=0:bframes=0:open-gop=0:cpu-independent=1:threads=1"
            ),
        }
        if profile.fast_decode:
            self._stream.options |= {"tune": "fastdecode"}
        self.num_frames = 0
        self._last_tick = -1
        self._pending_packet: av.Packet[Any] | None = None

    def copy_color(self, frame: av.VideoFrame) -> None:
        """Copies the color matrix of a source frame into the output's header, so that colors do not change."""
        context = self._stream.codec_context
        context.colorspace, context.color_range = frame.colorspace, ColorRange.MPEG
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc

    def write(self, frame: av.VideoFrame, time: Fraction | None = None) -> None:
        """Appends a frame that is shown from `time` (seconds) on; None: one frame later, at the fixed rate."""
        frame.time_base = self._stream.codec_context.time_base
        tick = self.num_frames if time is None else round(time / frame.time_base)
        frame.pts = self._last_tick = max(tick, self._last_tick + 1)  # no two frames at one time
        frame.pict_type = 0  # otherwise x264 would copy the source's key frames
        self._mux(self._stream.encode(frame))
        self.num_frames += 1

    def finish(self, end: Fraction | None = None) -> bytes:
        """Closes the file and returns its bytes.

        Args:
            end: the time in seconds at which the last frame ends; None: one frame at the fixed rate after its start.
        """
        self._mux(self._stream.encode(None))
        if self._pending_packet is not None:
            if end is not None:
                ticks = round(end / self._stream.codec_context.time_base)
                self._pending_packet.duration = max(1, ticks - self._last_tick)
            self._container.mux(self._pending_packet)
        self._container.close()
        return self._file.getvalue()

    def _mux(self, packets: "Iterable[av.Packet[Any]]") -> None:
        """Writes all packets but the latest, whose duration may still change."""
        for packet in packets:
            if self._pending_packet is not None:
                self._container.mux(self._pending_packet)
            self._pending_packet = packet


def as_rate(fps: float | Fraction) -> Fraction:
    """A frame rate as the nearest standard fraction: 29.97 is 30000/1001; one frame an hour is 1/3600."""
    exact = Fraction(fps)
    return exact.limit_denominator(1001) if exact >= 1 else 1 / (1 / exact).limit_denominator(1001)


def encode_frames(
    frames: Iterable[npt.NDArray[np.uint8]],
    fps: float,
    *,
    crf: int = 23,
    key_frame_interval: int = 16,
    preset: str = "veryfast",
) -> bytes:
    """Encodes frames into an mp4 file: H.264, yuv420p, BT.601, no audio, frame i at i / fps seconds.

    Args:
        frames: uint8 (H, W, 3) RGB, all of one size; H and W even, because yuv420p halves both.
        fps: frames per second, above 0.
        crf: x264's constant rate factor, 0 to 51.
        key_frame_interval: frames from one key frame to the next.
        preset: x264's preset.

    Returns:
        The bytes of the file; equal frames and settings give equal bytes.

    Raises:
        ValueError: no frame, a wrong dtype or shape, an odd side, or a setting out of range.
    """
    profile = EncodeProfile(fps=fps, crf=crf, key_frame_interval=key_frame_interval, preset=preset)
    writer: Mp4Writer | None = None
    shape: tuple[int, ...] = ()
    converter = VideoReformatter()
    for array in frames:
        if writer is None:
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
                raise ValueError(f"frames must be uint8 (H, W, 3), not {array.dtype} {array.shape}")
            if array.shape[0] % 2 or array.shape[1] % 2 or 0 in array.shape:
                raise ValueError(f"frames of {array.shape[1]}x{array.shape[0]}: both sides must be even; crop or pad")
            shape = array.shape
            writer = Mp4Writer(shape[1], shape[0], as_rate(fps), profile)
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"frames must all be uint8 {shape}, not {array.dtype} {array.shape}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        writer.write(converter.reformat(frame, format="yuv420p", threads=1))
    if writer is None:
        raise ValueError("frames is empty: a video needs at least one frame")
    return writer.finish()


def target_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The (width, height) with the shorter side scaled down to `short_side`, never larger than the source, both even.

    >>> target_size(340, 256, 128), target_size(101, 75, 256)
    ((170, 128), (100, 74))
    """
    short = min(width, height)
    if short <= short_side:
        return max(2, width - width % 2), max(2, height - height % 2)
    return (
        max(2, 2 * round(width * short_side / short / 2)),
        max(2, 2 * round(height * short_side / short / 2)),
    )
