"""Clip arithmetic, on integers that can be checked by eye."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling.clip_sampling import (
    ClipSampler,
    ClipShape,
    clips_by_second,
    dense_clips,
    random_clips,
    segment_clips,
    uniform_clips,
    whole_video,
)


def test_uniform_clips_are_those_of_the_docstring():
    shape = ClipShape(num_frames=3, frame_interval=2)
    assert uniform_clips(shape, 10, 25.0, num_clips=3).tolist() == [[0, 2, 4], [2, 4, 6], [5, 7, 9]]


def test_one_uniform_clip_is_the_middle_one():
    assert uniform_clips(ClipShape(num_frames=4), 10, 25.0).tolist() == [[3, 4, 5, 6]]


def test_dense_clips_are_those_of_the_docstring():
    shape = ClipShape(num_frames=3, frame_interval=2)
    assert dense_clips(shape, 10, 25.0, step=4).tolist() == [[0, 2, 4], [4, 6, 8]]


@pytest.mark.parametrize(
    ("max_frames", "expected"),
    [(9, [[0, 2, 4, 6, 8]]), (5, [[0, 2, 4, 6, 8]]), (4, [[0, 2, 4], [4, 6, 8]]), (3, [[0, 2, 4], [4, 6, 8]])],
)
def test_a_whole_video_is_in_the_fewest_equal_clips(max_frames, expected):
    assert whole_video(ClipShape(num_frames=3, frame_interval=2), 10, 25.0, max_frames).tolist() == expected
    assert whole_video(ClipShape(num_frames=1), 10, 25.0, 3)[:, 0].tolist() == [0, 2, 4, 7]  # floors of 0, 7/3, 14/3, 7


def test_a_whole_video_at_a_rate_and_a_short_one():
    assert whole_video(ClipShape(num_frames=2, fps=50.0), 3, 25.0, 9).tolist() == [[0, 0, 1, 1, 2, 2]]
    assert whole_video(ClipShape(num_frames=3, fps=10.0), 10, 25.0, 9).tolist() == [[0, 2, 5, 7]]
    assert whole_video(ClipShape(num_frames=5), 3, 25.0, 9).tolist() == [[0, 1, 2, 0, 1]]
    late = np.array([0.0, 1, 2, 6, 12])  # the last frame is shown after 5 frames would have ended
    assert whole_video(ClipShape(num_frames=1, fps=0.5), 5, 0.5, 9, late).tolist() == [[0, 2, 2, 3, 3, 3, 4]]
    with pytest.raises(ValueError, match="max_frames=4: must be at least num_frames=5"):
        whole_video(ClipShape(num_frames=5), 3, 25.0, 4)


@given(
    num_frames=st.integers(1, 20), interval=st.integers(1, 5), video_frames=st.integers(1, 300), more=st.integers(0, 50)
)
def test_a_whole_video_leaves_no_frame_out(num_frames, interval, video_frames, more):
    clips = whole_video(ClipShape(num_frames, interval), video_frames, 25.0, num_frames + more)
    assert num_frames <= clips.shape[1] <= num_frames + more
    assert clips.max() < video_frames
    assert set(range(0, video_frames, interval)) <= set(clips.ravel().tolist())


def test_segments_are_those_of_the_docstring():
    shape = ClipShape(num_frames=3, segments=True)
    assert segment_clips(shape, 10, None).tolist() == [[1, 5, 8]]
    assert segment_clips(shape, 10, None, num_clips=2).tolist() == [[0, 4, 7], [2, 5, 9]]
    assert segment_clips(shape, 2, None).tolist() == [[0, 1, 1]]
    seen = segment_clips(shape, 9, np.random.default_rng(0), 200)
    assert [set(part.tolist()) for part in seen.T] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}]
    assert len(set(map(tuple, seen.tolist()))) > 20  # of 27: each part is drawn by itself
    with pytest.raises(ValueError, match="the video has 2 frames, a clip takes 3 parts of it"):
        segment_clips(ClipShape(num_frames=3, segments=True, short_videos="error"), 2, None)


def test_samplers_of_segments_and_stills():
    shape, generator = ClipShape(num_frames=3, segments=True), np.random.default_rng(0)
    assert ClipSampler(shape, "uniform", 1)(10, 25.0, generator).tolist() == [[1, 5, 8]]
    drawn = ClipSampler(shape, "random", 5)(10, 25.0, generator)
    assert drawn.tolist() == segment_clips(shape, 10, np.random.default_rng(0), 5).tolist()
    assert ClipSampler(ClipShape(2), "whole", still=True, max_frames=9)(4, 25.0, generator).tolist() == [[2] * 4]


def test_a_sampler_takes_the_clips_that_it_was_asked_for():
    """Of 20 frames, clips of 3: two at random, every fifth start, the whole in pieces of at most 7."""
    shape, generator = ClipShape(num_frames=3), np.random.default_rng(0)
    drawn = ClipSampler(shape, "random", 2)(20, 25.0, generator)
    assert drawn.tolist() == random_clips(shape, 20, 25.0, np.random.default_rng(0), 2).tolist()
    assert ClipSampler(shape, "dense", step=5)(20, 25.0, generator)[:, 0].tolist() == [0, 5, 10, 15]
    whole = ClipSampler(shape, "whole", max_frames=7)(20, 25.0, generator)
    assert whole.tolist() == [list(range(start, start + 7)) for start in (0, 6, 13)]
    still = ClipSampler(shape, "uniform", 2, still=True)(20, 25.0, generator)
    assert still.tolist() == [[1] * 3, [18] * 3]


def test_random_clips_of_a_video_are_independent_of_each_other():
    """Four starts, each as often the first clip's as the second's, and as often with each other start."""
    generator = np.random.default_rng(0)
    starts = np.array([random_clips(ClipShape(2), 5, 25.0, generator, 2)[:, 0] for _ in range(800)])
    pairs = np.bincount(starts[:, 0] * 4 + starts[:, 1], minlength=16)
    assert len(pairs) == 16
    assert pairs.min() > 25  # of 50 expected


def test_clips_by_second_are_those_of_the_docstring():
    shape = ClipShape(num_frames=3, frame_interval=2)
    assert clips_by_second(shape, 10, 5.0).tolist() == [[0, 2, 4], [5, 7, 9]]
    assert clips_by_second(ClipShape(2), 11, 5.0)[:, 0].tolist() == [1, 6, 9]  # the last second is a fraction
    for rate in (None, 10.0):
        assert clips_by_second(ClipShape(2, fps=rate), 5, 10.0, np.arange(5) / 10).shape == (1, 2)  # half a second


def test_times_are_needed_where_clips_are_taken_at_a_rate():
    rate, frames = ClipShape(2, fps=5.0), ClipShape(2)
    segments = ClipShape(2, fps=5.0, segments=True)
    assert [ClipSampler(shape, "random").by_time for shape in (rate, frames, segments)] == [True, False, False]
    assert [ClipSampler(shape, "whole").by_time for shape in (rate, frames, segments)] == [True, False, True]


def test_c3d_windows():
    starts = dense_clips(ClipShape(num_frames=16), 40, 30.0, step=8)[:, 0]
    assert starts.tolist() == [0, 8, 16, 24]


@pytest.mark.parametrize(("policy", "expected"), [("loop", [0, 2, 0]), ("repeat_last", [0, 2, 3])])
def test_short_videos(policy, expected):
    shape = ClipShape(num_frames=3, frame_interval=2, short_videos=policy)
    assert uniform_clips(shape, 4, 25.0).tolist() == [expected]
    assert dense_clips(shape, 4, 25.0, step=8).tolist() == [expected]


def test_short_video_as_an_error_says_what_to_change():
    shape = ClipShape(num_frames=3, frame_interval=2, short_videos="error")
    with pytest.raises(ValueError, match="the video has 4 frames, a clip spans 5: use shorter clips"):
        uniform_clips(shape, 4, 25.0)


@pytest.mark.parametrize(
    ("video_fps", "fps", "expected"),
    [
        (30.0, 10.0, [0, 3, 6, 9]),
        (25.0, 10.0, [0, 2, 5, 7]),
        (10.0, 20.0, [0, 0, 1, 1]),
        (29.97, 29.97, [0, 1, 2, 3]),
        (23.976, 4.7952, [0, 5, 10, 15]),
    ],
)
def test_frames_at_a_rate(video_fps, fps, expected):
    assert ClipShape(num_frames=4, fps=fps).offsets(video_fps).tolist() == expected


def test_random_clips_reach_both_ends_and_every_place_between():
    generator = np.random.default_rng(0)
    starts = random_clips(ClipShape(num_frames=4), 10, 25.0, generator, num_clips=500)[:, 0]
    assert set(starts.tolist()) == set(range(7))


@given(
    num_frames=st.integers(1, 20),
    interval=st.integers(1, 5),
    video_frames=st.integers(1, 300),
    num_clips=st.integers(1, 12),
    policy=st.sampled_from(["loop", "repeat_last"]),
)
def test_every_frame_number_exists(num_frames, interval, video_frames, num_clips, policy):
    shape = ClipShape(num_frames, interval, short_videos=policy)
    generator = np.random.default_rng(0)
    for clips in (
        uniform_clips(shape, video_frames, 25.0, num_clips),
        random_clips(shape, video_frames, 25.0, generator, num_clips),
        dense_clips(shape, video_frames, 25.0, step=8),
    ):
        assert clips.shape[1] == num_frames
        assert clips.min() >= 0
        assert clips.max() < video_frames


@pytest.mark.parametrize(("argument", "value"), [("num_frames", 0), ("frame_interval", 0), ("fps", -1.0)])
def test_impossible_shapes_name_the_argument(argument, value):
    with pytest.raises(ValueError, match=f"{argument}={value}"):
        ClipShape(**{"num_frames": 16, argument: value})


UNEVEN = np.array([0.0, 1.0, 2.0, 6.0, 8.0])  # five frames, the last until 10 s: 0.5 a second on average


def test_clips_by_time_are_those_of_the_docstring():
    shape = ClipShape(num_frames=3, fps=0.5)
    assert uniform_clips(shape, 5, 0.5, 2, times=UNEVEN).tolist() == [[0, 2, 2], [2, 3, 4]]
    assert uniform_clips(shape, 5, 0.5, 2).tolist() == [[0, 1, 2], [2, 3, 4]]
    assert dense_clips(shape, 5, 0.5, 2, times=UNEVEN).tolist() == [[0, 2, 2], [2, 2, 3]]
    assert whole_video(shape, 5, 0.5, 9, times=UNEVEN).tolist() == [[0, 2, 2, 3, 4]]
    assert whole_video(shape, 5, 0.5, 3, times=UNEVEN).tolist() == [[0, 2, 2], [2, 3, 4]]


def test_a_clip_by_time_starts_anywhere_each_time_equally_likely():
    clips = random_clips(ClipShape(2, fps=0.5), 5, 0.5, np.random.default_rng(0), 20_000, times=UNEVEN)
    # from [0, 8) s: frame 0 for 1 s of them, 1 for 1 s, 2 for 4 s, 3 for 2 s; 2 s later frame 2, 3 or 4
    assert np.allclose(np.bincount(clips[:, 0], minlength=5) / 20_000, [1 / 8, 1 / 8, 4 / 8, 2 / 8, 0], atol=0.02)
    assert np.allclose(np.bincount(clips[:, 1], minlength=5) / 20_000, [0, 0, 4 / 8, 2 / 8, 2 / 8], atol=0.02)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("loop", [0, 2, 4, 2, 3]), ("repeat_last", [0, 2, 4, 4, 4])],  # 12 is 2 s, 16 is 6 s again
)
def test_short_videos_by_time(policy, expected):
    shape = ClipShape(num_frames=5, fps=0.25, short_videos=policy)  # at 0, 4, 8, 12 and 16 s, of 10
    for method in ("uniform", "dense", "random", "whole"):
        sampler = ClipSampler(shape, method)
        assert sampler(5, 0.5, np.random.default_rng(0), UNEVEN).tolist() == [expected]


def test_a_short_video_by_time_as_an_error():
    shape = ClipShape(num_frames=5, fps=0.25, short_videos="error")
    with pytest.raises(ValueError, match=r"the video lasts 10\.000 s, a clip 16\.000 s: use shorter clips"):
        uniform_clips(shape, 5, 0.5, times=UNEVEN)


def test_times_rounded_to_milliseconds_show_each_frame_once():
    times = np.round(np.arange(60) / 30, 3)
    shape = ClipShape(num_frames=8, fps=30.0)
    assert dense_clips(shape, 60, 30.0, 7, times=times).tolist() == dense_clips(shape, 60, 30.0, 7).tolist()


def test_a_still_picture_held_for_long_is_shown_for_long():
    times = np.array([0.0, 0.1, 0.2, 10.0])  # a slide from 0.2 to 10 s, the last one until 20 s
    clips = uniform_clips(ClipShape(num_frames=4, fps=1.0), 4, 0.2, 3, times=times)
    assert clips.tolist() == [[0, 2, 2, 2], [2, 2, 3, 3], [3, 3, 3, 3]]  # from 0, 8 and 16 s


def test_as_many_times_as_frames():
    with pytest.raises(ValueError, match=r"times has shape \(5,\): must be \(6,\)"):
        uniform_clips(ClipShape(2, fps=1.0), 6, 1.0, times=UNEVEN)


SAMPLERS = st.builds(
    ClipSampler,
    shape=st.builds(
        ClipShape,
        num_frames=st.integers(1, 12),
        frame_interval=st.integers(1, 4),
        fps=st.sampled_from([None, 1.0, 2.5, 4.0, 10.0, 29.97, 60.0]),
        short_videos=st.sampled_from(["loop", "repeat_last"]),
        segments=st.booleans(),
    ),
    method=st.sampled_from(["random", "uniform", "dense", "whole"]),
    num_clips=st.integers(1, 5),
    step=st.integers(1, 9),
    still=st.booleans(),
)


@given(sampler=SAMPLERS, video_frames=st.integers(1, 200), seed=st.integers(0, 9), gaps=st.integers(0, 2**32 - 1))
def test_times_matter_only_at_a_rate(sampler, video_frames, seed, gaps):
    times = np.concatenate([[0.0], np.random.default_rng(gaps).exponential(0.1, video_frames - 1)]).cumsum()
    video_fps = video_frames / (times[-1] + 0.05)
    plain = sampler(video_frames, video_fps, np.random.default_rng(seed))
    timed = sampler(video_frames, video_fps, np.random.default_rng(seed), times)
    if not sampler.by_time:
        assert np.array_equal(plain, timed)
    assert timed.shape[1] == plain.shape[1] or sampler.method == "whole"
    assert (timed.min(), timed.max()) >= (0, 0)
    assert timed.max() < video_frames
    assert timed.dtype == np.int64


@given(
    method=st.sampled_from(["uniform", "dense", "whole"]),
    num_frames=st.integers(1, 12),
    interval=st.integers(1, 5),
    video_frames=st.integers(1, 200),
    video_fps=st.sampled_from([7.5, 24.0, 25.0, 29.97, 60.0]),
    policy=st.sampled_from(["loop", "repeat_last"]),
    num_clips=st.integers(1, 3),
)
def test_evenly_spaced_times_are_as_no_times(method, num_frames, interval, video_frames, video_fps, policy, num_clips):
    shape = ClipShape(num_frames, fps=video_fps / interval, short_videos=policy)
    sampler, generator = ClipSampler(shape, method, num_clips, max_frames=64), np.random.default_rng(0)
    plain = sampler(video_frames, video_fps, generator)
    timed = sampler(video_frames, video_fps, generator, np.arange(video_frames) / video_fps)
    if method != "uniform":
        assert timed.tolist() == plain.tolist()
    else:  # clips between the first and the last may begin between two frames, of which each takes the earlier
        assert np.abs(timed - plain).max() <= 1
        assert timed[[0, -1]].tolist() == plain[[0, -1]].tolist() or num_clips == 1


def test_clips_by_second_at_a_variable_rate():
    """Four frames in the first second, one in each of the next three; worked out by hand."""
    times = np.array([0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0])
    neighbors = clips_by_second(ClipShape(2), 7, 1.75, times)
    assert neighbors.tolist() == [[1, 2], [3, 4], [4, 5], [5, 6]]
    at_rate = clips_by_second(ClipShape(2, fps=2.0), 7, 1.75, times)
    assert at_rate.tolist() == [[0, 2], [4, 4], [5, 5], [6, 6]]  # at 0 and 0.5 s, at 1 and 1.5 s, ...
    looped = clips_by_second(ClipShape(3, fps=0.5), 7, 1.75, times)
    assert looped.tolist() == [[0, 5, 0]] * 4  # at 0, 2 and 4 s, which is 0 s again


@pytest.mark.parametrize("shape", [ClipShape(4), ClipShape(4, 2), ClipShape(4, fps=5.0), ClipShape(64)])
def test_clips_by_second_of_even_times_are_those_of_the_rate(shape: ClipShape):
    evenly = clips_by_second(shape, 40, 10.0)
    timed = clips_by_second(shape, 40, 10.0, np.arange(40) / 10)
    assert (np.abs(evenly - timed) <= 1).all()  # a frame interval's half, at a rate
    if shape.fps is None:
        assert (evenly == timed).all()


@pytest.mark.parametrize("settings", [{"num_frames": 0}, {"frame_interval": 0}, {"fps": 0.0}])
def test_shapes_out_of_range_are_named(settings):
    [(name, value)] = settings.items()
    with pytest.raises(ValueError, match=f"{name}={value}: must be "):
        ClipShape(**{"num_frames": 2, **settings})
