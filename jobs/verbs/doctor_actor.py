"""NodeDoctor: the actor that examines one node for `jobs.verbs.doctor`."""

import dataclasses
from collections.abc import Sequence

import ray

from jobs.spec.job import Job
from jobs.spec.upload_paths import enter_working_directory, resolve_upload_paths, upload_root
from pipeline.cli.verbs import LIGHTNING_VERBS
from pipeline.doctor.check_results import CheckResult, run_check
from pipeline.doctor.collective_check import check_collective
from pipeline.doctor.doctor import CheckPlan, check_machine, parse_plan
from pipeline.doctor.machine_checks import installed_versions
from pipeline.doctor.step_check import check_step
from pipeline.doctor.storage_check import missing_probes, remove_probe, write_probe
from pipeline.processes.machine import free_ports

_RUN_VERBS = ("doctor", *LIGHTNING_VERBS)  # verbs whose options are the configuration of a run


class NodeDoctor:
    """Examines the node that it runs on.

    Args:
        job: The job; relative paths start from its folder of submit, as on train workers.
    """

    def __init__(self, job: Job) -> None:
        self._spec = job.spec
        enter_working_directory(job)

    def read_plan(self, args: Sequence[str]) -> tuple[CheckPlan, list[CheckResult]]:
        """Read a command line; return what to examine, and a result about its configuration, if it has one."""
        arguments = resolve_upload_paths(args, upload_root())
        plan, results = parse_plan(arguments[1:] if arguments[0] in _RUN_VERBS else data_option(arguments))
        completed = dataclasses.replace(
            plan,
            storage_path=plan.storage_path or self._spec.storage_path,
            gpu=bool(self._spec.gpus_per_worker),
            num_ranks=None if self._spec.gpus_per_worker else 1,
            wandb_mode=self._spec.wandb_mode,
        )
        return completed, results

    def examine_node(self, plan: CheckPlan, token: str, writer: str) -> tuple[dict[str, str], list[CheckResult]]:
        """Examine the node, and write the probe of `writer` to the storage; return its versions and the results."""

        def write() -> str:
            write_probe(str(plan.storage_path), token, writer)
            return str(plan.storage_path)

        return installed_versions(), [*check_machine(plan), run_check("storage written", write)]

    def missing_probes(self, storage_path: str, token: str, writers: Sequence[str]) -> list[str]:
        """The writers whose probes this node does not see in the storage."""
        return missing_probes(storage_path, token, writers)

    def remove_probe(self, storage_path: str, token: str, writer: str) -> None:
        """Remove this node's probe from the storage."""
        remove_probe(storage_path, token, writer)

    def address(self) -> str:
        """The address of this node, with a free port, for the process group."""
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return f"{host}:{free_ports(host, 1)[0]}"

    def run_collective(
        self, rank: int, local_rank: int, world_size: int, address: str, backend: str, limit_s: float
    ) -> CheckResult:
        """Run one rank of the collective, on the GPU of number `local_rank` where the backend is nccl."""
        arguments = (rank, world_size, address, backend, limit_s, local_rank)
        return run_check("collective", lambda: check_collective(*arguments))

    def run_steps(self, plan: CheckPlan) -> CheckResult:
        """Run two real steps."""
        accelerator = "gpu" if self._spec.gpus_per_worker else "cpu"
        return run_check("one real step", lambda: check_step(plan.config, plan.step_limit_s, accelerator))


def data_option(arguments: Sequence[str]) -> list[str]:
    """The `--data` option and its value of a verb without a configuration, such as `evaluate`; empty if it has none."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--data" and (equals or position + 1 < len(arguments)):
            return [name, value if equals else arguments[position + 1]]
    return []
