"""MetricsCopy: keeps a copy of metrics.csv in object storage, so that it survives the loss of rank 0's node."""

from pathlib import Path

from datamodules.storage.atomic_write import write_atomically
from jobs.storage.run_folder import RunFolder
from pipeline.training.metrics_csv import METRICS_NAME


class MetricsCopy:
    """Copies metrics.csv from rank 0's node to the run's folder, and from there to the node where the run continues.

    Each copy is the whole file, because an object cannot be appended to. If the storage is a file system, nothing is
    copied: metrics.csv is written there from the first row on.

    Args:
        run: The run's folder.
        is_resumed: Whether this attempt continues from a checkpoint of the run.
    """

    def __init__(self, run: RunFolder, is_resumed: bool) -> None:
        self._run = run
        self._goes_on = is_resumed
        self._file: Path | None = None
        self._is_failure_reported = False

    def begin(self, folder: Path) -> None:
        """Copy the metrics.csv of earlier attempts to this node; called on rank 0 before the file is opened.

        Args:
            folder: The folder where this process writes metrics.csv.

        Raises:
            OSError: The storage cannot be read.
        """
        if self._run.storage.is_local:
            return
        self._file = folder / METRICS_NAME
        content = self._run.storage.read(METRICS_NAME) if self._goes_on else None
        if content is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(self._file) as aside:
                aside.write_bytes(content)

    def store(self) -> None:
        """Copy the file as it is now; the first failure prints a warning, and the next copy contains all rows."""
        if self._file is None:
            return
        try:
            self._run.write(METRICS_NAME, self._file.read_bytes(), make_folder=False)
        except FileNotFoundError:  # nothing was logged yet, or it could not be written, which has been reported
            return
        except OSError as error:
            if not self._is_failure_reported:
                print(
                    f"warning: {METRICS_NAME} cannot be copied to {self._run.address} ({error}); tried again later",
                    flush=True,
                )
            self._is_failure_reported = True
