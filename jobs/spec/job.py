"""`Job`: a job as the driver reads it from the upload, and the names of the job's files there."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from jobs.spec.job_spec import JobSpec

JOB_FILE = ".submission/job.json"  # in the upload
SUBMISSION_VARIABLE = "JOBS_SUBMISSION_ID"  # in the environment of a job: its id on the cluster
OVERLAY_FILE = ".submission/ray.yaml"  # in the upload: configs/ray.yaml with the spec's values filled in
SEARCH_VERB = "tune"  # the first argument of a search's job; the command of its trials is behind `--`
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
        search: The name of the search that this run is a trial of; empty for a run of its own.
        settings: The settings of a trial, by the dotted names of options.
    """

    spec: JobSpec
    origin: str
    args: tuple[str, ...] = ()
    command: str = ""
    check: bool = False
    search: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the job as JSON to JOB_FILE.

        Args:
            folder: The folder of the upload.
        """
        path = folder / JOB_FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @property
    def command_line(self) -> str:
        """The whole command that the job runs, as a person would type it."""
        return f"python -m {'jobs' if self.args[:1] == (SEARCH_VERB,) else 'pipeline'} {self.command}"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a job from its JSON file."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build a job from plain data, as `dataclasses.asdict` returns it."""
        return cls(**{**fields, "spec": JobSpec.from_dict(fields["spec"]), "args": tuple(fields.get("args", ()))})


def with_settings(configuration: str, settings: Mapping[str, Any]) -> str:
    """The whole configuration of a job, as YAML, with the settings of a trial, by the dotted names of options."""
    if not settings:
        return configuration
    content = yaml.safe_load(configuration)
    for name, value in settings.items():
        *groups, option = name.split(".")
        group = content
        for key in groups:
            if not isinstance(group.get(key), dict):
                group[key] = {}
            group = group[key]
        group[option] = value
    return str(yaml.safe_dump(content, sort_keys=False))
