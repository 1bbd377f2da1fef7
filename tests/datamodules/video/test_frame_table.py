"""Which frames a file has, in which order and when: all that packs, probes and decodes says the same."""

import io
import struct

import av
import numpy as np
import pytest

from datamodules.encoding.transcoding import EncodeProfile, SourceIrregularities, inspect, transcode
from datamodules.video.decoding import TRUNCATED, DecodeError, decode_frames, probe, read_frame_times
from datamodules.video.frame_table import read_frame_table
from datamodules.video.packets import is_reference_only
from tests.datamodules.video.odd_files import (
    add_numbered,
    cut_without_encoding,
    numbered_video,
    plain_decode,
    read_number,
)

X264 = {"b_frames": 2, "x264_params": "scenecut=0:b-adapt=0"}
OPEN_GROUPS = {"b_frames": 2, "x264_params": "open-gop=1:keyint=12:scenecut=0:b-adapt=0"}
HEVC = {"b_frames": 2, "x265_params": "log-level=none:pools=1:open-gop=1:keyint=12:scenecut=0"}


def shown_numbers(data):
    return [read_number(frame) for frame in decode_frames(data, range(probe(data).num_frames), "pyav")]


def check_everywhere(data, expected, fps=25, tolerance=1e-3):
    """Probe, decoding of any frame, packing and --copy agree on the frames of a file; gives what packing notes."""
    info = probe(data)
    assert info.num_frames == len(expected)
    assert info.fps == pytest.approx(fps, rel=tolerance)
    assert shown_numbers(data) == expected
    for index in (0, len(expected) // 2, len(expected) - 1):
        assert read_number(decode_frames(data, [index], "pyav")[0]) == expected[index]
    with pytest.raises(DecodeError, match="out of range"):
        decode_frames(data, [len(expected)], "pyav")
    assert inspect(data).info == info
    packed = transcode(data, EncodeProfile())
    assert shown_numbers(packed.data) == expected
    assert (packed.info.num_frames, packed.info.fps) == (info.num_frames, pytest.approx(fps, rel=tolerance))
    return packed.notes


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libvpx", "webm", {"deadline": "realtime", "cpu_used": 8}),
        ("libx264", "matroska", X264),
        ("libx264", "mpegts", X264),
        ("mpeg2video", "mpegts", {"b_frames": 2}),
        ("mpeg2video", "mpeg", {"b_frames": 2}),
    ],
)
def test_joined_files_whose_clock_starts_again(codec, container, options):
    """`cat one other`: each part's first frame has the same time."""
    parts = [numbered_video(codec, container, numbers, **options) for numbers in (range(30), range(30, 60))]
    notes = check_everywhere(b"".join(parts), list(range(60)))
    assert notes == SourceIrregularities(clock_jumps=1)


@pytest.mark.parametrize(("first", "second"), [(0, 3_600_000), (3_600_000, 0)])
def test_a_transport_stream_whose_clock_jumps(first, second):
    parts = [
        numbered_video("libx264", "mpegts", numbers, times=[start + 40 * i for i in range(20)], **X264)
        for numbers, start in ((range(20), first), (range(20, 40), second))
    ]
    notes = check_everywhere(b"".join(parts), list(range(40)))
    assert notes == SourceIrregularities(clock_jumps=1)


def test_joined_parts_of_other_rates_keep_their_own():
    webm = {"deadline": "realtime", "cpu_used": 8}
    data = numbered_video("libvpx", "webm", range(20), **webm) + numbered_video(
        "libvpx", "webm", range(20, 40), 10, **webm
    )
    notes = check_everywhere(
        data, list(range(40)), 40 / 2.8, tolerance=0.03
    )  # the header speaks of 40 ms for the last one
    assert notes == SourceIrregularities(variable_rate=True, clock_jumps=1)
    steps = np.diff(read_frame_times(transcode(data, EncodeProfile()).data))
    assert steps[:19] == pytest.approx(0.04, abs=2e-3)
    assert steps[20:] == pytest.approx(0.1, abs=2e-3)


@pytest.mark.parametrize(
    ("codec", "options", "containers"),
    [
        ("libx265", HEVC, ("matroska", "mpegts", "mp4")),
        ("libx264", OPEN_GROUPS, ("matroska", "mp4")),
        ("mpeg2video", {"b_frames": 2}, ("mpegts", "mpeg")),
    ],
)
def test_leading_pictures_of_a_cut_file_are_none_of_its_frames(codec, options, containers):
    """What refers to frames that were cut away is not shown (H.265, section 8.1.3; H.262, section 6.3.8)."""
    whole = numbered_video(codec, "matroska" if codec != "mpeg2video" else "mpegts", range(48), **options)
    with av.open(io.BytesIO(whole)) as opened:
        keys = [i for i, packet in enumerate(p for p in opened.demux(video=0) if p.size) if packet.is_keyframe]
    for container in containers:
        data = cut_without_encoding(whole, container, keys[1])
        expected = plain_decode(data)
        assert 30 < len(expected) < 48
        assert expected == list(range(expected[0], 48))
        check_everywhere(data, expected)


