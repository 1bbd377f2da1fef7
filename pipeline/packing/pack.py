"""`python -m pipeline pack`: packs labelled videos into shards with index and manifest, and lists refused videos."""

import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from functools import partial

from pipeline.packing.output_folder import PackError
from pipeline.packing.pack_options import PackOptions
from pipeline.packing.pack_run import finish_dataset, prepare_shards
from pipeline.packing.pack_summary import print_summary, show_progress
from pipeline.packing.shard_builder import PartResult, run_part
from pipeline.packing.shard_plan import PackSettings, ShardPart
from pipeline.processes.killable_pool import KillablePool
from pipeline.processes.killable_process import ProcessUnavailable


def pack(options: PackOptions) -> None:
    """Turn labelled videos into WebDataset shards with an index, for training.

    Every frame of every video is decoded; a video that cannot be decoded is left out and listed with the reason in
    out/quarantine.csv. The other videos are encoded for training: smaller, with a key frame every 16 frames, quick to
    decode, without sound. The same input and options give the same bytes whatever the number of processes. Run again
    after an interruption, it continues with the shards that are missing.

    Args:
        options: what to pack, how, and into which folder.

    Raises:
        AnnotationError: the lists are missing or malformed.
        PackError: `out` has other content, is in use, or has no room left; a label is unknown; every video was
            refused; or, with `strict`, the split guard found leakage.
    """
    began = time.monotonic()
    with prepare_shards(options) as run:
        results = _run_parts(run.parts, run.settings, options.processes)
        manifest, divided = finish_dataset(run, results)
    print_summary(manifest, results, options.out, time.monotonic() - began, run.refused, divided)


def _run_parts(parts: Sequence[ShardPart], settings: PackSettings, processes: int | None) -> list[PartResult]:
    """Runs all parts, one thread for each long-lived decoding process; results in the order of the parts."""
    with (
        show_progress(sum(len(part.records) for part in parts)) as meter,
        KillablePool(processes, settings.timeout) as pool,
    ):
        futures = [pool.submit(partial(run_part, part, settings, meter.add)) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
        except ProcessUnavailable as error:
            raise PackError(f"decoding processes do not run: {error}") from None
        return [future.result() for future in futures]
