"""`Job`: a job as the driver reads it from the upload, and the names of the job's files there."""

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
    """A job to run on the cluster: its spec and its command line; stored as JOB_FILE in the upload.

    Args:
        spec: The spec, with `name` and an absolute `storage_path`.
        origin: The absolute path of the folder where the job was submitted.
        args: The command line from the verb on, as the cluster gets it: configs are `upload:` paths.
        command: The command line as the user typed it.
        check: Whether every node is examined first, and the command run only where nothing is wrong.
    """

    spec: JobSpec
    origin: str
    args: tuple[str, ...] = ()
    command: str = ""
    check: bool = False

    def write(self, folder: Path) -> None:
        """Write the job as JSON to JOB_FILE.

        Args:
            folder: The folder of the upload.
        """
        path = folder / JOB_FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a job from its JSON file."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build a job from plain data, as `dataclasses.asdict` returns it."""
        return cls(**{**fields, "spec": JobSpec.from_dict(fields["spec"]), "args": tuple(fields.get("args", ()))})