def test_joined_files_whose_times_lie_between_one_another():
    """No time comes twice, and sorted they would mix the frames of both parts."""
    webm = {"deadline": "realtime", "cpu_used": 8, "key_every": 100}
    parts = [
        numbered_video("libvpx", "webm", numbers, times=[start + 40 * i for i in range(20)], **webm)
        for numbers, start in ((range(20), 0), (range(20, 40), 13))
    ]
    notes = check_everywhere(b"".join(parts), list(range(40)))
    assert notes == SourceIrregularities(clock_jumps=1)


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts"])
def test_a_file_that_begins_in_the_middle_of_a_group(container):
    whole = numbered_video("libx264", "matroska", range(48), key_every=24, **X264)
    data = cut_without_encoding(whole, "matroska", 5)
    if container == "mpegts":  # a recorder's segment, cut at any packet: it repeats the headers with each key frame
        stream = numbered_video("libx264", "mpegts", range(48), key_every=24, **X264)
        data = stream[188 * 12 :]
    elif container == "mp4":
        data = cut_without_encoding(whole, "mp4", 5)
    check_everywhere(data, list(range(24, 48)))


def test_errors_before_the_first_key_frame_are_passed_over():
    """The first packet of a cut file is damaged: what it was part of is gone anyway. Later it is an error."""
    whole = numbered_video("libx264", "matroska", range(48), key_every=24, **X264)
    with av.open(io.BytesIO(whole)) as opened:
        packets = [bytes(packet) for packet in opened.demux(video=0) if packet.size]
    data = cut_without_encoding(whole, "matroska", 5)
    broken = data.replace(packets[5], b"\xff" * len(packets[5]), 1)
    assert broken != data
    check_everywhere(broken, list(range(24, 48)))
    with pytest.raises(DecodeError):
        transcode(data.replace(packets[30], b"\xff" * len(packets[30])), EncodeProfile())


def test_a_gradual_refresh_begins_where_the_picture_is_whole():
    """A key frame by its mark alone: H.264's recovery point, from which the picture becomes whole by and by."""
    whole = numbered_video("libx264", "matroska", range(48), x264_params="intra-refresh=1:keyint=12:scenecut=0")
    with av.open(io.BytesIO(whole)) as opened:
        keys = [i for i, packet in enumerate(p for p in opened.demux(video=0) if p.size) if packet.is_keyframe]
    data = cut_without_encoding(whole, "matroska", keys[1])
    check_everywhere(data, plain_decode(data))


def test_presentation_times_of_a_wrong_order_number_the_frames():
    """As ffmpeg copies MPEG-4 with B-frames out of AVI: each packet has its decoding time for both."""
    avi = numbered_video("mpeg4", "avi", range(30), b_frames=2)
    file = io.BytesIO()
    with av.open(io.BytesIO(avi)) as source, av.open(file, "w", format="mp4") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.stream = packet.dts, stream
                output.mux(packet)
    notes = check_everywhere(file.getvalue(), list(range(30)))
    assert notes == SourceIrregularities()


def test_empty_chunks_of_an_avi_are_pauses():
    """A screen recorder that dropped frames: the place of each stays, and the rate is that of the places."""
    avi = numbered_video("mjpeg", "avi", range(20), pixels="yuvj420p")
    start = avi.index(b"movi") + 4
    chunks, position = [], start
    while avi[position : position + 4] == b"00dc":
        size = struct.unpack_from("<I", avi, position + 4)[0]
        chunks.append(avi[position : position + 8 + size + size % 2])
        position += len(chunks[-1])
    assert len(chunks) == 20
    content = b"movi" + b"".join(chunk + b"00dc\0\0\0\0" for chunk in chunks)
    head = avi[: start - 12]
    data = head + b"LIST" + struct.pack("<I", len(content)) + content
    info = probe(data)
    assert (info.num_frames, info.fps) == (20, pytest.approx(12.5, rel=0.05))
    assert shown_numbers(transcode(data, EncodeProfile()).data) == list(range(20))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_b_frames_has_the_rate_of_its_places(codec):
    """What FFmpeg says of presentation times in such a file is wrong."""
    options = X264 if codec == "libx264" else {"b_frames": 2}
    assert (
        check_everywhere(numbered_video(codec, "avi", range(40), **options), list(range(40))) == SourceIrregularities()
    )


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts", "avi", "flv"])
def test_a_longer_sound_is_no_truncation(container):
    file = io.BytesIO()
    codec = "mpeg4" if container == "avi" else "libx264"
    with av.open(file, "w", format=container) as output:
        sound = output.add_stream("aac", rate=44100)
        add_numbered(output, codec, range(20), 25, 0, 12, None, "yuv420p", {})
        for number in range(400):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.rate, silence.pts = 44100, 1024 * number
            output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
    # FFmpeg writes an empty chunk after the first frame of an AVI with sound.
    check_everywhere(file.getvalue(), list(range(20)), tolerance=0.06 if container == "avi" else 1e-3)


