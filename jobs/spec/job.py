"""`Job`: what the cluster needs to know besides the command line, and the names of its files in the upload."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from jobs.spec.job_spec import JobSpec

JOB_FILE = ".submission/job.json"  # in the upload
SUBMISSION_VARIABLE = "JOBS_SUBMISSION_ID"  # in the environment of a job: its id on the cluster
OVERLAY_FILE = ".submission/ray.yaml"  # in the upload: configs/ray.yaml with the spec's values filled in
RESOLVED_FILE = ".submission/config.yaml"  # in the upload: the whole configuration, defaults too


@dataclass(frozen=True)
class Job:
    """What the cluster needs to know besides the command line; JOB_FILE in the upload.

    Args:
        spec: The spec, with `name` and an absolute `storage_path`.
        origin: The folder of submit.
        args: The command line from the verb on, as the cluster gets it: `upload:` paths for configs.
        command: The same as it was typed.
        check: Whether every node is examined first, and the command run only where nothing is wrong.
    """

    spec: JobSpec
    origin: str
    args: tuple[str, ...] = ()
    command: str = ""
    check: bool = False

    def write(self, folder: Path) -> None:
        """Write it into the upload."""
        path = folder / JOB_FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it from its file."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """From plain data, as `dataclasses.asdict` wrote it."""
        return cls(**{**fields, "spec": JobSpec.from_dict(fields["spec"]), "args": tuple(fields.get("args", ()))})
