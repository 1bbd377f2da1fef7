"""`pack` as a job: the driver reads the lists once, Ray tasks make a shard each, the driver makes the dataset of them.

At most num_workers x cpus_per_worker tasks run at once, with one CPU and one decoding process each: the number of CPUs
that the same spec gives to training. Each video is encoded in one thread, so the shards have the same bytes as on one
machine. Tasks are spread over the nodes; those without a free CPU wait, and nodes that join later take some of them. A
part whose process or node dies is started again elsewhere, at most max_failures times; its partial shard has a
temporary name and is never read.
"""

import secrets
import sys
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from datamodules.storage.atomic_write import remove_partial_files
from jobs.spec.job import Job
from jobs.spec.upload_paths import enter_working_directory, resolve_upload_paths, upload_root
from jobs.storage.run_folder import describe_exception
from jobs.verbs.pack_progress import PackProgressActor, add_progress, result_progress
from jobs.verbs.pack_task import NodeRequirements, PartFailure, node_name, pack_part
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack_options import PackOptions, parse_pack_options
from pipeline.packing.pack_run import PackRun, finish_dataset, prepare_shards
from pipeline.packing.pack_summary import PackMeter, print_summary, show_progress
from pipeline.packing.shard_bounds import DIVISION_NAME
from pipeline.packing.shard_builder import PARTS_FOLDER, PackProgress, PartResult
from pipeline.packing.shard_plan import ShardPart
from pipeline.processes.outcome import ProcessOutcome

POLL_S = 1.0
TOKEN_PREFIX = "job-"
MAX_REFERENCE_CANDIDATES = 10_000  # videos to search for until one is found


def pack_on_cluster(job: Job, args: Sequence[str]) -> ProcessOutcome:
    """Run `python -m pipeline pack ...` over the cluster; called by the driver.

    Args:
        job: The job; relative paths start from its folder of submit.
        args: The command line from the verb on, with its `upload:` paths.

    Returns:
        The outcome `finished`; the summary has been printed.

    Raises:
        ValueError: an option or the input is wrong, as for `pipeline.packing.pack.pack`; or a part failed in a way that
            another attempt would repeat.
    """
    start_time = time.monotonic()
    enter_working_directory(job)
    options = parse_pack_options(resolve_upload_paths(args, upload_root())[1:])
    check_folders(job, options)
    slots = job.spec.num_workers * job.spec.cpus_per_worker
    if options.processes is not None:
        print(f"note: --processes is for one machine; num_workers x cpus_per_worker = {slots} holds here", flush=True)
    with prepare_shards(options) as run, _node_requirements(job, run) as requirements:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        at_once = f"at most {slots} at once; the cluster has {resources.get('CPU', 0):g} CPUs"
        print(f"pack: {len(run.parts)} shards to make or to check, {at_once}", flush=True)
        with show_progress(sum(len(part.records) for part in run.parts)) as meter:
            results = _PartScheduler(run.parts, requirements, slots, meter).run()
        manifest, divided = finish_dataset(run, results)
        for folder in (*run.settings.folders, run.settings.root / PARTS_FOLDER):
            remove_partial_files(folder)  # of attempts that died
    print_summary(manifest, results, run.settings.root, time.monotonic() - start_time, run.refused, divided)
    sys.stdout.flush()
    return ProcessOutcome("finished")