def test_a_header_that_promises_more_time_or_frames_is_no_truncation():
    """AVI's frame count and Matroska's duration are promises; bytes are not."""
    avi = bytearray(numbered_video("mpeg4", "avi", range(20)))
    struct.pack_into("<I", avi, avi.index(b"avih") + 8 + 16, 20_000)  # dwTotalFrames
    struct.pack_into("<I", avi, avi.index(b"strh") + 8 + 32, 20_000)  # dwLength
    check_everywhere(bytes(avi), list(range(20)))
    webm = bytearray(numbered_video("libvpx", "webm", range(20), deadline="realtime", cpu_used=8))
    struct.pack_into(">d", webm, webm.index(b"\x44\x89\x88") + 3, 80_000.0)  # Duration, in milliseconds
    check_everywhere(bytes(webm), list(range(20)))


def test_padding_after_the_last_chunk_is_no_truncation():
    """UT-Interaction has such files: padded to 2048 bytes with an older copy of their own header."""
    avi = numbered_video("mpeg4", "avi", range(20))
    movie = avi.index(b"movi") - 8
    check_everywhere(avi + bytes(64) + avi[movie : movie + 12] + bytes(100), list(range(20)))


@pytest.mark.parametrize(
    ("codec", "container"), [("libx264", "matroska"), ("mpeg4", "avi"), ("libvpx", "webm"), ("libx264", "mp4")]
)
def test_a_cut_file_is_truncated(codec, container, tmp_path):
    options = {"deadline": "realtime", "cpu_used": 8} if codec == "libvpx" else {}
    path = tmp_path / "whole"
    # The header of the mp4 is in front, as on the web.
    with av.open(str(path), "w", format=container, options={"movflags": "faststart"}) as output:
        add_numbered(output, codec, range(60), 25, 0, 12, None, "yuv420p", options)
    data = path.read_bytes()
    with av.open(str(path)) as opened:
        between_packets = [packet.pos for packet in opened.demux(video=0) if packet.size][50]
    for length in (int(0.75 * len(data)), int(0.9 * len(data)), between_packets):
        for function in (lambda source: transcode(source, EncodeProfile()), inspect):
            with pytest.raises(DecodeError) as caught:
                function(data[:length])
            assert caught.value.reason == TRUNCATED, caught.value


def test_a_live_recording_cut_off_cannot_be_known_to_be():
    """Matroska of unknown size, written to a pipe: what is there is taken."""

    class Pipe(io.BytesIO):
        seek = tell = None

    pipe = Pipe()
    with av.open(pipe, "w", format="matroska", options={"live": "1"}) as output:
        add_numbered(output, "libx264", range(60), 25, 0, 6, None, "yuv420p", {})
    data = pipe.getvalue()
    expected = plain_decode(data[: len(data) * 2 // 3])
    assert 20 < len(expected) < 60
    assert shown_numbers(transcode(data[: len(data) * 2 // 3], EncodeProfile()).data) == expected


@pytest.mark.parametrize(
    ("first_byte", "last_byte", "hidden"),
    [
        (0b10000010, 0, False),  # a key frame that is shown
        (0b10000110, 0, False),
        (0b10000100, 0, True),  # for reference only
        (0b10001000, 0, False),  # shows a frame that is there already
        (0b10000100, 0b11000001, False),  # a superframe: of its frames one is shown
    ],
)
def test_packets_of_vp9_that_give_no_frame(first_byte, last_byte, hidden):
    """The uncompressed header of VP9: marker, two bits of the profile, show_existing_frame, frame_type, show_frame."""
    assert is_reference_only(av.Packet(bytes([first_byte, 0, 0, last_byte])), "vp9") == hidden


def test_a_constant_rate_needs_no_decoding(monkeypatch):
    """What the packets tell is not decoded to be counted."""

    def refuse(source):
        raise AssertionError("decoded")

    monkeypatch.setattr("datamodules.video.frame_table.iterate_frames", refuse)
    for codec, container in (("libx264", "mp4"), ("libx264", "matroska"), ("mpeg4", "avi")):
        table = read_frame_table(numbered_video(codec, container, range(20), b_frames=2))
        assert (table.num_frames, table.variable_rate) == (20, False)


def test_a_single_frame_does_not_last_for_hours():
    """A header of one frame in six hours, and nothing beside it to tell: at 30 a second that were 648,000 frames."""
    data = numbered_video("mpeg4", "mp4", range(1), times=[0])
    place = data.index(b"stts") + 12
    long = data[:place] + struct.pack(">I", 6 * 3600 * 1000 * 16) + data[place + 4 :]
    assert probe(long).duration_s <= 1
    assert transcode(long, EncodeProfile(fps=30)).info.num_frames <= 30
