"""Decoding: the odd files people bring, errors, what is decoded and what is not."""

import itertools
import pickle

import av
import numpy as np
import pytest

from datamodules.video import pyav_decoder
from datamodules.video.decoding import (
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
from tests.datamodules.video.video_kinds import INSTALLED, KINDS, encode, linear, sound_alone


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
    last = list(pyav_decoder._frames_by_index(data, [39]))
    assert [index for index, _ in last][-1] == 39
    assert len(last) <= 12 + 4  # one group of pictures
    assert [index for index, _ in itertools.islice(pyav_decoder._frames_by_index(data, [0, 1]), 9)] == [0, 1]


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
    with pytest.raises(DecodeError) as caught:
        probe(sound_alone())
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
