"""How far a run is, told from its folder where this machine sees that: the step, and the newest checkpoint."""

import contextlib
import json
from pathlib import Path

from jobs.storage.checkpoint_files import FOLDER
from jobs.storage.checkpoint_store import RECORD_FILE
from pipeline.training.metrics_csv import NAME, read_metrics


def run_progress(storage_path: str | None, name: str | None) -> dict[str, str]:
    """Look into a run's folder.

    Args:
        storage_path: An absolute folder; a URI is not looked into, for it may not answer from here. None: not known.
        name: The run's name; None: not known.

    Returns:
        What is known of: `run folder`; `step`, the optimizer steps done, by the last row of metrics.csv or by the
        newest checkpoint; `checkpoint`, that one, with its step.
    """
    if storage_path is None or name is None:
        return {}
    known = {"run folder": f"{storage_path}/{name}"}
    folder = Path(known["run folder"])
    steps = []
    with contextlib.suppress(OSError, ValueError):  # not there, not seen from here, or none so far
        [*_, newest] = json.loads((folder / RECORD_FILE).read_bytes())["checkpoints"]
        steps.append(int(newest["step"]))
        known["checkpoint"] = f"step {newest['step']}, {folder / FOLDER / newest['file']}"
    with contextlib.suppress(OSError):
        steps += [int(row["step"]) for row in read_metrics(folder / NAME)[-1:]]
    return {"step": str(max(steps)), **known} if steps else known