class _PartScheduler:
    """Scheduler of the parts of a run: submits them as Ray tasks, and collects their results.

    Args:
        parts: All parts of the run.
        requirements: The folders and versions that every node must have.
        slots: The largest number of tasks at once.
        meter: The progress display.
    """

    def __init__(
        self, parts: Sequence[ShardPart], requirements: NodeRequirements, slots: int, meter: PackMeter
    ) -> None:
        self._parts = parts
        self._requirements = requirements
        self._slots = slots
        self._meter = meter
        self._part_progress: dict[int, PackProgress] = {}
        self._pending_reports: Any = None
        this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._progress_actor: Any = (
            ray.remote(PackProgressActor).options(num_cpus=0, scheduling_strategy=this_node).remote()
        )
        self._task = ray.remote(pack_part).options(
            num_cpus=1, max_retries=requirements.job.spec.max_failures, scheduling_strategy="SPREAD"
        )

    def run(self) -> list[PartResult]:
        """Make all parts.

        Returns:
            The results, in the order of the parts.

        Raises:
            PackError: A part cannot be made.
        """
        results: dict[int, PartResult] = {}
        while missing := [number for number in range(len(self._parts)) if number not in results]:
            results |= self._run_parts(missing)
            # Two attempts overlap if Ray gave up a node that still worked. They write the same bytes, unless only one
            # of them refused a video: then the shard may be from one attempt and the result from the other.
            for number in missing:
                if not is_complete(self._parts[number], results[number], self._requirements.settings.folders):
                    del results[number]
                    self._count(number, PackProgress(0, 0, 0))
        return [results[number] for number in range(len(self._parts))]

    def _run_parts(self, numbers: Sequence[int]) -> dict[int, PartResult]:
        results = {}
        pending = list(reversed(numbers))
        running: dict[Any, int] = {}
        while pending or running:
            while pending and len(running) < self._slots:
                number = pending.pop()
                arguments = (number, self._parts[number], self._requirements, self._progress_actor)
                running[self._task.remote(*arguments)] = number
            finished, _ = ray.wait(list(running), timeout=POLL_S)
            self._count_reports(set(running.values()))
            for reference in finished:
                number = running.pop(reference)
                results[number] = result = self._fetch(reference, number)
                self._count(number, result_progress(result))
        for _ in range(2):  # the request under way, and one more for later reports
            self._count_reports(set(), wait_s=POLL_S)
        return results

    def _fetch(self, reference: Any, number: int) -> PartResult:
        try:
            result: PartResult | PartFailure = ray.get(reference)
        except RayTaskError:
            raise  # unexpected: with its traceback
        except RayError as error:
            max_failures = self._requirements.job.spec.max_failures
            attempts = "" if max_failures < 0 else f" {max_failures + 1} times"
            raise PackError(
                f"{self._parts[number].shard} was given up: the process or the node that made it died{attempts} "
                f"({describe_exception(error)}); the same submit again keeps the finished shards"
            ) from None
        if isinstance(result, PartFailure):
            raise PackError(result.message)
        return result

    def _count_reports(self, running: Set[int], wait_s: float = 0) -> None:
        """Count the progress that the tasks reported; if the actor is lost, parts are counted when they end."""
        self._pending_reports = self._pending_reports or self._progress_actor.take_reports.remote()
        if not ray.wait([self._pending_reports], timeout=wait_s)[0]:
            return
        reference, self._pending_reports = self._pending_reports, None
        with suppress(RayError):
            progress, restarted = ray.get(reference)
            for number in progress.keys() & running:  # reports of ended tasks may arrive late
                self._count(number, progress[number])
            for number in restarted:
                print(f"pack: {self._parts[number].shard} was begun again: its process or node was lost", flush=True)

    def _count(self, number: int, progress: PackProgress) -> None:
        self._meter.add(add_progress(progress, self._part_progress.get(number, PackProgress(0, 0, 0)), -1))
        self._part_progress[number] = progress


@contextmanager
def _node_requirements(job: Job, run: PackRun) -> Iterator[NodeRequirements]:
    """Write a token to the output folder, by which other nodes check that they see the same folder; removed on exit."""
    reference_video = _find_reference_video(run)
    folder = run.settings.root / PARTS_FOLDER
    for leftover in folder.glob(f"{TOKEN_PREFIX}*"):  # of a driver that was killed
        leftover.unlink(missing_ok=True)
    name = TOKEN_PREFIX + secrets.token_hex(8)
    (folder / name).write_text(name, encoding="utf-8")
    try:
        yield NodeRequirements(job, run.settings, name, reference_video, run.settings.versions)
    finally:
        (folder / name).unlink(missing_ok=True)


def _find_reference_video(run: PackRun) -> str:
    """The path of the first video, a file or a folder of images, that this node sees; PackError if it sees none."""
    records = [record for part in run.parts for record in part.records][:MAX_REFERENCE_CANDIDATES]
    for record in records:
        if Path(record.path).exists():
            return record.path
    folder = run.settings.root / PARTS_FOLDER
    if not list(folder.glob("*.tar.json")):
        (folder / DIVISION_NAME).unlink(missing_ok=True)  # it was computed without the sizes of the videos
    raise PackError(
        f"videos={run.settings.videos}: node {node_name()} sees none of the {len(records)} videos that it looked for "
        f"(the first: {records[0].path}); correct --videos or the lists, or give a folder that all nodes share"
    )


def check_folders(job: Job, options: PackOptions) -> None:
    """Raise PackError for a relative path if this node does not have the folder of submit."""
    if Path(job.origin).is_dir():
        return
    lists = options.annotations
    videos = options.videos or (lists[0].parent if lists else None)
    for name, path in (("out", options.out), ("videos", videos)):
        if path is not None and not path.is_absolute():
            raise PackError(
                f"{name}={path}: node {node_name()} has no folder {job.origin} to take a relative path from; give "
                f"--{name} as a whole path on a file system that all nodes share"
            )


def is_complete(part: ShardPart, result: PartResult, folders: Sequence[Path]) -> bool:
    """Whether a result accounts for every video of its part, and its shards exist with the recorded sizes."""
    refused = {refusal.key for refusal in result.refused}
    kept = {record.key for record in part.records} - refused
    shards = [] if result.shard is None else [result.shard, *(one.shard for one in result.smaller)]
    renditions = [result.rows, *(one.rows for one in result.smaller)]
    if any({row.key for row in rows} != kept or len(rows) != len(kept) for rows in renditions):
        return False
    if len(kept) + len(result.refused) != len(part.records):
        return False
    try:
        sizes = [(folder / shard.name).stat().st_size for folder, shard in zip(folders, shards, strict=bool(shards))]
    except (OSError, ValueError):
        return False
    return sizes == [shard.bytes for shard in shards]
