"""`ClipBatcher`: clips of several requests go through the network together."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.classify.video_scores import VideoScorer

Piece = TypeVar("Piece")


class ScoredVideos(NamedTuple):
    """Scores of V videos, float32 (V, K), and the number of requests whose videos were scored with them."""

    scores: NDArray[np.float32]
    num_requests: int


@dataclass
class _Waiting:
    """Videos of one request that wait for the network."""

    scorer: VideoScorer
    videos: list[Tensor]
    result: "Future[ScoredVideos]" = field(default_factory=Future)

    @property
    def num_bytes(self) -> int:
        """Bytes of the clips in float32."""
        return 4 * sum(clips.numel() for clips in self.videos)

    def may_join(self, other: "_Waiting") -> bool:
        """Whether both can go through one network together."""
        return self.scorer is other.scorer and self.videos[0].shape[1:] == other.videos[0].shape[1:]


class ClipBatcher:
    """Runs a network for many threads: what arrives while it computes is computed together next, without waiting.

    Args:
        max_bytes: most bytes of the float32 clips of several requests in one forward pass.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[_Waiting] = deque()
        self._num_requests = 0
        self._changed = threading.Condition()
        self._network = threading.Lock()  # held while a network computes
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    @property
    def num_requests(self) -> int:
        """Requests that wait or are computed."""
        return self._num_requests

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    @property
    def is_alive(self) -> bool:
        """Whether the thread that computes is there."""
        return self._thread.is_alive()

    def score(self, scorer: VideoScorer, videos: list[Tensor]) -> ScoredVideos:
        """Scores V videos by their clips, each uint8 (N, T, H, W, C); waits for the result.

        Raises:
            RuntimeError: the network failed, or the batcher is closed.
        """
        waiting = _Waiting(scorer, videos)
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the replica is shutting down")
            self._waiting.append(waiting)
            self._num_requests += 1
            self._changed.notify()
        try:
            return waiting.result.result()
        finally:
            with self._changed:
                self._num_requests -= 1

    def take_turns(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yields pieces; while the caller works on one, no other thread computes, and while one is made, others may."""
        for piece in pieces:
            with self._network:
                yield piece

    def close(self) -> None:
        """Ends the thread after the batch that it computes; what waits fails."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        for waiting in self._waiting:
            waiting.result.set_exception(RuntimeError("the replica is shutting down"))

    def _run(self) -> None:
        while batch := self._next_batch():
            with self._network:
                if not _score_together(batch) and len(batch) > 1:
                    for waiting in batch:  # one of them is to blame, and the others are not
                        _score_together([waiting])
            for waiting in batch:
                if not waiting.result.done():
                    waiting.result.set_exception(RuntimeError("the network failed"))

    def _next_batch(self) -> list[_Waiting]:
        """The oldest request, and those behind it that fit into its forward pass; waits for one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return []
            batch = [self._waiting.popleft()]
            num_bytes = batch[0].num_bytes
            while self._waiting and self._waiting[0].may_join(batch[0]):
                num_bytes += self._waiting[0].num_bytes
                if num_bytes > self._max_bytes:
                    break
                batch.append(self._waiting.popleft())
            return batch


def _score_together(batch: list[_Waiting]) -> bool:
    """Scores requests together and sets their results; a request alone gets its error, several get none."""
    try:
        scores = batch[0].scorer([clips for waiting in batch for clips in waiting.videos])
    except Exception as error:
        if len(batch) == 1:
            batch[0].result.set_exception(error)
        return False
    start = 0
    for waiting in batch:
        end = start + len(waiting.videos)
        waiting.result.set_result(ScoredVideos(scores[start:end], len(batch)))
        start = end
    return True
