"""Parts of a file: the very frames that decoding the whole file gives, from the key frame before them."""

from contextlib import suppress

import numpy as np
import pytest

from datamodules.video.seek_table import KeyFrameError, iterate_part, read_seek_table
from datamodules.video.video_container import iterate_frames
from tests.datamodules.video.odd_files import cut_without_encoding, numbered_video, read_number
from tests.datamodules.video.video_kinds import KINDS, encode

# Files whose packets do not number the frames, and the one whose key frames are the beginning of an intra refresh.
COMPARED = {
    "h264 in a transport stream",
    "h264 with intra refresh",
    *(name for name in KINDS if "in avi" in name),
}
X264 = {"b_frames": 2, "x264_params": "scenecut=0:b-adapt=0"}
OPEN_GROUPS = {"b_frames": 2, "x264_params": "open-gop=1:keyint=12:scenecut=0:b-adapt=0"}


def decode_part(data, first, stop):
    """The frames of a part, the table that gave them, and the key frame that they were decoded from."""
    for trust in ("exact", "nothing"):
        table = read_seek_table(data, trust)
        for key in table.starting_keys(first):
            with suppress(KeyFrameError):
                frames = list(iterate_part(data, table, first, stop, key))
                return [frame.to_ndarray(format="rgb24") for frame in frames], table, key
    raise AssertionError("not even from the beginning")


@pytest.mark.parametrize("name", KINDS)
def test_parts_have_the_frames_of_the_whole(name):
    codec, container, options = KINDS[name]
    data = encode(codec, container, **options)
    whole = [frame.to_ndarray(format="rgb24") for frame in iterate_frames(data)]
    count = len(whole)
    parts = {(0, count), (count - 1, count), (count // 3, count // 3 + 1), (count // 2, count - count // 8)}
    compared, from_beginning = set(), set()
    for first, stop in sorted(parts):
        frames, table, key = decode_part(data, first, stop)
        assert len(frames) == stop - first
        assert all(np.array_equal(one, other) for one, other in zip(frames, whole[first:stop], strict=True))
        compared.add(len(table.checksums) > 0)
        from_beginning.add(key is None)
    assert (True in compared) == (name in COMPARED)
    assert from_beginning == {False}


def joined(codec, container, **options):
    return b"".join(numbered_video(codec, container, part, **options) for part in (range(30), range(30, 60)))


def beginning_in_open_groups(container):
    return cut_without_encoding(numbered_video("libx264", "matroska", range(48), **OPEN_GROUPS), container, 12)


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (lambda: joined("libx264", "matroska", **X264), range(60)),
        (lambda: joined("libx264", "mpegts", **X264), range(60)),
        (lambda: beginning_in_open_groups("mp4"), None),
    ],
    ids=["joined matroska", "joined transport streams", "cut within open groups"],
)
def test_files_whose_clock_restarts_or_whose_beginning_is_gone(data, numbers):
    source = data()
    whole = [read_number(frame.to_ndarray(format="rgb24")) for frame in iterate_frames(source)]
    assert numbers is None or whole == list(numbers)
    for first in (0, len(whole) // 2, len(whole) - 3):
        frames, *_ = decode_part(source, first, first + 3)
        assert [read_number(frame) for frame in frames] == whole[first : first + 3]


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", X264), ("libx264", OPEN_GROUPS), ("mpeg2video", {"b_frames": 2})]
)
def test_joined_transport_streams_are_decoded_from_a_key_frame(codec, options):
    """Also across the place where the clock starts again."""
    data = joined(codec, "mpegts", **options)
    table = read_seek_table(data)
    assert table.address == "pos"
    whole = [read_number(frame.to_ndarray(format="rgb24")) for frame in iterate_frames(data)]
    for first in range(0, 56, 5):
        steps = Steps()
        frames = list(iterate_part(data, table, first, first + 4, table.starting_keys(first)[0], steps.add))
        assert [read_number(frame.to_ndarray(format="rgb24")) for frame in frames] == whole[first : first + 4]
        assert steps.count <= 60


class Steps:
    count = 0

    def add(self):
        self.count += 1


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "mp4", X264),
        ("libx264", "mpegts", X264),
        ("mpeg2video", "mpegts", {"b_frames": 2}),
        ("mpeg4", "avi", {}),
        ("libx264", "avi", X264),
        ("libx264", "h264", X264),
    ],
)
def test_only_what_a_part_needs_is_read_and_decoded(tmp_path, codec, container, options):
    path = tmp_path / "long"
    numbers = [number % 256 for number in range(600)]
    path.write_bytes(numbered_video(codec, container, numbers, key_every=12, **options))
    table = read_seek_table(path)
    for first in (0, 300, 590):
        steps = Steps()
        key, *_ = table.starting_keys(first)
        frames = list(iterate_part(path, table, first, first + 5, key, steps.add))
        found = [read_number(frame.to_ndarray(format="rgb24")) for frame in frames]
        assert found == numbers[first : first + 5]
        assert steps.count <= (40 if container == "mp4" else 120)  # packets read and frames decoded


def test_a_table_of_another_file_is_not_believed(tmp_path):
    table = read_seek_table(numbered_video("libx264", "mp4", range(40), times=[40 * i for i in range(40)], **X264))
    other = numbered_video("libx264", "mp4", range(40), times=[41 * i for i in range(40)], **X264)
    with pytest.raises(KeyFrameError):
        list(iterate_part(other, table, 20, 30, 1))


def test_frames_of_other_pixels_are_not_taken():
    """The timestamps agree and the pictures do not: as after a key frame that is none."""
    data, other = (numbered_video("libx264", "mpegts", numbers, **X264) for numbers in (range(40), range(100, 140)))
    table = read_seek_table(data)
    [key, *_, last] = table.starting_keys(20)
    assert last is None
    assert len(list(iterate_part(data, table, 20, 30, key))) == 10
    with pytest.raises(KeyFrameError):
        list(iterate_part(other, table, 20, 30, key))
