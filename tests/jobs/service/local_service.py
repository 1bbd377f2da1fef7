"""A service in the process of the tests: the real gateway, HTTP server and replica, without a cluster."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
from PIL import Image

from datamodules.dataset.dataset_index import DatasetIndex
from jobs.service.classification import Classification, ClassifyRequest
from jobs.service.classifier_replica import ClassifierReplica, ReplicaLimits
from jobs.service.gateway import Gateway, GatewayLimits
from jobs.service.http_server import HttpServer, listen
from jobs.service.service_metrics import ServiceMetrics
from jobs.service.service_options import ReplicaOptions
from jobs.service.uploads import UploadLimits

MIB = 2**20
UPLOADS = UploadLimits(max_bytes=4 * MIB, timeout_s=60)


class InProcess:
    """A replica in this process as the gateway's classifier."""

    def __init__(self, replica: ClassifierReplica) -> None:
        self.replica = replica
        self.reason = ""

    async def classify(self, data: bytes, request: ClassifyRequest) -> Classification:
        return await self.replica.classify(data, request)

    async def describe(self) -> dict[str, object]:
        return await self.replica.describe()

    def problem(self) -> str:
        return self.reason


@contextmanager
def open_replica(
    checkpoint: Path, decoders: int = 2, timeout_s: float = 60, memory_mb: int = 2048
) -> Iterator[ClassifierReplica]:
    """A replica with a network."""
    replica = ClassifierReplica(ReplicaLimits(decoders, timeout_s, memory_mb * MIB))
    try:
        asyncio.run(replica.reconfigure(ReplicaOptions(checkpoint=checkpoint).network()))
        yield replica
    finally:
        replica.close()


@contextmanager
def open_service(
    classifier: InProcess, token: str | None = None, uploads: UploadLimits = UPLOADS, max_accepted: int = 16
) -> Iterator[str]:
    """A gateway that answers on loopback; its URL."""
    gateway = Gateway(classifier, GatewayLimits(uploads, max_accepted, 120), ServiceMetrics())
    with listen("127.0.0.1", 0) as listening:
        server = HttpServer(gateway.application(token), listening, max_accepted)
        server.start()
        yield server.url
        server.stop()


def video_bytes(dataset: Path, number: int = 0) -> bytes:
    """The bytes of a test video of a dataset."""
    index = DatasetIndex.open(dataset)
    return bytes(index.read_video(int(index.rows("test")[number])))


def huge_frames(side: int, num_frames: int) -> bytes:
    """A small file with large frames: black PNG pictures as a video, which decode slowly."""
    picture, output = BytesIO(), BytesIO()
    Image.new("RGB", (side, side)).save(picture, "PNG")
    with av.open(output, "w", format="mov") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "rgb24"
        for number in range(num_frames):
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            container.mux(packet)
    return output.getvalue()
