"""Segments cut out of a file: which frames, at which times, and what is refused."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from datamodules.annotations.segments import Segment
from datamodules.encoding import seek_table_cache
from datamodules.encoding.segments import transcode_segment
from datamodules.encoding.transcoding import EncodeProfile, encode_frames
from datamodules.video.decoding import DAMAGED, OUT_OF_RANGE, TOO_SHORT, TRUNCATED, DecodeError, probe, read_frame_times
from datamodules.video.frame_table import FrameTable
from tests.datamodules.encoding.test_transcoding import gray_steps, numbers, timed_video

PROFILES = (EncodeProfile(), EncodeProfile(short_side=32))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """40 frames at 10 a second, each of its own gray."""
    path = tmp_path / "four_seconds.mp4"
    path.write_bytes(encode_frames(gray_steps(40), 10.0, key_frame_interval=8))
    return str(path)


def cut(path: str, *segment: float | None, profile: EncodeProfile = PROFILES[0]):
    (video,) = transcode_segment(path, (profile,), Segment(*segment))
    return video


@pytest.mark.parametrize(
    ("segment", "frames"),
    [
        ((1.0, 2.0), range(10, 20)),
        ((None, 0.35), range(4)),
        ((3.75, None), range(38, 40)),
        ((None, None, 11, 13), range(11, 13)),
        ((None, None, None, 2), range(2)),
        ((0.3, 0.7), range(3, 7)),  # none of these is a binary fraction: 0.1 is a little more than a tenth
        ((0.1, 0.2), range(1, 2)),
        ((1.01, 1.2), range(11, 12)),
        ((3.9, 4.9), range(39, 40)),
    ],
)
def test_the_frames_that_begin_within_a_segment(file: str, segment: tuple[float | None, ...], frames: range) -> None:
    video = cut(file, *segment)
    assert numbers(video.data) == list(frames)
    assert (video.source_start, video.source_end) == pytest.approx((frames.start / 10, frames.stop / 10))
    assert video.source_share == pytest.approx(len(frames) / 40)
    assert video.info == probe(video.data)
    assert video.info.fps == 10.0
    assert video.notes.ends_after_file == (segment == (3.9, 4.9))


@pytest.mark.parametrize(
    ("segment", "reason", "words"),
    [
        ((4.0, 5.0), OUT_OF_RANGE, "begins at 4.0 s, after the end: the video lasts 4.00 s"),
        ((1.0, 5.5), OUT_OF_RANGE, "ends at 5.5 s, after the end"),
        ((-0.5, 1.0), OUT_OF_RANGE, "begins at -0.5 s, before the video"),
        ((None, None, 40, 50), OUT_OF_RANGE, "begins at frame 40"),
        ((None, None, 0, 51), OUT_OF_RANGE, "ends at frame 51"),
        ((1.02, 1.08), TOO_SHORT, "from 1.02 s to 1.08 s holds no frame"),
        ((2.0, 1.0), TOO_SHORT, "holds no frame"),
    ],
)
def test_what_is_refused(file: str, segment: tuple[float | None, ...], reason: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as caught:
        cut(file, *segment)
    assert caught.value.reason == reason


def test_segments_that_touch_share_no_frame_and_leave_none_out(file: str) -> None:
    cuts = [0.0, 0.33, 0.7, 1.0000001, 2.9, 4.0]
    found = [n for start, end in pairwise(cuts) for n in numbers(cut(file, start, end).data)]
    assert found == list(range(40))


def test_renditions_and_another_rate(file: str) -> None:
    large, small = transcode_segment(file, PROFILES, Segment(1.0, 2.0))
    assert (large.info.height, small.info.height) == (48, 32)
    assert numbers(small.data) == numbers(large.data) == list(range(10, 20))
    resampled = cut(file, 1.0, 2.0, profile=EncodeProfile(fps=5.0))
    assert (resampled.info.num_frames, resampled.info.fps) == (5, 5.0)


def test_a_variable_rate_within_the_segment_alone(tmp_path: Path) -> None:
    """10 frames in the first second, then 5 a second: each half is evenly spaced, both together are not."""
    path = tmp_path / "slides.mkv"
    path.write_bytes(timed_video([100 * i for i in range(10)] + [1000 + 200 * i for i in range(10)]))
    fast, slow, both = (cut(str(path), *times) for times in ((0.0, 1.0), (1.0, 2.8), (0.5, 2.0)))
    assert (fast.info.fps, fast.info.variable_rate) == (10.0, False)
    assert (slow.info.fps, slow.info.variable_rate, slow.source_start) == (pytest.approx(5.0), False, 1.0)
    assert both.info.variable_rate
    assert read_frame_times(both.data) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.1, 1.3], abs=1e-3)


def test_a_truncated_file_and_a_damaged_place(file: str, tmp_path: Path) -> None:
    """A segment elsewhere in a damaged file is cut; a truncated file is refused as a whole."""
    data = Path(file).read_bytes()
    with av.open(file) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    start, size = packets[25].pos, packets[25].size
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data[:start] + bytes(size) + data[start + size :])
    assert numbers(cut(str(damaged), 1.0, 2.0).data) == list(range(10, 20))
    with pytest.raises(DecodeError) as caught:
        cut(str(damaged), 2.0, 3.0)
    assert caught.value.reason == DAMAGED
    matroska = timed_video([40 * i for i in range(60)])
    (tmp_path / "short.mkv").write_bytes(matroska[: 2 * len(matroska) // 3])
    with pytest.raises(DecodeError) as caught:
        cut(str(tmp_path / "short.mkv"), 0.0, 0.4)
    assert caught.value.reason == TRUNCATED


def test_the_packets_of_a_file_are_read_once(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = seek_table_cache.read_seek_table
    monkeypatch.setattr(seek_table_cache, "read_seek_table", lambda *arguments: reads.append(1) or read(*arguments))
    tables = tmp_path / "tables"
    (first,) = transcode_segment(file, PROFILES[:1], Segment(1.0, 2.0), tables)
    seek_table_cache._latest.clear()  # as in another process
    (again,) = transcode_segment(file, PROFILES[:1], Segment(1.0, 2.0), tables)
    assert (len(reads), again) == (1, first)
    (stored,) = tables.iterdir()
    stored.write_bytes(stored.read_bytes()[:50])
    seek_table_cache._latest.clear()
    assert transcode_segment(file, PROFILES[:1], Segment(1.0, 2.0), tables) == [first]  # a damaged table is read anew
    Path(file).write_bytes(encode_frames(gray_steps(20), 10.0))
    with pytest.raises(DecodeError, match=r"ends at 4.0 s, after the end: the video lasts 2.00 s"):
        cut(file, 1.0, 4.0)
    assert len(reads) == 3


def test_the_table_of_a_part() -> None:
    table = FrameTable([0, 4, 8, 20, 24], Fraction(1, 100), Fraction(25), Fraction(28, 100), variable_rate=True)
    part = table.part(1, 3)
    assert (part.ticks, part.duration, part.variable_rate) == ([0, 4], Fraction(16, 100), False)
    assert part.rate == Fraction(25, 2)  # the second frame is shown for 120 ms
    one = table.part(4, 5)
    assert (one.ticks, one.duration, one.rate, one.variable_rate) == ([0], Fraction(4, 100), 25, False)
