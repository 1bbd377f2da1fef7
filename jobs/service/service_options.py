"""`ServiceOptions`: the options of `serve`, and the limits that protect a service."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.classify.network_choice import NetworkOptions

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ReplicaOptions(NetworkOptions):
    """Replicas.

    Attributes:
        num_clips: clips a video, for networks that take clips of one length.
        decoder: auto, pyav, decord or torchcodec.
        replicas: processes that hold the network.
        cpus_per_replica: CPU cores of a replica, which its network and its decoders share.
        gpus_per_replica: GPUs of a replica; 0.5 puts two on one; 0 computes on the CPU.
        decoders: decoding processes of a replica: so many videos are decoded at a time.
        decode_timeout_s: seconds that decoding one video may take before its process is killed.
        decode_memory_mb: MiB of memory that decoding one video may take.
    """

    num_clips: int = 10
    decoder: Literal["auto", "pyav", "decord", "torchcodec"] = "auto"
    replicas: int = 1
    cpus_per_replica: int = 1
    gpus_per_replica: float = 0
    decoders: int = 2
    decode_timeout_s: float = 30
    decode_memory_mb: int = 2048

    def check(self) -> None:
        """Raises ValueError for numbers out of range."""
        self.require_at_least(1, "num_clips", "replicas", "cpus_per_replica", "decoders")
        self.require_at_least(0, "gpus_per_replica")
        self.require_at_least(64, "decode_memory_mb")
        if self.gpus_per_replica > 1 and self.gpus_per_replica != int(self.gpus_per_replica):
            raise ValueError(f"gpus_per_replica={self.gpus_per_replica:g}: must be a whole number, or less than 1")
        if not self.decode_timeout_s > 0:
            raise ValueError(f"decode_timeout_s={self.decode_timeout_s:g}: must be above 0 seconds")

    @property
    def ongoing_per_replica(self) -> int:
        """Videos that a replica takes at a time: those that are decoded, and as many that wait for a decoder."""
        return 2 * self.decoders

    @property
    def decode_memory_bytes(self) -> int:
        """Bytes of memory that decoding one video may take."""
        return self.decode_memory_mb * _MIB

    def network(self) -> dict[str, Any]:
        """The network and its preprocessing as plain data, paths of files absolute: what a replica opens."""
        paths = {name: getattr(self, name) for name in ("checkpoint", "model", "linear")}
        return {
            **{name: None if path is None else _absolute(path) for name, path in paths.items()},
            **{name: getattr(self, name) for name in ("weights", "allow", "num_clips", "decoder")},
        }


def _absolute(path: Path) -> str:
    return str(path.absolute() if path.exists() else path)  # others may be addresses


@dataclass(frozen=True, kw_only=True)
class ServiceOptions(ReplicaOptions):
    """Service.

    Attributes:
        host: address of this machine to listen on.
        port: port to listen on; 0: any free one.
        max_queue: videos that may wait for a replica, besides those that replicas work on; more are answered with 429.
        max_upload_mb: MiB of a video; a larger one is answered with 413.
        upload_timeout_s: seconds that an upload may take; a slower one is answered with 408.
        answer_timeout_s: seconds from the end of the upload to the answer; afterwards it is 504.
        token_file: file of the token that requests must carry. Default: on loopback no token; else one is made.
        without_token: let everybody in who reaches the address.
        address: address of the Ray cluster of this node, such as 10.0.0.5:6379, or auto. Default: the local cluster.
        replace: change the network of the service that runs here, which answers on, and end.
        status: print the state of the service that runs here, and end.
        stop: end the service that runs here, after the requests that it has accepted.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_queue: int = 32
    max_upload_mb: int = 64
    upload_timeout_s: float = 60
    answer_timeout_s: float = 300
    token_file: Path | None = None
    without_token: bool = False
    address: str | None = None
    replace: bool = False
    status: bool = False
    stop: bool = False

    def check(self) -> None:
        """Raises ValueError for numbers out of range, and for options that do not go together."""
        self.require_at_least(0, "max_queue", "port")
        self.require_at_least(1, "max_upload_mb")
        if self.port > 65535:
            raise ValueError(f"port={self.port}: must be at most 65535")
        for name in ("upload_timeout_s", "answer_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name):g}: must be above 0 seconds")
        if self.token_file is not None and self.without_token:
            raise ValueError("without_token=true: leave it out, or leave out --token-file")
        if [self.replace, self.status, self.stop].count(True) > 1:
            raise ValueError("give just one of --replace, --status and --stop")

    @property
    def max_upload_bytes(self) -> int:
        """Most bytes of a video."""
        return self.max_upload_mb * _MIB

    @property
    def max_accepted(self) -> int:
        """Most requests that are accepted and not answered: those that replicas work on, and those that wait."""
        return self.max_queue + self.replicas * self.ongoing_per_replica
