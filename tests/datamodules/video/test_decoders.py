"""Every decoder gives the frames of a plain decode from start to end, whatever the file and whatever is asked for."""

import io

import av
import numpy as np
import pytest

from datamodules.video.decoding import DecodeError, decode_frames, probe
from tests.datamodules.video.video_kinds import INSTALLED, KINDS, encode, linear


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


NEVER_NEEDED = ["h264 with B-frames", "h264 in matroska", "mpeg4 in matroska at a variable rate", "vp9", "av1"]


@pytest.mark.parametrize("name", NEVER_NEEDED)
def test_only_the_frames_of_the_same_group_are_decoded(name):
    """Every packet outside of the wanted frame's group of pictures is noise: who decoded one would not be right.

    But for the first: noise would hide that the file begins with a key frame, and so numbers its frames.
    """
    codec, container, options = KINDS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    data = encode(codec, container, **options)
    reference = linear(data)
    with av.open(io.BytesIO(data)) as opened:
        packets = [packet for packet in opened.demux(video=0) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    shown = sorted(packet.pts for packet in packets)
    first, end = keys[1], keys[2]  # the second group
    wanted = shown.index(packets[first].pts) + 3
    broken, noise = bytearray(data), np.random.default_rng(0)
    spoilt = 0
    for packet in [*packets[1:first], *packets[end:]]:
        place = data.find(bytes(packet))
        assert place > 0
        start = 5 if codec == "libx264" else 1  # the lengths and kinds of NAL units, VP9's and AV1's first byte
        broken[place + start : place + packet.size] = noise.bytes(packet.size - start)
        spoilt += 1
    assert spoilt >= 20
    damaged = bytes(broken)
    assert np.array_equal(decode_frames(damaged, [wanted], "pyav")[0], reference[wanted])
    with pytest.raises(DecodeError):
        decode_frames(damaged, list(range(len(reference))), "pyav")
