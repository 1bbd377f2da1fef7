"""Videos whose frames are not evenly spaced: clips at a rate take the frames that are shown then, and say when."""

import hashlib
import io
from fractions import Fraction

import av
import numpy as np
import pytest

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import ShardFile, VideoDescription, index_shard, open_shard_writer, write_dataset
from datamodules.loading import view_maker
from datamodules.video.decoding import probe, read_frame_times

GRAY = 6  # levels from a frame to the next
UNEVEN_MS = [0, 40, 80, 1000, 1040, 3000, 3040, 3080, 3120, 3500]  # the last one until 4000


def gray_video(times_ms):
    """Frame number n is gray level 10 + GRAY * n, shown from its time on; an mp4 of 64 x 48 pixels."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 + GRAY * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One video of a variable rate, and one of the same frames at a constant one."""
    root = tmp_path_factory.mktemp("uneven")
    with open_shard_writer(root / "a.tar") as writer:
        for key, times in (("uneven", UNEVEN_MS), ("even", range(0, 4000, 400))):
            video, variable = gray_video(times), key == "uneven"
            content = hashlib.sha256(video).hexdigest()
            said = VideoDescription("a", "test", (), key, 10, 2.5, 64, 48, 4.0, content, f"{key}.mp4", variable)
            writer.write(key, video, said)
    shard = ShardFile("a.tar", "test", 2, (root / "a.tar").stat().st_size, "")
    write_dataset(root, "uneven", index_shard(root / "a.tar"), [shard], ["a"], [], {"copy": True}, {})
    return root


def read(dataset, **settings):
    """Frame numbers, times and gray levels of each video's clips, and frames as numbers."""
    settings = {"batch_size": 1, "crop_size": 32, "num_workers": 0, "test_split": "test", **settings}
    data = ShardedVideoDataModule(str(dataset), train_split="test", val_split=None, flip_probability=0.0, **settings)
    seen = {}
    for batch in data.test_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        levels = batch.clips.double().mean(dim=(2, 3, 4)).sub(10).div(GRAY).round().long()
        seen[batch.keys[0]] = batch.frame_numbers.tolist(), batch.clip_times.tolist(), levels.tolist()
    return seen


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec", "decord"])
def test_clips_at_a_rate_show_what_is_to_be_seen_then(dataset, decoder):
    if decoder != "pyav":
        pytest.importorskip(decoder)
    seen = read(dataset, num_frames=4, fps=1.0, num_clips=1, num_crops=1, decoder=decoder)
    # 3 s from the first frame to the last, and 0.4 s of the last one: the middle of what 4 s leave begins at 0.3 s
    assert seen["uneven"] == ([[2, 4, 4, 8]], [[0.08, 3.5]], [[2, 4, 4, 8]])
    assert seen["even"] == ([[1, 3, 6, 8]], [[0.4, 3.6]], [[1, 3, 6, 8]])


def test_by_frame_number_only_the_times_are_other(dataset):
    for settings in ({"frame_interval": 2}, {"fps": 1.0, "segments": True}):
        seen = read(dataset, num_frames=4, num_clips=1, num_crops=1, **settings)
        numbers, times, levels = seen["uneven"]
        assert numbers == seen["even"][0] == levels
        first, last = numbers[0][0], numbers[0][-1]
        assert times == [[UNEVEN_MS[first] / 1000, UNEVEN_MS[last + 1] / 1000]]
        assert seen["even"][1] == [[first * 0.4, (last + 1) * 0.4]]


def test_exported_clips_have_the_times_of_the_video(dataset):
    data = ShardedVideoDataModule(
        str(dataset),
        batch_size=1,
        crop_size=32,
        num_workers=0,
        num_frames=3,
        fps=2.0,
        clip_step=5,
        predict_split="test",
    )
    seen = {batch.keys[0]: batch for batch in data.predict_dataloader()}
    assert seen["uneven"].frame_numbers.tolist() == [[0, 2, 3]]  # from 3 s on, 1 s is more than is left
    assert seen["uneven"].clip_times.tolist() == [[0.0, 1.04]]
    assert seen["even"].frame_numbers.tolist() == [[0, 1, 2], [5, 6, 7]]


def test_constant_rates_cost_nothing(dataset, monkeypatch):
    asked = []

    def count(data):
        asked.append(data)
        return read_frame_times(data)

    monkeypatch.setattr(view_maker, "read_frame_times", count)
    read(dataset, num_frames=4, fps=1.0)
    assert len(asked) == 1  # of the uneven video


def test_the_times_are_those_that_were_written():
    video = gray_video(UNEVEN_MS)
    assert probe(video).num_frames == 10
    assert np.allclose(read_frame_times(video), np.array(UNEVEN_MS) / 1000)
