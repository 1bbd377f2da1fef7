"""Which of several video streams is the video, what its pixels are like, and names that FFmpeg takes for protocols."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from datamodules.encoding.transcoding import EncodeProfile, SourceIrregularities, inspect, transcode
from datamodules.video.decoding import UNREADABLE, DecodeError, decode_frames, probe
from tests.datamodules.video.odd_files import add_numbered, numbered_video, read_number
from tests.datamodules.video.video_kinds import INSTALLED

VIDEO = (range(20), (128, 96))


def two_streams(container, first, second, default=None):
    """A file of two video streams of (numbers, size), one or both marked as default."""
    file = io.BytesIO()
    encoded = [numbered_video_of(numbers, size) for numbers, size in (first, second)]
    with av.open(file, "w", format=container) as output:
        sources = [av.open(io.BytesIO(data)) for data in encoded]
        outputs = [output.add_stream_from_template(source.streams.video[0]) for source in sources]
        for number, stream in enumerate(outputs):
            marked = default is None or number == default
            stream.disposition = av.stream.Disposition.default if marked else av.stream.Disposition(0)
        for source, stream in zip(sources, outputs, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    return file.getvalue()


def numbered_video_of(numbers, size):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        add_numbered(output, "libx264", numbers, 25, 0, 12, None, "yuv420p", {}, size)
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "first", "second", "default", "chosen"),
    [
        ("mov", ([99], (256, 192)), VIDEO, None, 1),  # one large picture, not marked as a cover
        ("matroska", ([99], (256, 192)), VIDEO, None, 1),
        ("mp4", (range(50, 90), (64, 48)), VIDEO, None, 1),  # a small preview: the larger one
        ("mpegts", (range(50, 90), (64, 48)), VIDEO, None, 1),
        ("matroska", (range(50, 70), (256, 192)), VIDEO, 1, 1),  # the default one, although it is smaller
        ("matroska", VIDEO, (range(50, 90), (64, 48)), 0, 0),
    ],
)
def test_the_default_then_the_largest_stream_is_taken(container, first, second, default, chosen):
    data = two_streams(container, first, second, default)
    numbers, (width, height) = (first, second)[chosen]
    info = probe(data)
    assert (info.num_frames, info.width, info.height, info.other_streams) == (len(numbers), width, height, 1)
    for decoder in INSTALLED:
        frames = decode_frames(data, [0, len(numbers) - 1], decoder)
        assert [read_number(frame) for frame in frames] == [numbers[0], numbers[-1]], decoder
    for packed in (transcode(data, EncodeProfile()), inspect(data)):
        assert (packed.info.num_frames, packed.info.width) == (len(numbers), width)
        assert packed.notes == SourceIrregularities(other_streams=1)


@pytest.mark.parametrize("name", ["12:30:05.mp4", "cam1:x.mp4", "concat:a|b.mp4", "file:x.mp4", "-i.mp4", "a%03d.mp4"])
def test_names_are_no_protocols(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(numbered_video("libx264", "mp4", range(5)))
    assert probe(name).num_frames == 5
    assert transcode(name, EncodeProfile()).info.num_frames == 5


def test_a_playlist_opens_no_other_file(tmp_path):
    (tmp_path / "secret.ts").write_bytes(numbered_video("libx264", "mpegts", range(5)))
    (tmp_path / "part.mp4").write_bytes(numbered_video("libx264", "mp4", range(5)))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile part.mp4\nfile part.mp4\n")
    for function in (probe, inspect, lambda path: transcode(path, EncodeProfile())):
        with pytest.raises(DecodeError) as caught:
            function(str(tmp_path / "list.mp4"))
        assert caught.value.reason == UNREADABLE
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n".encode()
    (tmp_path / "list.m3u8").write_bytes(playlist)
    for source in (playlist, str(tmp_path / "list.m3u8")):
        with pytest.raises(DecodeError) as caught:
            probe(source)
        assert caught.value.reason == UNREADABLE


def stretched(aspect):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(3):
            picture = np.zeros((64, 96, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


def test_pixels_that_are_not_square_are_kept_and_noted_or_made_square():
    data = stretched(Fraction(4, 3))
    assert probe(data).pixel_aspect == pytest.approx(4 / 3)
    kept = transcode(data, EncodeProfile(short_side=32))
    assert (kept.info.width, kept.info.height, kept.info.pixel_aspect) == (48, 32, pytest.approx(4 / 3))
    assert kept.notes == SourceIrregularities(stretched_pixels=True)
    assert probe(kept.data) == kept.info
    square = transcode(data, EncodeProfile(short_side=32, square_pixels=True))
    assert (square.info.width, square.info.height, square.info.pixel_aspect) == (64, 32, 1.0)
    assert probe(square.data) == square.info
