"""`ServiceMetrics`: what a service counts, in the text format of Prometheus."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300)


class ServiceMetrics:
    """Counters, gauges and histograms of one service.

    Attributes:
        requests: requests to classify, by the HTTP status of their answer.
        accepted: requests that are accepted and not answered.
        retries: times that a request was given to another replica.
        latency: seconds from the headers of a request to its answer.
        decoding: seconds of decoding a video.
        upload: bytes of videos.
        shared: requests whose clips shared a forward pass.
        refused: videos that were not decoded, by reason.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter("classify_requests", "Requests to classify", ["status"], registry=registry)
        self.accepted = Gauge("classify_accepted_requests", "Requests accepted and not answered", registry=registry)
        self.retries = Counter("classify_retries", "Requests given to another replica", registry=registry)
        self.latency = _seconds("classify_request_seconds", "From the headers to the answer", registry)
        self.decoding = _seconds("classify_decoding_seconds", "Decoding of a video", registry)
        self.upload = Counter("classify_upload_bytes", "Bytes of videos", registry=registry)
        self.shared = Histogram(
            "classify_requests_in_forward_pass", "Requests in a pass", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.refused = Counter("classify_refused_videos", "Videos not decoded", ["reason"], registry=registry)

    def text(self) -> bytes:
        """All figures, in the text format."""
        return generate_latest(self._registry)


def _seconds(name: str, description: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, description, buckets=_SECONDS, registry=registry)
