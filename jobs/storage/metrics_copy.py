"""MetricsCopy: metrics.csv of a run whose storage is a URI, which outlives the node where rank 0 writes it."""

from pathlib import Path

from datamodules.storage.atomic_write import write_atomically
from jobs.storage.run_folder import RunFolder
from pipeline.training.metrics_csv import NAME


class MetricsCopy:
    """Takes metrics.csv from rank 0's node to the run's folder, and on to the node where the run goes on.

    An object is written whole, so each copy is. A run whose storage is a file system has no need of copies: its
    metrics.csv is there from the first row on.

    Args:
        run: The run's folder.
        goes_on: Whether this attempt goes on from a checkpoint of the run.
    """

    def __init__(self, run: RunFolder, goes_on: bool) -> None:
        self._run = run
        self._goes_on = goes_on
        self._file: Path | None = None
        self._said = False

    def begin(self, folder: Path) -> None:
        """Bring back what attempts before have recorded, before the file is opened; on rank 0.

        Args:
            folder: Where this process writes metrics.csv.

        Raises:
            OSError: The storage cannot be read.
        """
        if self._run.storage.is_local:
            return
        self._file = folder / NAME
        content = self._run.storage.read(NAME) if self._goes_on else None
        if content is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(self._file) as aside:
                aside.write_bytes(content)

    def store(self) -> None:
        """Copy the file as it is now; where that fails, a line says so once, and the next copy brings all its rows."""
        if self._file is None:
            return
        try:
            self._run.write(NAME, self._file.read_bytes(), make_folder=False)
        except FileNotFoundError:  # nothing was logged yet, or it could not be written, which has been said
            return
        except OSError as error:
            if not self._said:
                print(
                    f"warning: {NAME} cannot be copied to {self._run.address} ({error}); tried again later", flush=True
                )
            self._said = True
