"""Clips of several requests go through the network together, and a failure is that of one request."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs.service.clip_batcher import ClipBatcher
from lightning_modules import C3D
from pipeline.classify.video_scores import VideoScorer

FRAMES, SIDE = 16, 32


def clips(seed: int, count: int = 2, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, FRAMES, side, side, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def scorer() -> VideoScorer:
    torch.manual_seed(0)
    return VideoScorer(C3D(class_names=["a", "b", "c"], width=2, crop_size=SIDE).eval())


@pytest.fixture
def batcher() -> Iterator[ClipBatcher]:
    each = ClipBatcher(max_bytes=4 * 4 * clips(0).numel())
    yield each
    each.close()


def test_what_waits_is_computed_together_up_to_the_limit(batcher: ClipBatcher, scorer: VideoScorer) -> None:
    computing = batcher.take_turns([None])
    next(computing)  # as while a piece of a long video is computed
    with ThreadPoolExecutor(7) as pool:
        results = [pool.submit(batcher.score, scorer, [clips(seed)]) for seed in range(7)]
        while batcher.num_requests < 7:
            assert not any(each.done() for each in results)
        computing.close()
        scored = [each.result() for each in results]
    sizes = [each.num_requests for each in scored]
    # One to four were taken before the others were there, and waited for their turn; then as many as fit.
    at_first = [(1, 4, 2), (2, 4, 1), (3, 4), (4, 3)]
    assert sorted(sizes) in [sorted(size for size in batches for _ in range(size)) for batches in at_first]
    for seed, each in enumerate(scored):
        np.testing.assert_allclose(each.scores, scorer([clips(seed)]), atol=1e-5)


def test_clips_of_different_sizes_and_networks_are_not_mixed(batcher: ClipBatcher, scorer: VideoScorer) -> None:
    other = VideoScorer(C3D(class_names=["a", "b"], width=2, crop_size=SIDE).eval())
    computing = batcher.take_turns([None])
    next(computing)
    work = [(scorer, clips(0)), (other, clips(1)), (scorer, clips(2, side=40)), (scorer, clips(3))]
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(batcher.score, one, [videos]) for one, videos in work]
        computing.close()
        assert [each.result().scores.shape for each in results] == [(1, 3), (1, 2), (1, 3), (1, 3)]


def test_a_request_that_the_network_refuses_does_not_harm_the_others(batcher: ClipBatcher) -> None:
    def score(videos: list[Tensor]) -> np.ndarray:
        if any(int(each[0, 0, 0, 0, 0]) == 99 for each in videos):
            raise RuntimeError("refused")
        return np.ones((len(videos), 3), np.float32)

    bad = clips(1)
    bad[0, 0, 0, 0, 0] = 99
    computing = batcher.take_turns([None])
    next(computing)
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(batcher.score, score, [videos]) for videos in (clips(0) // 2, bad, clips(2) // 2)]
        computing.close()
        assert results[0].result().scores.tolist() == [[1, 1, 1]]
        with pytest.raises(RuntimeError, match="refused"):
            results[1].result()
        assert results[2].result().scores.tolist() == [[1, 1, 1]]


def test_closing_ends_what_waits(scorer: VideoScorer) -> None:
    batcher = ClipBatcher(1)
    computing = batcher.take_turns([None])
    next(computing)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(batcher.score, scorer, [clips(seed)]) for seed in range(2)]
        while batcher.num_requests < 2:
            pass
        closing = threading.Thread(target=batcher.close)
        closing.start()
        while not batcher.is_closed:
            pass
        computing.close()
        failures = [each.exception() for each in results]
        closing.join()
    assert {str(each) for each in failures if each} == {"the replica is shutting down"}
    with pytest.raises(RuntimeError, match="shutting down"):
        batcher.score(scorer, [clips(0)])
