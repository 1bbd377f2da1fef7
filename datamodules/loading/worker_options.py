"""How the DataLoader workers of a rank are started and waited for."""

import multiprocessing
from collections.abc import Mapping
from typing import Any, Literal

from datamodules.loading.clip_reader import ClipReader

WorkerStart = Literal["fork", "forkserver", "spawn"]


def worker_options(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `PlannedLoader` that say so.

    Args:
        hparams: of the data module, by name: `num_workers`, `worker_start`, `worker_timeout_s`, `prefetch_factor`.
    """
    if hparams["num_workers"] == 0:
        return {"num_workers": 0}
    context = multiprocessing.get_context(hparams["worker_start"])
    if hparams["worker_start"] == "forkserver":
        # Imported once by the server, before it forks: a worker then starts in milliseconds.
        context.set_forkserver_preload([ClipReader.__module__])
    return {
        "num_workers": hparams["num_workers"],
        "multiprocessing_context": context,
        "persistent_workers": True,
        "prefetch_factor": hparams["prefetch_factor"],
        "timeout_s": hparams["worker_timeout_s"],
    }
