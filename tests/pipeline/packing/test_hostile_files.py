"""Files made to break the decoder: headers that claim too much, and videos with damaged bytes."""

import struct
from collections import Counter

import pytest

from datamodules.encoding.transcoding import EncodeProfile, transcode
from datamodules.video.decoding import REASONS, TOO_LARGE, DecodeError
from pipeline.processes.killable_process import KillableProcess
from tests.datamodules.video.video_kinds import encode
from tests.pipeline.packing.fuzzing import COUNT, damaged_files, make_sources, read_in_every_way

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


TIME_LIMIT_S = 20
PEAK_MIB = 400  # with 80 for the libraries, and room for one large frame that a damaged header asks for


def read_all(files, capsys, peak_mib=PEAK_MIB):
    """Reads every file in a process that may be killed; a crash or a hang is raised, with the number of the file."""
    counts = Counter()
    with KillableProcess() as process:
        first = None
        for number, (name, data) in enumerate(files):
            try:
                outcome = process.call(read_in_every_way, data, timeout=TIME_LIMIT_S)
            except Exception as error:
                raise AssertionError(f"file {number} ({name}): {type(error).__name__}: {error}") from error
            first = first or outcome
            for way, result in outcome.results.items():
                assert result == "frames" or result in REASONS, f"file {number} ({name}), {way}: {result}"
                counts[way, result] += 1
            assert outcome.open_files <= first.open_files + 1, f"file {number} ({name})"
            assert outcome.peak_mib < peak_mib, f"file {number} ({name}): {outcome.peak_mib} MiB"
    with capsys.disabled():
        for way in ("probe", "decode", "transcode", "inspect"):
            told = ", ".join(f"{result} {count}" for (of, result), count in counts.most_common() if of == way)
            print(f"\n{way} of {number + 1} files: {told}", end="")
        print(f"\npeak {outcome.peak_mib} MiB, {outcome.open_files} open files")
    return counts


def test_whole_files_are_read_in_every_way():
    for name, data in make_sources().items():
        assert set(read_in_every_way(data).results.values()) == {"frames"}, name
    assert COUNT == 20


def test_150_damaged_files(capsys):
    counts = read_all(damaged_files(make_sources(), 150, seed=1), capsys)
    assert counts["decode", "frames"] > 20
    assert sum(count for (way, result), count in counts.items() if way == "decode" and result != "frames") > 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_3600_damaged_files(capsys):
    counts = read_all(damaged_files(make_sources(), 3600, seed=2), capsys)
    assert sum(count for (way, _), count in counts.items() if way == "decode") == 3600
    assert all(counts[way, "frames"] > 100 for way in ("probe", "decode", "transcode", "inspect"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_real_clips(shared_dir, capsys):
    data = shared_dir / "data"
    paths = sorted((data / "surveillance_fights" / "fight").glob("*.mp4"), key=lambda path: path.stat().st_size)[:6]
    paths += sorted((data / "odd_videos").iterdir(), key=lambda path: path.stat().st_size)[:6]
    paths += [data / "kinetics_sample" / "demo_arm_wrestling.mp4"]
    read_all(damaged_files({path.name: path.read_bytes() for path in paths}, 130, seed=3), capsys, peak_mib=1000)
