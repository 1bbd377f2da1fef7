"""JobSpec: what a cluster job needs besides its command line. One YAML file, or flags of `python -m jobs submit`.

    storage_path: /shared/runs
    num_workers: 32
    cpus_per_worker: 12
    gpus_per_worker: 1

An unknown field, or a value of the wrong type, is refused before anything is started.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pipeline.cli.config_files import read_yaml_file
from pipeline.cli.errors import suggest
from pipeline.training.secret_patterns import find_secret, is_secret_variable


@dataclass(frozen=True)
class JobSpec:
    """A cluster job: how many workers, with what, writing where.

    Args:
        name: The run's name: its folder under `storage_path`. The same name again continues the run. Default: the
            config's file name and the time.
        address: The cluster's job server, such as http://head:8265. Default: RAY_ADDRESS, else the local cluster that
            `python -m jobs up` or an earlier submit started, else a new local one.
        num_workers: Train workers, the ranks of DDP: one process each. `pack` makes num_workers x cpus_per_worker
            shards at once, on a CPU each.
        min_workers: The fewest train workers with which to start, or to continue after nodes are lost; the run grows
            again, up to num_workers, when the cluster has capacity. Default: num_workers.
        grow_check_s: With min_workers: seconds between two checks for capacity to grow.
        cpus_per_worker: CPU cores of each train worker; count its DataLoader workers too.
        gpus_per_worker: GPUs of each train worker: 0 (gloo on the CPU) or 1 (nccl).
        placement: Where the workers go: PACK (on as few nodes as possible), SPREAD (over as many), STRICT_PACK (all on
            one node, or not at all), STRICT_SPREAD (each on a node of its own, or not at all).
        threads_per_worker: OMP_NUM_THREADS of each train worker, the same on every node, because sums depend on it in
            their last bits. Default: `cpus_per_worker`.
        storage_path: Folder, or URI such as s3://bucket/runs, for checkpoints and results: every node must see it. A
            relative path is taken from the folder where submit is called.
        max_failures: How often training is restarted, from the newest checkpoint, after workers die; -1: always. For
            `pack`, how often each shard is restarted.
        checkpoint_every_n_steps: Optimizer steps between checkpoints, besides those at validations and at the ends of
            epochs; 0: not by steps. Default of this field and of those up to `monitor_mode`: `checkpoints` of the
            command's configuration.
        checkpoint_every_minutes: Minutes between checkpoints; 0: not by minutes.
        keep_newest: How many of the newest checkpoints are kept.
        keep_best: How many of the best checkpoints by `monitor` are kept in addition.
        monitor: The logged metric that ranks checkpoints for `keep_best`.
        monitor_mode: Whether more (max) or less (min) of `monitor` is better.
        env: Environment variables of the job's processes. Secrets are refused: they belong in the nodes' environment.
        py_modules: Your own modules and packages to upload from outside the folder of submit: names that can be
            imported here, such as an editable install, or paths of a package's folder or a .py file. Those in the
            folder of submit are always uploaded.
        include: Patterns, relative to the folder of submit, of further files to upload, of any kind.
        exclude: Patterns, relative to the folder of submit, of files and folders that are not uploaded.
        wandb_mode: WANDB_MODE on the workers. auto: online where the node has a key, else offline.
        start_timeout_s: Seconds to wait until the cluster has capacity for all workers.
        collective_timeout_s: Seconds after which a collective operation that some rank does not join ends the attempt.
        hang_timeout_s: Seconds after which a run in which no rank makes progress is ended and restarted, and the
            rank that the others wait for is named; more than the longest step, the first one included; 0: never.
        stop_timeout_s: Seconds that a stopped job gets between SIGTERM and SIGKILL.
    """

    name: str | None = None
    address: str | None = None
    num_workers: int = 1
    min_workers: int | None = None
    grow_check_s: float = 60.0
    cpus_per_worker: int = 1
    gpus_per_worker: int = 0
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    threads_per_worker: int | None = None
    storage_path: str = "runs"
    max_failures: int = 3
    checkpoint_every_n_steps: int | None = None
    checkpoint_every_minutes: float | None = None
    keep_newest: int | None = None
    keep_best: int | None = None
    monitor: str | None = None
    monitor_mode: Literal["max", "min"] | None = None
    env: dict[str, str] = field(default_factory=dict)
    py_modules: list[str] = field(default_factory=list)
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    start_timeout_s: float = 300.0
    collective_timeout_s: float = 1800.0
    hang_timeout_s: float = 1200.0
    stop_timeout_s: int = 30

    def __post_init__(self) -> None:
        """Refuse what cannot work; ValueError names the field, its value and the fix."""
        minimums = {"num_workers": 1, "cpus_per_worker": 1, "max_failures": -1, "stop_timeout_s": 1}
        minimums |= {"checkpoint_every_n_steps": 0, "checkpoint_every_minutes": 0, "keep_newest": 1, "keep_best": 0}
        minimums |= {"hang_timeout_s": 0, "threads_per_worker": 1}
        for name, minimum in minimums.items():
            if getattr(self, name) is not None and not getattr(self, name) >= minimum:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {minimum}")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.num_workers:
            raise ValueError(
                f"min_workers={self.min_workers}: must be at least 1 and at most num_workers={self.num_workers}"
            )
        if self.gpus_per_worker not in (0, 1):
            raise ValueError(f"gpus_per_worker={self.gpus_per_worker}: must be 0 or 1; raise num_workers for more GPUs")
        for name in ("start_timeout_s", "collective_timeout_s", "grow_check_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be more than 0 seconds")
        if self.name is not None and (not self.name or self.name[0] in "-." or not _is_plain(self.name)):
            raise ValueError(f"name={self.name!r}: use letters, digits, '-', '_' and '.', beginning with none of '-.'")
        for name in ("storage_path", "address"):
            if urlsplit(getattr(self, name) or "").password:
                raise ValueError(
                    f"{name}: holds a password, and a job's spec is shown in the dashboard; set credentials in the "
                    "environment of the cluster's nodes instead"
                )
        for variable, value in self.env.items():
            is_secret = is_secret_variable(variable)
            if description := "looks like a secret" if is_secret else find_secret(str(value), variable):
                raise ValueError(
                    f"env: {variable} {description}, and a job's env is shown in the dashboard; set it in the "
                    "environment of the cluster's nodes instead (for a local cluster: before `python -m jobs up`)"
                )

    @property
    def smallest_num_workers(self) -> int:
        """The smallest number of train workers with which a run starts or continues."""
        return self.num_workers if self.min_workers is None else self.min_workers

    @property
    def worker_resources(self) -> dict[str, int]:
        """The resources of a train worker, by Ray's names: CPU and, if it has one, GPU."""
        return {"CPU": self.cpus_per_worker} | ({"GPU": self.gpus_per_worker} if self.gpus_per_worker else {})

    @property
    def threads(self) -> int:
        """OMP_NUM_THREADS of a worker."""
        return self.threads_per_worker or self.cpus_per_worker

    def checkpoint_options(self) -> dict[str, Any]:
        """The fields of `CheckpointOptions` that the spec sets; all others are left to the command's configuration."""
        names = ["checkpoint_every_n_steps", "checkpoint_every_minutes"]
        names += ["keep_newest", "keep_best", "monitor", "monitor_mode"]
        options = {name.removeprefix("checkpoint_"): getattr(self, name) for name in names}
        return {name: value for name, value in options.items() if value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build a spec from plain data, as `dataclasses.asdict` returns it."""
        check_fields(fields, "the job's spec")
        return cls(**fields)


def check_fields(fields: Mapping[str, Any], source: str) -> None:
    """Raise ValueError, which suggests the closest field name, for a field that JobSpec does not have.

    Args:
        fields: The content of the YAML file.
        source: The name of the source in the error message, such as `spec=FILE`.
    """
    valid = [each.name for each in dataclasses.fields(JobSpec)]
    for name in fields:
        if name not in valid:
            hint = suggest(str(name), valid, f"the fields are: {', '.join(valid)}")
            raise ValueError(f"{source}: there is no field {name!r}; {hint}")


def read_spec_file(path: str | Path) -> dict[str, Any]:
    """Read the fields of a spec file; their names are checked, their types are not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, not a mapping, or has an unknown field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"spec={path}: there is no such file; jobs/configs has examples")
    content = read_yaml_file(path, "spec")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"spec={path}: must hold fields such as `num_workers: 2`, not a {type(content).__name__}")
    check_fields(content, f"spec={path}")
    return content


def describe_type(name: str) -> str | None:
    """The description of a field's type; None for an unknown field, and for a Literal, whose error lists its values."""
    hint = typing.get_type_hints(JobSpec).get(name)
    kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint
    descriptions: dict[Any, str] = {int: "a whole number", float: "a number", str: "text (a number in quotes)"}
    descriptions |= {dict[str, str]: "names with texts, such as {NAME: text} (numbers in quotes)"}
    descriptions |= {list[str]: "a list of texts, such as [a, b]"}
    return descriptions.get(kind)


def _is_plain(name: str) -> bool:
    return all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name)
