"""`ClassifierReplica`: a process of the service: decoding processes, and the network that their clips go through."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.video.decoding import DecodeError, describe_decoder
from jobs.service.classification import BAD_REQUEST, OK, UNDECODABLE, Classification, ClassifyRequest
from jobs.service.clip_batcher import ClipBatcher
from jobs.service.upload_decoding import UploadDecoding, get_ready
from pipeline.classify.class_choice import ClassChoice
from pipeline.classify.classify import refuse_for_network
from pipeline.classify.network_choice import NetworkOptions, OpenedNetwork, open_network
from pipeline.classify.video_scores import VideoScorer
from pipeline.processes.compute_device import forward_bytes
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import KillableProcess


@dataclass(frozen=True)
class ReplicaLimits:
    """Limits of a replica.

    Attributes:
        decoders: number of decoding processes.
        decode_timeout_s: seconds of decoding of one video.
        decode_memory_bytes: bytes of memory of the decoding of one video.
    """

    decoders: int
    decode_timeout_s: float
    decode_memory_bytes: int


class ClassifierReplica:
    """Classifies videos; the methods are those that Ray Serve calls.

    Args:
        limits: the limits of decoding.
    """

    def __init__(self, limits: ReplicaLimits) -> None:
        self._limits = limits
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._batcher = ClipBatcher(forward_bytes(device))
        self._processes = ExitStack()
        self._pool = self._processes.enter_context(KillablePool(limits.decoders, limits.decode_timeout_s))
        self._network: _ServedNetwork | None = None

    async def reconfigure(self, network: dict[str, Any]) -> None:
        """Opens a network, and takes it for all requests that come afterwards; earlier ones end with the old one.

        Args:
            network: as from `ReplicaOptions.network`.

        Raises:
            ValueError: it cannot be opened; the old one stays.
        """
        self._network = await asyncio.to_thread(_ServedNetwork, network)
        starts = [self._pool.submit(_start) for _ in range(self._limits.decoders)]
        await asyncio.gather(*map(asyncio.wrap_future, starts))

    async def classify(self, data: bytes, request: ClassifyRequest) -> Classification:
        """Classifies the bytes of a video file."""
        assert self._network is not None, "reconfigure is called first"
        try:
            refuse_for_network(self._network.task, self._network.preprocessing, request.timeline, request.threshold)
        except ValueError as error:
            return Classification(BAD_REQUEST, {"error": str(error)})
        work = partial(self._classify, self._network, data, request)
        return await asyncio.wrap_future(self._pool.submit(work))

    async def describe(self) -> dict[str, Any]:
        """Classes, task and network as plain data."""
        assert self._network is not None, "reconfigure is called first"
        return self._network.description

    def check_health(self) -> None:
        """Raises RuntimeError if this replica cannot compute any more."""
        if not self._batcher.is_alive:
            raise RuntimeError("the thread of the network has ended")

    def close(self) -> None:
        """Ends the decoding processes and the thread of the network."""
        self._processes.close()
        self._batcher.close()

    def _classify(
        self, network: "_ServedNetwork", data: bytes, request: ClassifyRequest, child: KillableProcess
    ) -> Classification:
        decoding = UploadDecoding(child, self._limits.decode_timeout_s, self._limits.decode_memory_bytes)
        result: dict[str, Any] = {"video": request.name}
        try:
            classes, other_streams, num_requests = self._score(network, data, request, decoding)
        except DecodeError as error:
            refused = {"error": str(error), "decoder": network.decoder, "reason": error.reason}
            return Classification(UNDECODABLE, result | refused, decoding.seconds)
        result |= classes | {"decoder": network.decoder}
        if other_streams:
            result["other_streams"] = other_streams
        return Classification(OK, result, decoding.seconds, num_requests)

    def _score(
        self, network: "_ServedNetwork", data: bytes, request: ClassifyRequest, decoding: UploadDecoding
    ) -> tuple[dict[str, Any], int, int]:
        """The classes of a video as plain data, its other streams, and the requests in its last forward pass."""
        plan = decoding.begin(data, network.preprocessing, request.timeline)
        choice = ClassChoice(network.class_names, request.top, request.threshold)
        num_requests = 1
        if plan.second_rows is not None:
            seconds = []
            for videos in decoding.pieces():
                scores, num_requests = self._batcher.score(network.scorer, videos)
                seconds.append(scores)
            by_second = np.concatenate(seconds)[plan.second_rows]
            return choice.describe_timeline(by_second, plan.duration_s), plan.other_streams, num_requests
        if plan.is_long:
            scores = network.scorer.score_pieces(self._batcher.take_turns(_single(decoding.pieces())))
            return choice.describe(scores), plan.other_streams, num_requests
        [clips] = list(_single(decoding.pieces()))
        scored = self._batcher.score(network.scorer, [clips])
        return choice.describe(scored.scores[0]), plan.other_streams, scored.num_requests


class _ServedNetwork:
    """A network that is open, with all that a request needs of it.

    Args:
        network: as from `ReplicaOptions.network`.
    """

    def __init__(self, network: dict[str, Any]) -> None:
        opened = open_served(network)
        self.scorer = VideoScorer(opened.model)
        self.preprocessing = opened.preprocessing
        self.task = opened.model.task
        self.class_names = opened.model.class_names
        self.decoder = describe_decoder(self.preprocessing.decoder)
        self.description = describe_network(network, opened)


def open_served(network: dict[str, Any]) -> OpenedNetwork:
    """Opens the network of `ReplicaOptions.network`.

    Raises:
        FileNotFoundError: it does not exist.
        ImportError: a library that it needs is not installed.
        ValueError: it cannot be opened.
    """
    settings = dict(network)
    num_clips, decoder = settings.pop("num_clips"), settings.pop("decoder")
    for name in ("checkpoint", "model", "linear"):
        settings[name] = None if settings[name] is None else Path(settings[name])
    return open_network(NetworkOptions(**settings), num_clips, decoder)


def describe_network(network: dict[str, Any], opened: OpenedNetwork) -> dict[str, Any]:
    """Classes, task and origin of a network as plain data, without paths of this machine."""
    name = network["checkpoint"] or network["model"] or network["weights"]
    return {
        "labels": list(opened.model.class_names),
        "task": opened.model.task,
        "network": {"name": Path(name).name, "sha256": opened.trained.sha256},
    }


def _single(pieces: Iterator[list[Tensor]]) -> Iterator[Tensor]:
    """The clips of one video from pieces of one video each."""
    for [clips] in pieces:
        yield clips


def _start(child: KillableProcess) -> None:
    """Starts a decoding process before the first upload."""
    child.call(get_ready, timeout=60)
