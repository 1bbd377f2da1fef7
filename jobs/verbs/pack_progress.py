"""Progress of a packing job: the tasks report to an actor on the driver's node, which the driver polls."""

import os
import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from pipeline.packing.shard_builder import PackProgress, PartResult

REPORT_INTERVAL_S = 1.0


class PackProgressActor:
    """Actor on the driver's node that collects the progress of the tasks."""

    def __init__(self) -> None:
        self._progress: dict[int, PackProgress] = {}
        self._attempt_ids: dict[int, str] = {}
        self._restarted: list[int] = []

    def report(self, part_number: int, attempt_id: str, progress: PackProgress) -> None:
        """Store the total progress of an attempt at a part; called by the tasks, from zero in each attempt."""
        self._progress[part_number] = progress
        if self._attempt_ids.setdefault(part_number, attempt_id) != attempt_id:
            self._attempt_ids[part_number] = attempt_id
            self._restarted.append(part_number)

    def take_reports(self) -> tuple[dict[int, PackProgress], list[int]]:
        """The progress reported since the last call by part number, and the numbers of restarted parts."""
        reports = self._progress, self._restarted
        self._progress, self._restarted = {}, []
        return reports


def make_progress_reporter(part_number: int, progress_actor: Any) -> Callable[[PackProgress], None]:
    """Make a function that adds up progress, and reports the sum at most every REPORT_INTERVAL_S seconds.

    Args:
        part_number: The number of the part.
        progress_actor: Handle of a `PackProgressActor`; None: nothing is reported.
    """
    attempt_id = os.urandom(8).hex()
    total = PackProgress(0, 0, 0)
    last_report = 0.0

    def report_progress(progress: PackProgress) -> None:
        nonlocal total, last_report
        total = add_progress(total, progress)
        now = time.monotonic()
        if progress_actor is not None and now - last_report >= REPORT_INTERVAL_S:
            last_report = now
            progress_actor.report.remote(part_number, attempt_id, total)

    return report_progress


def add_progress(one: PackProgress, other: PackProgress, sign: int = 1) -> PackProgress:
    """The sum of two counts, with `reused` of `other`; with `sign` -1 their difference, with `reused` of `one`."""
    return PackProgress(
        one.videos + sign * other.videos,
        one.refused + sign * other.refused,
        one.source_bytes + sign * other.source_bytes,
        (other if sign > 0 else one).reused,
        tuple(a + sign * b for a, b in zip_longest(one.stored_bytes, other.stored_bytes, fillvalue=0)),
    )


def result_progress(result: PartResult) -> PackProgress:
    """The progress of a finished part, from its result."""
    renditions = (result.rows, *(one.rows for one in result.smaller))
    stored = tuple(sum(row.video_size for row in rows) for rows in renditions)
    refused = len(result.refused)
    return PackProgress(len(result.rows) + refused, refused, result.source_bytes, result.reused, stored)
