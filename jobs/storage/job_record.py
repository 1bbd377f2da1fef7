"""Record of a job in its run's folder, from which the job can be resumed: job.json and code.zip.

The driver writes them when it starts, because it sees the storage; `python -m jobs resume` reads them. So a resumed job
runs the command, spec, configs and code that were submitted, even if the files have changed or the cluster is gone.
"""

import dataclasses
import io
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import ray

from jobs.spec.job import SEARCH_VERB, Job
from jobs.spec.job_spec import JobSpec
from jobs.storage.finished_run import refuse_finished_run
from jobs.storage.run_folder import RunFolder
from jobs.storage.search_record import SearchRecord
from pipeline.processes.outcome import ProcessOutcome

RECORD_FILE = "job.json"
CODE_FILE = "code.zip"


class JobRecord:
    """The record of a job in its run's folder.

    Args:
        storage_path: The absolute folder, or the URI, that holds the run's folder.
        name: The run's name.
    """

    def __init__(self, storage_path: str, name: str) -> None:
        self.run = RunFolder(storage_path, name)

    def create(self, job: Job, upload: Path, submission_id: str = "") -> None:
        """Record a job that starts.

        Args:
            job: The job, with its command line.
            upload: The folder of its upload.
            submission_id: The id of the job on its cluster.

        Raises:
            RunFinishedError: the run has finished; its record is not changed.
            ValueError: the run is of another verb, or has finished with another command; its record is not changed.
        """
        self.check(job, upload)
        self.run.write(CODE_FILE, _zip(upload))
        start = {"began": time.time(), "submission_id": submission_id, "ray": ray.__version__}
        self._write({"job": dataclasses.asdict(job), **start, "outcome": None})

    def check(self, job: Job, upload: Path) -> None:
        """Check that a job can start or continue the run of this name; writes nothing.

        Args:
            job: The job, with its command line.
            upload: The folder of its upload.

        Raises:
            RunFinishedError: the run has finished.
            ValueError: the run is of another verb, or has finished with another command.
        """
        recorded = self.read()
        verb = job.args[0]
        if recorded is not None and recorded["job"]["args"][0] != verb:
            raise ValueError(
                f"name={job.spec.name}: this is a run of `{recorded['job']['args'][0]}`, in {self.run.address}; give "
                f"`{verb}` another --name"
            )
        if verb == SEARCH_VERB:
            SearchRecord(job.spec.storage_path, str(job.spec.name)).check(job.args, upload)
        refuse_finished_run(self.run, job.args, upload)

    def add_outcome(self, outcome: ProcessOutcome) -> None:
        """Record how the job ended."""
        recorded = self.read()
        if recorded is not None:
            self._write(recorded | {"outcome": outcome.as_dict(), "ended": time.time()})

    def outcome(self, submission_id: str | None = None) -> ProcessOutcome | None:
        """The outcome of the newest job of the run.

        Args:
            submission_id: The id of the job on its cluster; None: the recorded job, whatever its id.

        Returns:
            The outcome; None if there is no record, it is of another job, or the job is running or was killed.
        """
        recorded = self.read()
        if recorded is None or recorded.get("outcome") is None:
            return None
        if submission_id not in (None, recorded["submission_id"]):
            return None
        return ProcessOutcome.from_dict(recorded["outcome"])

    def read(self) -> dict[str, Any] | None:
        """The record; None if there is none."""
        return self.run.read_record(RECORD_FILE)

    def unpack(self, folder: Path) -> Job:
        """Extract the upload of the job into an empty folder.

        Args:
            folder: The folder to fill.

        Returns:
            The job.

        Raises:
            ValueError: there is no record, or it is damaged.
        """
        recorded, code = self.read(), self.run.storage.read(CODE_FILE)
        if recorded is None or code is None:
            raise ValueError(f"{self.run.address} holds no {RECORD_FILE} and {CODE_FILE} to take up again")
        try:
            with zipfile.ZipFile(io.BytesIO(code)) as archive:
                archive.extractall(folder)
        except zipfile.BadZipFile:
            raise ValueError(f"{self.run.address}/{CODE_FILE} cannot be read: it is damaged") from None
        job = recorded["job"]
        return Job.from_dict(job | {"spec": dataclasses.asdict(JobSpec.from_dict(job["spec"]))})

    def _write(self, content: dict[str, Any]) -> None:
        self.run.write(RECORD_FILE, json.dumps(content, indent=1).encode())


def _zip(folder: Path) -> bytes:
    """Zip the files of a folder without byte code, deterministically: equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, names, files in os.walk(folder):
            names[:] = sorted(name for name in names if name != "__pycache__")
            for name in sorted(files):
                path = Path(parent) / name
                archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return buffer.getvalue()
