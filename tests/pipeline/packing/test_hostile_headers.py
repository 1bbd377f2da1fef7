"""Headers that claim what would fill the memory: refused before anything is allocated."""

import struct

import pytest

from datamodules.encoding.transcoding import EncodeProfile, transcode
from datamodules.video.decoding import REASONS, TOO_LARGE, DecodeError
from pipeline.processes.killable_process import KillableProcess
from tests.datamodules.video.video_kinds import encode
from tests.pipeline.packing.fuzzing import make_sources, read_in_every_way

PEAK_MIB = 150  # 80 are the libraries


def patched(data, tag, offset, *numbers, order=">"):
    """The file with 32-bit numbers written `offset` bytes after a tag."""
    place = data.index(tag) + len(tag) + offset
    packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
    return data[:place] + packed + data[place + len(packed) :]


def vp9_frames_of(data, width, height):
    """The file with another frame size in the uncompressed header of every key frame (VP9 bitstream, 6.2 and 7.2)."""
    changed = bytearray(data)
    place = data.find(b"\x49\x83\x42")  # the sync code; 3 bits of color space and 1 of range follow, then the sizes
    while place >= 0:
        old = int.from_bytes(changed[place + 3 : place + 8], "big")
        sizes = ((width - 1) << 16 | (height - 1)) << 4
        changed[place + 3 : place + 8] = (old & ~(0xFFFFFFFF << 4) | sizes).to_bytes(5, "big")
        place = data.find(b"\x49\x83\x42", place + 1)
    return bytes(changed)


def hostile_files():
    sources = make_sources()
    h264, avi = sources["h264 mp4"], sources["mpeg4 avi"]
    one_size = patched(h264, b"stsz", 4, 1, 10**9)
    return {
        "vp9 of 60000x60000": vp9_frames_of(sources["vp9 webm"], 60000, 60000),
        "vp9 of 20000x10000": vp9_frames_of(sources["vp9 webm"], 20000, 10000),
        "raw video of 60000x60000": patched(encode("rawvideo", "avi"), b"strf", 8, 60000, 60000, order="<"),
        "raw video of 20000x10000": patched(encode("rawvideo", "avi"), b"strf", 8, 20000, 10000, order="<"),
        "a billion sample sizes": patched(h264, b"stsz", 8, 10**9),
        "a billion samples of one byte": one_size,
        "a billion samples in one chunk": patched(one_size, b"stsc", 12, 10**9),
        "a billion times": patched(h264, b"stts", 4, 10**9),
        "a billion samples at one rate": patched(one_size, b"stts", 8, 10**9),
        "a billion frames in avi": patched(avi, b"strh", 32, 10**9, order="<"),
        "a billion edits": patched(h264, b"elst", 4, 10**9),
    }


@pytest.mark.parametrize("name", hostile_files())
def test_little_memory_is_taken(name):
    with KillableProcess() as process:
        outcome = process.call(read_in_every_way, hostile_files()[name], timeout=10)
    assert set(outcome.results.values()) <= {"frames", *REASONS}, outcome
    assert outcome.peak_mib < PEAK_MIB, outcome
    if "0x" in name:
        assert "frames" not in (outcome.results["decode"], outcome.results["transcode"], outcome.results["inspect"])


def test_times_that_claim_centuries():
    far = encode("libx264", "matroska", count=20, times=lambda i: 40 * i if i < 19 else 2 * 10**9)
    packed = transcode(far, EncodeProfile())  # more than 30 hours to the next frame are a clock that jumped
    assert (packed.info.num_frames, packed.notes.clock_jumps) == (20, 1)
    assert packed.info.duration_s < 1
    days = encode("libx264", "matroska", count=20, times=lambda i: 40 * i if i < 19 else 15 * 10**6)
    with pytest.raises(DecodeError, match="claims to last 15000 s, more than") as caught:
        transcode(days, EncodeProfile(fps=1000))
    assert caught.value.reason == TOO_LARGE
